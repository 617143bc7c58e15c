//! Any bytes to the converter of Barefoot's configuration.

#![no_main]

// One body for the fuzzer and for the test that replays its corpus.
#[path = "../convert_input.rs"]
mod convert_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| convert_input::check(input));
