//! Values as TOML.

/// A basic string: whatever it holds, it is one.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted += &format!("\\u{:04X}", u32::from(c)),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A list of basic strings.
pub(super) fn list(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    let quoted: Vec<String> = texts.into_iter().map(|text| quote(text.as_ref())).collect();
    format!("[{}]", quoted.join(", "))
}

/// A line of comment: control characters are not allowed there either.
pub(super) fn comment(text: &str) -> String {
    let text: String =
        text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(1000).collect();
    format!("# {text}\n")
}

/// Lines that are to have no meaning for now.
pub(super) fn in_comments(text: &str) -> String {
    text.lines().map(|line| format!("#{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(text: String) {
            let source = format!("{}a = {}\n", comment(&text), list([&text]));
            let table: toml::Table = source.parse().expect("TOML");
            prop_assert_eq!(table["a"][0].as_str(), Some(text.as_str()));
        }
    }
}
