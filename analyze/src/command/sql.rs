//! `analyze sql`

use std::io::{self, IsTerminal as _, Read as _};
use std::path::Path;
use std::sync::OnceLock;

use super::Verdict;
use crate::cli::SqlArgs;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period;
use crate::prompt;
use crate::sandbox::{self, Limits, MAX_STATEMENT, Question};

pub(super) fn run(args: &SqlArgs, data: &Path) -> Result<Verdict, Failure> {
    period::zone(&args.tz)?;
    let limits = limits(args);
    let statement = match &args.statement {
        Some(statement) => statement,
        None if io::stdin().is_terminal() && io::stdout().is_terminal() => {
            return prompt::run(args, limits, data).map(|()| Verdict::Fine);
        }
        None => from_stdin()?,
    };
    let question = Question { statement, zone: &args.tz, output: &args.output, limits };
    sandbox::ask(&question, &Dataset::open(data)?)?;
    Ok(Verdict::Fine)
}

/// What a statement may use.
fn limits(args: &SqlArgs) -> Limits {
    let memory = args.memory.unwrap_or_else(sandbox::default_memory);
    Limits { memory, time: Some(args.timeout).filter(|time| !time.is_zero()) }
}

/// The statement on standard input, which is there once, however often the command is asked.
fn from_stdin() -> Result<&'static str, Failure> {
    static STATEMENT: OnceLock<String> = OnceLock::new();
    if let Some(statement) = STATEMENT.get() {
        return Ok(statement);
    }
    let mut statement = String::new();
    io::stdin()
        .lock()
        // One more, so that a longer one is refused and not cut.
        .take(MAX_STATEMENT as u64 + 1)
        .read_to_string(&mut statement)
        .map_err(|error| Failure::Io(format!("cannot read the statement from stdin: {error}")))?;
    Ok(STATEMENT.get_or_init(|| statement))
}
