//! Where a statement ends.

/// What a place in SQL is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Within {
    Code,
    /// Text or a name, up to this quote.
    Quoted(char),
    /// Up to the end of the line.
    Line,
    /// Up to `*/`.
    Block,
}

/// Whether the text ends with a semicolon that ends a statement: none in a quote or a comment.
pub(super) fn is_complete(text: &str) -> bool {
    last_of_code(text) == Some(';')
}

/// Whether there is nothing to run: blanks, comments and semicolons.
pub(super) fn is_blank(text: &str) -> bool {
    let bare = text.trim_matches(|c: char| c.is_whitespace() || c == ';');
    bare.is_empty() || last_of_code(bare).is_none()
}

/// The last character that is neither blank nor in a comment; that of an open quote when the text
/// ends within one.
fn last_of_code(text: &str) -> Option<char> {
    let mut within = Within::Code;
    let mut last = None;
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        within = match (within, c) {
            (Within::Code, '-') if rest.next_if_eq(&'-').is_some() => Within::Line,
            (Within::Code, '/') if rest.next_if_eq(&'*').is_some() => Within::Block,
            (Within::Code, quote @ ('\'' | '"')) => {
                last = Some(quote);
                Within::Quoted(quote)
            }
            (Within::Code, c) => {
                last = Some(c).filter(|c| !c.is_whitespace()).or(last);
                Within::Code
            }
            (Within::Quoted(quote), c) if c == quote => Within::Code,
            (Within::Line, '\n') => Within::Code,
            (Within::Block, '*') if rest.next_if_eq(&'/').is_some() => Within::Code,
            (within, _) => within,
        };
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_with_a_semicolon_that_is_code() {
        for text in ["select 1;", "select 1; ", "select ';';", "select 1; -- done", "/* ; */;"] {
            assert!(is_complete(text), "{text}");
        }
        for text in
            ["select 1", "select ';", "select 1 -- ;", "select \";", "/* ;", "select 1; /* ; */ 2"]
        {
            assert!(!is_complete(text), "{text}");
        }
    }

    #[test]
    fn comments_and_semicolons_are_nothing_to_run() {
        for text in ["", " ", ";", " ; ;", "-- nothing", "/* nothing */ ;"] {
            assert!(is_blank(text), "{text}");
        }
        for text in ["select 1;", "''", "-- one\nselect 1"] {
            assert!(!is_blank(text), "{text}");
        }
    }
}
