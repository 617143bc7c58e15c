//! Any rules asked about any client.

#![no_main]

// One body for the fuzzer and for the test that replays its corpus.
#[path = "../rules_input.rs"]
mod rules_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| rules_input::check(input));
