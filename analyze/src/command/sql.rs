//! `analyze sql`

use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;

use super::Verdict;
use crate::cli::SqlArgs;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period;
use crate::progress::Progress;
use crate::report::{self, Style};

/// Longest statement that is read from standard input, in bytes.
const MAX_STATEMENT: u64 = 1024 * 1024;

pub(super) fn run(args: &SqlArgs, data: &Path) -> Result<Verdict, Failure> {
    let zone = period::zone(&args.tz)?;
    let statement = match &args.statement {
        Some(statement) => statement.clone(),
        None => from_stdin()?,
    };
    let dataset = Dataset::open(data)?;
    let progress = Progress::start("running your statement");
    let database = Database::open_all(&dataset)?;
    only_one_select(&database.parse(&statement)?)?;
    let rows = database.stream("run your statement", &statement).map_err(of_the_reader)?;
    drop(progress);
    let style = Style { output: &args.output, zone: &zone, basis: None };
    report::write(rows, &style).map_err(of_the_reader)?;
    Ok(Verdict::Fine)
}

/// What DuckDB does not like about the reader's statement is no bug of ours.
fn of_the_reader(failure: Failure) -> Failure {
    match failure {
        Failure::Internal(text) => Failure::Usage(text),
        other => other,
    }
}

fn from_stdin() -> Result<String, Failure> {
    let mut statement = String::new();
    io::stdin()
        .lock()
        .take(MAX_STATEMENT + 1)
        .read_to_string(&mut statement)
        .map_err(|error| Failure::Io(format!("cannot read the statement from stdin: {error}")))?;
    if statement.len() as u64 > MAX_STATEMENT {
        return Err(Failure::Usage(format!(
            "the statement is longer than {MAX_STATEMENT} bytes; shorten it"
        )));
    }
    Ok(statement)
}

/// Refuses what `parsed`, the parser's own account of a statement, does not call one SELECT.
fn only_one_select(parsed: &str) -> Result<(), Failure> {
    let parsed: Value = serde_json::from_str(parsed).map_err(|error| {
        Failure::Internal(format!("cannot understand what DuckDB's parser says: {error}"))
    })?;
    if parsed["error"] != Value::Bool(false) {
        let text = parsed["error_message"].as_str().unwrap_or_default();
        let text = match parsed["error_type"].as_str() {
            Some("not implemented") => {
                "sql takes one SELECT and nothing that writes, attaches, installs or sets; use `-o FILE --format csv` to keep the answer".to_owned()
            }
            _ => format!("the statement is not SQL that DuckDB understands: {text}"),
        };
        return Err(Failure::Usage(text));
    }
    match parsed["statements"].as_array().map_or(0, Vec::len) {
        1 => Ok(()),
        0 => Err(Failure::Usage("there is no statement to run".to_owned())),
        count => Err(Failure::Usage(format!("sql takes one statement, these are {count}"))),
    }
}
