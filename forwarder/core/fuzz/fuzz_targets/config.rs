//! Any bytes to the reader of the configuration.

#![no_main]

// One body for the fuzzer and for the test that replays its corpus.
#[path = "../config_input.rs"]
mod config_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| config_input::check(input));
