//! What the prompt takes besides SQL, in the words of psql and of DuckDB's own shell.

use schemas::table::TABLES;

use super::say;
use crate::cli::OutputArgs;
use crate::database;
use crate::failure::Failure;

const HELP: &str = "\
\\d, .tables           the views
\\d VIEW               the columns of a view
\\f FORMAT, .mode      show answers as table, csv, json, ndjson or markdown
\\?, .help             this text
\\q, .quit, Ctrl-D     end
STATEMENT;            one SELECT, over as many lines as it takes; Tab completes
Ctrl-C                give up the line, or the statement that runs";

/// What comes after a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// The next statement.
    Statement,
    /// The end of the session.
    End,
}

/// A command of the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Views,
    Columns(&'a str),
    Format(&'a str),
    Help,
    Quit,
    Unknown(&'a str),
}

impl<'a> Command<'a> {
    /// The command that was typed, if it is one and not SQL.
    pub(super) fn read(typed: &'a str) -> Option<Self> {
        let typed = typed.trim().trim_end_matches(';').trim_end();
        if !is_command(typed) {
            // What most people try first.
            return match typed {
                "quit" | "exit" => Some(Self::Quit),
                "help" => Some(Self::Help),
                _ => None,
            };
        }
        let (name, argument) = typed.split_once(char::is_whitespace).unwrap_or((typed, ""));
        Some(match (name, argument.trim()) {
            ("\\d" | "\\dt" | "\\dv" | ".tables" | ".schema", "") => Self::Views,
            ("\\d" | ".tables" | ".schema", view) => Self::Columns(view),
            ("\\f" | ".mode", format) if !format.is_empty() => Self::Format(format),
            ("\\?" | "\\h" | ".help", _) => Self::Help,
            ("\\q" | ".quit" | ".exit", _) => Self::Quit,
            _ => Self::Unknown(typed),
        })
    }

    /// Does it; what is wrong with it is said and ends nothing.
    pub(super) fn run(&self, output: &mut OutputArgs) -> Result<Next, Failure> {
        match *self {
            Self::Views => {
                for table in TABLES {
                    say(table.name)?;
                }
            }
            Self::Columns(view) => match TABLES.iter().find(|table| table.name == view) {
                Some(table) => {
                    for (column, kind) in database::columns(table) {
                        say(&format!("{column:24}{kind}"))?;
                    }
                }
                None => say(&format!("there is no view {view:?}; \\d lists them"))?,
            },
            Self::Format(format) => match format.parse() {
                Ok(format) => output.format = format,
                Err(help) => say(&help)?,
            },
            Self::Help => say(HELP)?,
            Self::Quit => return Ok(Next::End),
            Self::Unknown(typed) => say(&format!("{typed:?} is no command; \\? lists them"))?,
        }
        Ok(Next::Statement)
    }
}

/// Whether a line is for the prompt and not SQL, however it goes on.
pub(super) fn is_command(line: &str) -> bool {
    line.starts_with(['\\', '.'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_sql() {
        assert_eq!(Command::read("\\d usage"), Some(Command::Columns("usage")));
        assert_eq!(Command::read(" .tables ;"), Some(Command::Views));
        assert_eq!(Command::read("\\f csv"), Some(Command::Format("csv")));
        assert_eq!(Command::read("exit;"), Some(Command::Quit));
        assert_eq!(Command::read("\\frobnicate"), Some(Command::Unknown("\\frobnicate")));
        assert_eq!(Command::read("select '\\d';"), None);
        assert_eq!(Command::read("from help;"), None);
    }
}
