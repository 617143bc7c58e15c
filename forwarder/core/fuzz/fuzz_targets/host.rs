//! Any bytes to the reader of what names a server, HTTP above all.

#![no_main]

// One body for the fuzzer and for the test that replays its corpus.
#[expect(dead_code, reason = "each target checks one of its readers")]
#[path = "../preamble_input.rs"]
mod preamble_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| preamble_input::check_server_name(input));
