//! The `analyze` program: arguments in, exit code out.

use std::io::{self, Write as _};
use std::process::ExitCode;

use analyze::cli::Arguments;
use analyze::command::Verdict;
use analyze::failure::Failure;
use analyze::{run, scratch};
use clap::Parser as _;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let code = if error.use_stderr() { 64 } else { 0 };
            // Help for a reader that has gone is no fault.
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let ran =
        scratch::clean_up_on_signals().and_then(|()| run(&arguments.command, &arguments.data()));
    match ran {
        Ok(Verdict::Fine) => ExitCode::SUCCESS,
        Ok(Verdict::Fault) => ExitCode::FAILURE,
        Err(failure) => {
            if !matches!(failure, Failure::ReaderGone) {
                // Without stderr the exit code has to say it alone.
                drop(writeln!(io::stderr().lock(), "analyze: {failure}"));
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
