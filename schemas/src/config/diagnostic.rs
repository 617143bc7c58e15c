//! How the faults of a configuration file are shown to its author.
//!
//! ```text
//! forwarder.toml:3:9: "300" is not a duration: its unit is missing
//!   3 | slot  = "300"
//!     |         ^^^^^
//!     help: write a whole number and a unit: ms, s, m, h or d, as in "300ms" or "1h"
//! ```

use std::fmt;
use std::ops::Range;

/// Most diagnostics kept of one file; the rest is counted.
const MAX_KEPT: usize = 100;

/// Longest piece of a line shown around a fault, in characters.
const MAX_EXCERPT: usize = 160;

/// What is to be done about a diagnostic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// The file is refused.
    Fault,
    /// The file is taken, but its author may have meant something else.
    Warning,
}

/// One thing that is wrong, or may be, in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Fault or warning.
    pub level: Level,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
    /// Where; `None` when something is missing from the file as a whole.
    pub place: Option<Place>,
    /// The file, when it is another one, which the configuration names.
    pub file: Option<String>,
}

/// A place in a file, with the line that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, or the piece of it around the fault.
    excerpt: String,
    /// Characters of the excerpt before the fault.
    indent: usize,
    /// Characters under which carets stand; at least 1.
    width: usize,
}

impl Place {
    /// The place of the bytes `span` of `source`; only their first line is marked.
    pub fn find(source: &str, span: Range<usize>) -> Self {
        let start = floor_char_boundary(source, span.start);
        let line_start = source[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = source[start..].find('\n').map_or(source.len(), |at| start + at);
        let end = floor_char_boundary(source, span.end).clamp(start, line_end);
        let column = source[line_start..start].chars().count();
        let width = source[start..end].chars().count().max(1);
        let skip = (column + width.min(MAX_EXCERPT / 2)).saturating_sub(MAX_EXCERPT);
        let excerpt: String = source[line_start..line_end]
            .trim_end_matches('\r')
            .chars()
            .skip(skip)
            .take(MAX_EXCERPT)
            .map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c })
            .collect();
        let indent = column - skip;
        Self {
            line: source[..start].matches('\n').count() + 1,
            column: column + 1,
            width: width.min(MAX_EXCERPT - indent).max(1),
            excerpt,
            indent,
        }
    }

    fn show(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = self.line.to_string();
        let blank = " ".repeat(number.len());
        // Tabs stay tabs, so that the carets stand under the text however wide a tab is shown.
        let tab_or_space = |c| if c == '\t' { '\t' } else { ' ' };
        let mut indent: String = self.excerpt.chars().take(self.indent).map(tab_or_space).collect();
        indent.extend(std::iter::repeat_n(' ', self.indent - indent.chars().count()));
        writeln!(f, "  {number} | {}", self.excerpt)?;
        writeln!(f, "  {blank} | {indent}{}", "^".repeat(self.width))
    }
}

/// The boundary of a character at or before `at`.
fn floor_char_boundary(source: &str, at: usize) -> usize {
    (0..=at.min(source.len())).rev().find(|&at| source.is_char_boundary(at)).unwrap_or(0)
}

/// All that was found in one file, in the order of its lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostics {
    /// The file's name as it was given.
    pub file: String,
    /// What was found, at most a hundred.
    pub list: Vec<Diagnostic>,
    /// How much was found besides.
    pub more: usize,
}

impl Diagnostics {
    /// Nothing found, so far.
    pub fn none(file: &str) -> Self {
        Self { file: file.to_owned(), list: Vec::new(), more: 0 }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them is a fault.
    pub fn has_faults(&self) -> bool {
        self.list.iter().any(|diagnostic| diagnostic.level == Level::Fault)
    }

    /// One line each, `file:line:column: message`, for logs.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.list.iter().map(|diagnostic| self.headline(diagnostic))
    }

