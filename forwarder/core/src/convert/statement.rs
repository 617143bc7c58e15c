//! The grammar of `barefootd.conf`: `key: value …` statements, some of them in blocks in braces.
//! Lines do not matter, but for comments, which run from a `#` to the end of theirs.

use std::ops::Range;

use schemas::config::{Findings, Refusal};

/// A word with its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word<'s> {
    pub(super) text: &'s str,
    pub(super) at: usize,
}

impl Word<'_> {
    pub(super) fn span(&self) -> Range<usize> {
        self.at..self.at + self.text.len()
    }
}

/// `key: value …`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement<'s> {
    /// In lower case and without the colon; of two words with a space between them.
    pub(super) key: String,
    pub(super) span: Range<usize>,
    pub(super) values: Vec<Word<'s>>,
}

impl Statement<'_> {
    /// As it was written, more or less.
    pub(super) fn show(&self) -> String {
        let values: Vec<&str> = self.values.iter().map(|word| word.text).collect();
        format!("{}: {}", self.key, values.join(" "))
    }
}

/// What a file is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item<'s> {
    Setting(Statement<'s>),
    Block(Block<'s>),
}

/// Statements in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block<'s> {
    /// The words in front of the brace: `client pass`.
    pub(super) kind: String,
    pub(super) span: Range<usize>,
    pub(super) statements: Vec<Statement<'s>>,
}

/// Reads a file as far as it can be understood; what cannot goes to `findings`.
pub(super) fn read<'s>(source: &'s str, findings: &mut Findings<'_>) -> Vec<Item<'s>> {
    Reader { words: words(source), next: 0, end: source.len() }.items(findings)
}

/// Words, with braces as words of their own, and without comments.
fn words(source: &str) -> Vec<Word<'_>> {
    let mut words = Vec::new();
    let mut start = None;
    let mut in_comment = false;
    for (at, c) in source.char_indices() {
        let ends = in_comment || c.is_whitespace() || matches!(c, '{' | '}' | '#');
        if ends && let Some(start) = start.take() {
            push(&mut words, &source[start..at], start);
        }
        match c {
            '\n' => in_comment = false,
            _ if in_comment => {}
            '#' => in_comment = true,
            '{' | '}' => words.push(Word { text: &source[at..=at], at }),
            _ if !ends && start.is_none() => start = Some(at),
            _ => {}
        }
    }
    if let Some(start) = start {
        push(&mut words, &source[start..], start);
    }
    words
}

/// A word; `key:value` is two.
fn push<'s>(words: &mut Vec<Word<'s>>, text: &'s str, at: usize) {
    match text.find(':') {
        Some(colon) if colon + 1 < text.len() && is_well_known(&text[..colon]) => {
            words.push(Word { text: &text[..=colon], at });
            words.push(Word { text: &text[colon + 1..], at: at + colon + 1 });
        }
        _ => words.push(Word { text, at }),
    }
}

/// Whether a word in front of a colon is a key, and no part of an IPv6 address.
fn is_well_known(text: &str) -> bool {
    const KEYS: [&str; 10] = [
        "from",
        "to",
        "via",
        "log",
        "logoutput",
        "errorlog",
        "protocol",
        "external",
        "method",
        "bandwidth",
    ];
    KEYS.contains(&text) || text.contains('.') && is_key_text(text)
}

fn is_key_text(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The key that a word is.
fn key_of(word: Word<'_>) -> Option<&str> {
    word.text.strip_suffix(':').filter(|key| is_key_text(key))
}

#[derive(Debug)]
struct Reader<'s> {
    words: Vec<Word<'s>>,
    next: usize,
    end: usize,
}

