//! Replays the corpus of the frame fuzzer. `cargo fuzz` itself needs a nightly compiler; what it
//! found once is kept found here.

#[path = "../fuzz/frame_input.rs"]
mod frame_input;

use std::path::Path;

#[test]
fn every_input_of_the_corpus_is_decoded_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    let mut inputs = 0;
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        // Shown with a failure only.
        println!("{}", path.display());
        frame_input::check(&input);
        inputs += 1;
    }
    assert!(inputs >= 12, "{} holds only {inputs} inputs", corpus.display());
}

#[test]
fn cuts_and_flips_of_the_corpus_are_decoded_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    for entry in std::fs::read_dir(&corpus).unwrap() {
        let input = std::fs::read(entry.unwrap().path()).unwrap();
        for at in 0..input.len().min(256) {
            frame_input::check(&input[..at]);
            let mut flipped = input.clone();
            flipped[at] ^= 1 << (at % 8);
            frame_input::check(&flipped);
        }
    }
}
