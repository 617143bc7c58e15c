//! The `analyze` program.

fn main() {}
