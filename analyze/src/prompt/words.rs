//! What the editor knows of SQL: where a statement ends, and how a word may go on.

use rustyline::completion::Completer;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Helper, Result};
use schemas::table::{TABLES, Table};

use super::command::is_command;
use super::input;
use crate::database;

/// Keywords and functions of questions about the tables; DuckDB has many more.
const SQL: [&str; 62] = [
    "all",
    "and",
    "any_value",
    "as",
    "asc",
    "avg",
    "between",
    "by",
    "case",
    "cast",
    "coalesce",
    "count",
    "cross",
    "date_trunc",
    "day",
    "desc",
    "describe",
    "distinct",
    "else",
    "end",
    "except",
    "exclude",
    "exists",
    "false",
    "filter",
    "from",
    "full",
    "group",
    "having",
    "hour",
    "in",
    "inner",
    "intersect",
    "interval",
    "is",
    "join",
    "left",
    "like",
    "limit",
    "max",
    "min",
    "month",
    "not",
    "null",
    "offset",
    "on",
    "or",
    "order",
    "over",
    "partition",
    "quantile_disc",
    "right",
    "select",
    "strftime",
    "sum",
    "then",
    "true",
    "union",
    "using",
    "when",
    "where",
    "with",
];

/// The editor's helper.
#[derive(Debug)]
pub(super) struct Words;

impl Helper for Words {}
impl Highlighter for Words {}

impl Hinter for Words {
    type Hint = String;
}

impl Validator for Words {
    /// Enter begins another line until the statement is complete.
    fn validate(&self, context: &mut ValidationContext<'_>) -> Result<ValidationResult> {
        let typed = context.input();
        let single =
            is_command(typed.trim_start()) || matches!(typed.trim(), "quit" | "exit" | "help");
        let done = single || typed.trim().is_empty() || input::is_complete(typed);
        Ok(if done { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for Words {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or_default();
        let of_word = |c: char| c.is_alphanumeric() || c == '_';
        let begun = before.trim_end_matches(of_word).len();
        Ok((begun, candidates(line, &before[..begun], &before[begun..])))
    }
}

/// The words that begin as `begun` does, after `before`, in a statement `line`.
fn candidates(line: &str, before: &str, begun: &str) -> Vec<String> {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let words = |text: &str| text.split(|c| !of_word(c)).map(str::to_lowercase).collect::<Vec<_>>();
    let table = |name: &str| TABLES.into_iter().find(|table| table.name == name);
    let columns =
        |table: &'static Table| database::columns(table).map(|(name, _)| name).collect::<Vec<_>>();
    let mut found: Vec<&str> = if is_command(before.trim_start()) {
        TABLES.iter().map(|table| table.name).collect()
    } else if let Some(owner) = before.strip_suffix('.') {
        let owner = words(owner).pop().unwrap_or_default();
        table(&owner).map(columns).unwrap_or_default()
    } else {
        let named: Vec<&Table> = words(line).iter().filter_map(|word| table(word)).collect();
        let asked = if named.is_empty() { TABLES.to_vec() } else { named };
        let names = TABLES.iter().map(|table| table.name);
        asked.into_iter().flat_map(columns).chain(names).chain(SQL).collect()
    };
    let lower = begun.to_lowercase();
    found.retain(|word| word.starts_with(&lower));
    found.sort_unstable();
    found.dedup();
    let shout = begun.chars().any(char::is_uppercase) && begun == begun.to_uppercase();
    let spell = |word: &str| match shout && SQL.contains(&word) {
        true => word.to_uppercase(),
        false => word.to_owned(),
    };
    found.into_iter().map(spell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(line: &str) -> Vec<String> {
        let begun = line.trim_end_matches(|c: char| c.is_alphanumeric() || c == '_').len();
        candidates(line, &line[..begun], &line[begun..])
    }

    #[test]
    fn words_go_on_as_views_columns_and_keywords() {
        assert_eq!(complete("from sess"), ["session", "session_no", "sessions"]);
        assert_eq!(complete("sel"), ["select"]);
        assert_eq!(complete("SEL"), ["SELECT"]);
        assert_eq!(complete("select slots.op"), ["open_sessions"]);
        assert_eq!(complete("from denied where rea"), ["reason"]);
        assert_eq!(complete("from denied where bytes_d"), Vec::<String>::new());
        assert_eq!(complete("\\d us"), ["usage"]);
        assert_eq!(complete("from nothing.by"), Vec::<String>::new());
    }
}