    fn headline(&self, diagnostic: &Diagnostic) -> String {
        let place = diagnostic
            .place
            .as_ref()
            .map(|place| format!("{}:{}:", place.line, place.column))
            .unwrap_or_default();
        let level = match diagnostic.level {
            Level::Fault => "",
            Level::Warning => "warning: ",
        };
        let file = diagnostic.file.as_ref().unwrap_or(&self.file);
        format!("{file}:{place} {level}{}", diagnostic.message)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for diagnostic in &self.list {
            writeln!(f, "{}", self.headline(diagnostic))?;
            if let Some(place) = &diagnostic.place {
                place.show(f)?;
            }
            if let Some(help) = &diagnostic.help {
                writeln!(f, "    help: {help}")?;
            }
        }
        match self.more {
            0 => Ok(()),
            more => writeln!(f, "{}: and {more} more", self.file),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// What a value's reader says about a text that it does not take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

impl Refusal {
    /// A refusal; an empty `help` is not shown.
    pub fn new(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { message: message.into(), help: help.into() }
    }

    /// The refusal of something that the design names and this version does not do.
    pub fn later(what: impl fmt::Display, help: impl Into<String>) -> Self {
        Self::new(format!("{what} is not supported by this version yet"), help)
    }
}

/// Collects what is found while a file is read.
#[derive(Debug)]
pub struct Findings<'s> {
    source: &'s str,
    /// Where each line begins.
    lines: Vec<usize>,
    list: Vec<(usize, Diagnostic)>,
    more: usize,
}

impl<'s> Findings<'s> {
    /// Nothing found in `source`, so far.
    pub fn new(source: &'s str) -> Self {
        let begins = source.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(begins).collect();
        Self { source, lines, list: Vec::new(), more: 0 }
    }

    /// A fault of the bytes `span`.
    pub fn fault(&mut self, span: Range<usize>, refusal: Refusal) {
        self.push(Level::Fault, Some(span), refusal);
    }

    /// A fault of the file as a whole.
    pub fn fault_of_file(&mut self, refusal: Refusal) {
        self.push(Level::Fault, None, refusal);
    }

    /// A warning about the bytes `span`.
    pub fn warning(&mut self, span: Range<usize>, refusal: Refusal) {
        self.push(Level::Warning, Some(span), refusal);
    }

    /// The line a span begins in, for sentences that point to another place.
    pub fn line_of(&self, span: Range<usize>) -> usize {
        self.lines.partition_point(|begin| *begin <= span.start)
    }

    /// Whether something was already found in the line a span begins in.
    pub fn marks_line(&self, line: usize) -> bool {
        let own = self.list.iter().filter(|(_, found)| found.file.is_none());
        own.filter_map(|(_, found)| found.place.as_ref()).any(|place| place.line == line)
    }

    /// Whether a fault was found.
    pub fn has_faults(&self) -> bool {
        self.list.iter().any(|(_, found)| found.level == Level::Fault)
    }

    /// Takes in what was found in another file, which is named at the bytes `named_at`.
    pub fn take_in(&mut self, named_at: Range<usize>, other: Diagnostics) {
        for mut diagnostic in other.list {
            diagnostic.file.get_or_insert_with(|| other.file.clone());
            self.keep(named_at.start, diagnostic.level, || diagnostic);
        }
        self.more += other.more;
    }

    fn push(&mut self, level: Level, span: Option<Range<usize>>, refusal: Refusal) {
        let offset = span.as_ref().map_or(usize::MAX, |span| span.start);
        let source = self.source;
        self.keep(offset, level, || Diagnostic {
            level,
            message: refusal.message,
            help: (!refusal.help.is_empty()).then_some(refusal.help),
            place: span.map(|span| Place::find(source, span)),
            file: None,
        });
    }

    fn keep(&mut self, offset: usize, level: Level, diagnostic: impl FnOnce() -> Diagnostic) {
        // A fault among warnings must be kept, or the file would be taken.
        let decides = level == Level::Fault && !self.has_faults();
        if self.list.len() >= MAX_KEPT && !decides {
            self.more += 1;
            return;
        }
        self.list.push((offset, diagnostic()));
    }

    /// Everything found, in the order of the lines; what concerns the whole file comes last.
    pub fn into_diagnostics(mut self, file: &str) -> Diagnostics {
        self.list.sort_by_key(|(offset, _)| *offset);
        let list = self.list.into_iter().map(|(_, diagnostic)| diagnostic).collect();
        Diagnostics { file: file.to_owned(), list, more: self.more }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn carets_stand_under_the_fault_behind_tabs_and_wide_characters() {
        let source = "a = 1\n\tüb = \"x\"\n";
        let at = source.find("\"x\"").unwrap();
        let mut findings = Findings::new(source);
        findings.fault(at..at + 3, Refusal::new("wrong", ""));
        let shown = findings.into_diagnostics("f.toml").to_string();
        assert_eq!(shown, "f.toml:2:7: wrong\n  2 | \tüb = \"x\"\n    | \t     ^^^\n");
    }

    #[test]
    fn of_many_faults_the_first_are_kept_and_the_others_counted() {
        let source = "x\n".repeat(300);
        let mut findings = Findings::new(&source);
        for line in 0..150 {
            assert_eq!(findings.line_of(2 * line..2 * line + 1), line + 1);
            findings.warning(2 * line..2 * line + 1, Refusal::new("doubtful", ""));
        }
        assert!(!findings.has_faults());
        findings.fault(0..1, Refusal::new("wrong", ""));
        let found = findings.into_diagnostics("f");
        assert!(found.has_faults());
        assert_eq!((found.list.len(), found.more), (101, 50));
        assert!(found.to_string().ends_with("f: and 50 more\n"));
    }

    #[test]
    fn what_is_found_in_a_named_file_stands_where_it_is_named() {
        let mut inner = Findings::new("10.0.0.0/33\n");
        inner.fault(0..11, Refusal::new("wrong", ""));
        let mut findings = Findings::new("a\nb\nc\n");
        findings.fault(4..5, Refusal::new("wrong c", ""));
        findings.take_in(2..3, inner.into_diagnostics("nets.txt"));
        findings.fault(0..1, Refusal::new("wrong a", ""));
        assert!(!findings.marks_line(2));
        let lines: Vec<String> = findings.into_diagnostics("f").lines().collect();
        assert_eq!(lines, ["f:1:1: wrong a", "nets.txt:1:1: wrong", "f:3:1: wrong c"]);
    }

    #[test]
    fn a_terminal_command_in_the_file_is_not_passed_on() {
        let mut findings = Findings::new("a = \"\u{1b}[2J\"");
        findings.fault(4..10, Refusal::new("wrong", ""));
        assert!(!findings.into_diagnostics("f").to_string().contains('\u{1b}'));
    }

    proptest! {
        #[test]
        fn any_span_of_any_text_has_a_place(source in ".{0,400}", from in 0usize..500, len in 0usize..500) {
            let place = Place::find(&source, from..from + len);
            prop_assert!(place.width >= 1 && place.indent <= MAX_EXCERPT);
            prop_assert!(place.excerpt.chars().count() <= MAX_EXCERPT);
            let mut findings = Findings::new(&source);
            findings.fault(from..from + len, Refusal::new("wrong", ""));
            findings.into_diagnostics("f").to_string();
        }
    }
}
