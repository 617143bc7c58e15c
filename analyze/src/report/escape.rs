//! Text that came from peers, made harmless where it leaves us. Names of servers, PTR records and
//! preambles are written by strangers; a terminal, a spreadsheet and a pager obey them.

use std::borrow::Cow;
use std::fmt::Write as _;

/// For a terminal: control characters and those that turn the direction of writing are shown as
/// their code, as in `\u{1b}`.
pub fn terminal(text: &str) -> Cow<'_, str> {
    shown(text, |c| c.is_control() || is_direction(c))
}

/// For a CSV cell: what a spreadsheet would take for a formula gets a `'` in front, and control
/// characters other than white space are shown as their code.
pub fn csv(text: &str) -> Cow<'_, str> {
    let harmless =
        shown(text, |c| is_direction(c) || (c.is_control() && !matches!(c, '\t' | '\n' | '\r')));
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return Cow::Owned(format!("'{harmless}"));
    }
    harmless
}

/// For HTML, in text and in quoted attributes: no tag, no entity, and control characters as their
/// code.
pub fn html(text: &str) -> String {
    let safe = terminal(text);
    let mut shown = String::with_capacity(safe.len());
    for c in safe.chars() {
        match c {
            '<' => shown.push_str("&lt;"),
            '>' => shown.push_str("&gt;"),
            '&' => shown.push_str("&amp;"),
            '"' => shown.push_str("&quot;"),
            '\'' => shown.push_str("&#39;"),
            other => shown.push(other),
        }
    }
    shown
}

fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn shown(text: &str, bad: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            write!(safe, "\\u{{{:x}}}", u32::from(c)).expect("a String takes any text");
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_control_characters_and_does_not_obey_them() {
        assert_eq!(terminal("plain ä"), "plain ä");
        assert_eq!(terminal("\x1b[2Jx\n\u{9b}"), "\\u{1b}[2Jx\\u{a}\\u{9b}");
        assert_eq!(terminal("a\u{202e}b"), "a\\u{202e}b");
    }

    #[test]
    fn a_browser_is_given_text_and_no_tags() {
        let shown = html("<a href=\"x\" id='y'>&\x1b");
        assert_eq!(shown, "&lt;a href=&quot;x&quot; id=&#39;y&#39;&gt;&amp;\\u{1b}");
    }

    #[test]
    fn a_spreadsheet_is_given_text_and_no_formula() {
        for bad in ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"] {
            assert_eq!(csv(bad), format!("'{bad}"));
        }
        assert_eq!(csv("a=1"), "a=1");
        assert_eq!(csv("\x1b]0;x"), "\\u{1b}]0;x");
    }
}
