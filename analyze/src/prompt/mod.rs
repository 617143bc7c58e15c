//! The prompt of `analyze sql`: one statement after the other, each run as if it had been typed as
//! an argument.
//!
//! Errors do not end the session. Ctrl-C gives up what is being typed, or the statement that runs;
//! Ctrl-D ends. Nothing is kept between statements: each sees the tables as they are then.

mod command;
mod history;
mod input;
mod words;

use std::io::{self, Write as _};
use std::path::Path;

use rustix::termios::tcgetattr;
use rustyline::error::ReadlineError;
use rustyline::history::FileHistory;
use rustyline::{Config, Editor};

use crate::cli::{OutputArgs, SqlArgs};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::sandbox::{self, Limits, Question};
use crate::{patiently, scratch};

use command::{Command, Next};
use words::Words;

const PROMPT: &str = "weir> ";

/// Reads and runs statements until Ctrl-D or `\q`.
///
/// # Errors
/// 64 with `-o`, whose file would be that of the last statement; 74 when the terminal fails.
pub fn run(args: &SqlArgs, limits: Limits, data: &Path) -> Result<(), Failure> {
    if args.output.output.is_some() {
        return Err(Failure::Usage(
            "-o takes the answer of one statement; give the statement as an argument".to_owned(),
        ));
    }
    // Before the first statement is typed.
    Dataset::check_format(data)?;
    let failed = |error: ReadlineError| Failure::Io(format!("cannot read the terminal: {error}"));
    scratch::outlive_interrupts();
    if let Ok(modes) = tcgetattr(io::stdin()) {
        scratch::restore_terminal(modes);
    }
    let (mut editor, mut session) = open(args, limits, data).map_err(failed)?;
    let history = history::load(&mut editor);
    say(&format!(
        "Weir {}, {}: end a statement with ; and type \\? for help, Ctrl-D to end",
        env!("CARGO_PKG_VERSION"),
        data.display()
    ))?;
    loop {
        match editor.readline(PROMPT) {
            Ok(typed) => {
                if let Some(path) = &history {
                    history::keep(&mut editor, path, &typed);
                }
                if session.take(&typed)? == Next::End {
                    return Ok(());
                }
            }
            // What was typed is given up.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(failed(error)),
        }
    }
}

type Lines = Editor<Words, FileHistory>;

fn open<'a>(
    args: &'a SqlArgs,
    limits: Limits,
    data: &'a Path,
) -> Result<(Lines, Session<'a>), ReadlineError> {
    let config = Config::builder()
        .max_history_size(history::MAX_ENTRIES)?
        .history_ignore_dups(true)?
        .history_ignore_space(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Words));
    let output = OutputArgs { format: args.output.format, output: None };
    Ok((editor, Session { data, zone: &args.tz, output, limits }))
}

/// What holds for every statement of the session.
#[derive(Debug)]
struct Session<'a> {
    data: &'a Path,
    zone: &'a str,
    output: OutputArgs,
    limits: Limits,
}

impl Session<'_> {
    /// Does what was typed. Its failure is told and is none of the session's.
    fn take(&mut self, typed: &str) -> Result<Next, Failure> {
        if input::is_blank(typed) {
            return Ok(Next::Statement);
        }
        if let Some(command) = Command::read(typed) {
            return command.run(&mut self.output);
        }
        let question = Question {
            statement: typed,
            zone: self.zone,
            output: &self.output,
            limits: self.limits,
        };
        let answered = patiently(self.data, || sandbox::ask(&question, &Dataset::open(self.data)?));
        match answered {
            Ok(true) => {}
            Ok(false) => tell("cancelled"),
            Err(failure) => tell(&format!("analyze: {failure}")),
        }
        Ok(Next::Statement)
    }
}

/// On the screen, where answers are.
fn say(text: &str) -> Result<(), Failure> {
    writeln!(io::stdout(), "{text}").map_err(|error| Failure::writing("standard output", &error))
}

/// On stderr, at the beginning of a line: a spinner or half an answer may stand there.
fn tell(text: &str) {
    // Who closed stderr does not want to know.
    drop(writeln!(io::stderr(), "\r\x1b[K{text}"));
}
