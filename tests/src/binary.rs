//! Finding what was built.

use std::env;
use std::path::PathBuf;

/// The path of one of the workspace's binaries: it lies in the directory of the program that asks,
/// or, when that is a test, one above.
///
/// # Panics
/// The binary was not built.
pub fn path(name: &str) -> PathBuf {
    beside(name).unwrap_or_else(|| {
        panic!("{name} is not beside {}: run cargo build --workspace first", own().display())
    })
}

/// The same for one that need not be there.
pub fn beside(name: &str) -> Option<PathBuf> {
    own().ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|at| at.is_file())
}

fn own() -> PathBuf {
    env::current_exe().expect("the system knows which program this is")
}
