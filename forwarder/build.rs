//! Notes when the program is built: a wall clock that shows an earlier time is wrong.

use std::env;
use std::time::SystemTime;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    // Packagers give it, so that the same sources make the same program.
    let given = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse::<u64>().ok());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    println!("cargo::rustc-env=BUILT_AT={}", given.unwrap_or(now.as_secs()));
}
