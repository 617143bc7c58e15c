//! The words and signs of a condition, each with its place.

/// What is wrong, and at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) what: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// A name, a keyword, an address, a number with its unit stuck to it.
    Word(String),
    /// Text in quotes.
    Quoted(String),
    /// An operator, a parenthesis, a comma.
    Sign(&'static str),
    End,
}

#[derive(Debug, Clone)]
pub(super) struct Token {
    pub(super) at: usize,
    pub(super) kind: Kind,
}

impl Token {
    pub(super) fn fault(&self, what: impl Into<String>) -> Fault {
        Fault { at: self.at, what: what.into() }
    }

    pub(super) fn is(&self, word: &str) -> bool {
        matches!(&self.kind, Kind::Word(text) if text.eq_ignore_ascii_case(word))
    }

    pub(super) fn is_sign(&self, sign: &str) -> bool {
        matches!(&self.kind, Kind::Sign(is) if *is == sign)
    }
}

const SIGNS: [&str; 10] = ["<=", ">=", "!=", "==", "<", ">", "=", "(", ")", ","];

/// The tokens of a text, and behind them [`Kind::End`].
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(char) = text[at..].chars().next() {
        let rest = &text[at..];
        if char.is_whitespace() {
            at += char.len_utf8();
        } else if char == '\'' || char == '"' {
            let inner = &rest[1..];
            let Some(end) = inner.find(char) else {
                return Err(Fault { at, what: "this quote is never closed".to_owned() });
            };
            tokens.push(Token { at, kind: Kind::Quoted(inner[..end].to_owned()) });
            at += end + 2;
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            tokens.push(Token { at, kind: Kind::Sign(sign) });
            at += sign.len();
        } else {
            let is_part = |c: char| c.is_alphanumeric() || "_.:/*-+%@".contains(c);
            let end = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
            if end == 0 {
                return Err(Fault { at, what: format!("{char:?} means nothing here") });
            }
            tokens.push(Token { at, kind: Kind::Word(rest[..end].to_owned()) });
            at += end;
        }
    }
    tokens.push(Token { at, kind: Kind::End });
    Ok(tokens)
}
