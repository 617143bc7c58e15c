//! Any bytes to the frame decoder, and what it takes for frames to the messages in them.

#![no_main]

// One body for the fuzzer and for the test that replays its corpus.
#[path = "../frame_input.rs"]
mod frame_input;

libfuzzer_sys::fuzz_target!(|input: &[u8]| frame_input::check(input));
