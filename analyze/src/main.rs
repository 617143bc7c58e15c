//! The `analyze` program: arguments in, exit code out.

use std::env;
use std::io::{self, Write as _};
use std::process::ExitCode;

use analyze::cli::Arguments;
use analyze::command::Verdict;
use analyze::failure::Failure;
use analyze::{run, sandbox, scratch};
use clap::Parser as _;
use schemas::exit::Exit;

fn main() -> ExitCode {
    if sandbox::is_asked_for(env::args_os().nth(1).as_deref()) {
        return sandbox::serve().into();
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Fine };
            // Help for a reader that has gone is no fault.
            drop(error.print());
            return exit.into();
        }
    };
    let ran =
        scratch::clean_up_on_signals().and_then(|()| run(&arguments.command, &arguments.data()));
    match ran {
        Ok(Verdict::Fine) => Exit::Fine.into(),
        Ok(Verdict::Fault) => Exit::No.into(),
        Err(failure) => {
            if !matches!(failure, Failure::ReaderGone) {
                // Without stderr the exit code has to say it alone.
                drop(writeln!(io::stderr().lock(), "analyze: {failure}"));
            }
            failure.exit().into()
        }
    }
}