impl<'s> Reader<'s> {
    fn peek(&self, ahead: usize) -> Option<Word<'s>> {
        self.words.get(self.next + ahead).copied()
    }

    fn is(&self, ahead: usize, text: &str) -> bool {
        self.peek(ahead).is_some_and(|word| word.text == text)
    }

    fn items(mut self, findings: &mut Findings<'_>) -> Vec<Item<'s>> {
        let mut items = Vec::new();
        while let Some(word) = self.peek(0) {
            if let Some(words) = self.block_begins() {
                items.push(Item::Block(self.block(words, findings)));
            } else if let Some(statement) = self.statement() {
                items.push(Item::Setting(statement));
            } else {
                let message = format!("{:?} is neither a setting nor a rule", shorten(word.text));
                let help = "a setting is key: value, a rule is client pass { … } or \
                            client block { … }";
                findings.fault(word.span(), Refusal::new(message, help));
                self.skip();
            }
        }
        items
    }

    /// How many words there are in front of the brace, if a block begins here.
    fn block_begins(&self) -> Option<usize> {
        let word = |ahead| self.peek(ahead).map(|word| word.text.to_ascii_lowercase());
        let first = word(0)?;
        match first.as_str() {
            "client" | "hostid" | "socks" => {
                let verdict = matches!(word(1)?.as_str(), "pass" | "block");
                (verdict && self.is(2, "{")).then_some(2)
            }
            "pass" | "block" | "monitor" | "route" => self.is(1, "{").then_some(1),
            _ => None,
        }
    }

    fn block(&mut self, words: usize, findings: &mut Findings<'_>) -> Block<'s> {
        let named = &self.words[self.next..self.next + words];
        let kind: Vec<String> = named.iter().map(|word| word.text.to_ascii_lowercase()).collect();
        let span = named[0].at..named[words - 1].span().end;
        self.next += words + 1;
        let mut block = Block { kind: kind.join(" "), span, statements: Vec::new() };
        loop {
            let Some(word) = self.peek(0) else {
                let message = format!("the brace of {:?} is not closed", block.kind);
                findings.fault(block.span.clone(), Refusal::new(message, "write } at its end"));
                return block;
            };
            if word.text == "}" {
                self.next += 1;
                return block;
            }
            if let Some(statement) = self.statement() {
                block.statements.push(statement);
                continue;
            }
            let message = format!("{:?} is no key of a rule", shorten(word.text));
            findings.fault(word.span(), Refusal::new(message, "a key has a colon behind it"));
            if word.text == "{" {
                // The end of the block that begins here would be taken for our own.
                self.next = self.words.len();
                return block;
            }
            self.skip();
        }
    }

    /// The statement that begins here, if one does.
    fn statement(&mut self) -> Option<Statement<'s>> {
        let first = self.peek(0)?;
        let (key, words) = match key_of(first) {
            Some(key) => (key.to_ascii_lowercase(), 1),
            None => {
                let first = first.text.to_ascii_lowercase();
                let second = key_of(self.peek(1)?)?.to_ascii_lowercase();
                let known = matches!(
                    (first.as_str(), second.as_str()),
                    ("bounce", "to") | ("redirect", "from" | "to")
                );
                known.then(|| (format!("{first} {second}"), 2))?
            }
        };
        let end = self.peek(words - 1).map_or(self.end, |word| word.span().end);
        self.next += words;
        let mut values = Vec::new();
        while let Some(word) = self.peek(0) {
            let another = matches!(word.text, "{" | "}")
                || key_of(word).is_some()
                || self.begins_two_words()
                || self.block_begins().is_some();
            if another {
                break;
            }
            values.push(word);
            self.next += 1;
        }
        Some(Statement { key, span: first.at..end, values })
    }

    fn begins_two_words(&self) -> bool {
        let first = self.peek(0).map(|word| word.text.to_ascii_lowercase());
        matches!(first.as_deref(), Some("bounce" | "redirect"))
            && self.peek(1).and_then(key_of).is_some()
    }

    /// Goes on behind what could not be understood: with the next key, block or brace.
    fn skip(&mut self) {
        self.next += 1;
        while let Some(word) = self.peek(0) {
            if key_of(word).is_some() || self.block_begins().is_some() || word.text == "}" {
                return;
            }
            self.next += 1;
        }
    }
}

/// Enough of a text to recognise it by.
pub(super) fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(source: &str) -> String {
        let mut findings = Findings::new(source);
        let mut text = String::new();
        for item in read(source, &mut findings) {
            match item {
                Item::Setting(statement) => text += &format!("{}\n", statement.show()),
                Item::Block(block) => {
                    text += &format!("{}\n", block.kind);
                    for statement in block.statements {
                        text += &format!("  {}\n", statement.show());
                    }
                }
            }
        }
        text + &findings.into_diagnostics("f").to_string()
    }

    #[test]
    fn statements_end_where_the_next_begins() {
        let source = "logoutput: stderr /var/log/b.log # both\nClient Pass{from:10.0.0.0/8 port > 1023\n\
                      to: fd00:: port = http bounce to: 10.0.0.1 port=80 session.max:3}\nexternal: eth0";
        assert_eq!(
            shown(source),
            "logoutput: stderr /var/log/b.log\nclient pass\n  from: 10.0.0.0/8 port > 1023\n  \
             to: fd00:: port = http\n  bounce to: 10.0.0.1 port=80\n  session.max: 3\n\
             external: eth0\n"
        );
    }

    #[test]
    fn what_cannot_be_understood_has_its_place() {
        let told = shown(
            "what is this\nlogoutput: stderr\nclient pass {\n from: 0/0 }\n}\nclient block { from: 0/0",
        );
        assert!(told.contains("f:1:1: \"what\" is neither"), "{told}");
        assert!(told.contains("f:5:1: \"}\" is neither"), "{told}");
        assert!(told.contains("f:6:1: the brace of \"client block\" is not closed"), "{told}");
    }
}
