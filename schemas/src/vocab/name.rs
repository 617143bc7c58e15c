//! Names of nodes, services, rules and customers.
//!
//! Names become file and directory names, so their alphabet is narrow and checked twice: when the
//! configuration is read, and by the recorder on receipt.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes: a DNS label's length.
const MAX_LEN: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a name: use 1 to 63 of A-Z a-z 0-9 . _ - and begin with a letter or digit"
)]
pub struct InvalidName {
    text: String,
}

/// Whether a text is a name, of whatever.
///
/// # Errors
/// It is none.
pub fn check_name(text: &str) -> Result<(), InvalidName> {
    let mut bytes = text.bytes();
    let good = bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        && text.len() <= MAX_LEN;
    if good { Ok(()) } else { Err(InvalidName { text: text.chars().take(MAX_LEN).collect() }) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check_name(text).map(|()| Self(text.to_owned()))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// One forwarder by name.
    NodeName
}
name! {
    /// A named unit of configuration: listeners and targets.
    ServiceName
}
name! {
    /// A rule; it keeps its name when rules are added before it.
    RuleName
}
name! {
    /// Who is billed.
    CustomerName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_the_length_are_enforced() {
        for good in ["a", "web", "edge-1", "A.b_c-9", &"x".repeat(63)] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good:?}");
        }
        for bad in ["", "-a", ".a", "a/b", "a b", "ä", "..", "a\0", &"x".repeat(64)] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad:?}");
        }
    }
}
