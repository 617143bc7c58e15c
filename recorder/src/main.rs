//! The `recorder` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    recorder::cli::main()
}
