//! Identities: one run of a forwarder, one session of it, one spool directory.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// A boot is eight characters of `0-9a-z`.
    #[error("{0:?} is not a boot: expected 8 characters of 0-9 a-z, as in k3f9x2ab")]
    Boot(String),
    /// A session is `<boot>-<number>`.
    #[error("{0:?} is not a session: expected <boot>-<number>, as in k3f9x2ab-1042")]
    Session(String),
    /// A spool is sixteen hexadecimal digits.
    #[error("{0:?} is not a spool: expected 16 hexadecimal digits")]
    Spool(String),
}

/// One run of one forwarder: eight characters of `0-9a-z`, drawn at random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BootId([u8; 8]);

impl BootId {
    const ALPHABET: [u8; 36] = *b"0123456789abcdefghijklmnopqrstuvwxyz";

    /// The boot that `random`, a number drawn uniformly, stands for (41 bits of it survive).
    pub fn from_random(random: u64) -> Self {
        let mut rest = random;
        Self(std::array::from_fn(|_| {
            let digit = usize::try_from(rest % 36).unwrap_or_default();
            rest /= 36;
            Self::ALPHABET[digit]
        }))
    }

    /// The eight characters as one word, for the counter table.
    pub const fn to_word(self) -> u64 {
        u64::from_le_bytes(self.0)
    }

    /// The boot of a word that [`BootId::to_word`] made; `None` for any other.
    pub fn from_word(word: u64) -> Option<Self> {
        let bytes = word.to_le_bytes();
        bytes.iter().all(|b| Self::ALPHABET.contains(b)).then_some(Self(bytes))
    }

    /// The boot as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for BootId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let bytes: Option<[u8; 8]> = text.as_bytes().try_into().ok();
        bytes
            .and_then(|bytes| Self::from_word(u64::from_le_bytes(bytes)))
            .ok_or_else(|| InvalidId::Boot(text.to_owned()))
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BootId({self})")
    }
}

/// A session as people write it: `<boot>-<number>`. This text finds it in every table, log line,
/// capture comment and command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId {
    /// The run of the forwarder that carried it.
    pub boot: BootId,
    /// Its number in that run: 1, 2, 3… in the order of the pass verdicts.
    pub number: u64,
}

impl FromStr for SessionId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let invalid = || InvalidId::Session(text.to_owned());
        let (boot, number) = text.split_once('-').ok_or_else(invalid)?;
        if !number.bytes().all(|b| b.is_ascii_digit()) || number.starts_with('0') {
            return Err(invalid());
        }
        Ok(Self {
            boot: boot.parse().map_err(|_| invalid())?,
            number: number.parse().map_err(|_| invalid())?,
        })
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.boot, self.number)
    }
}

/// One spool directory: drawn at random when the directory is made. Frame numbers mean something
/// only together with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpoolId(pub u64);

impl FromStr for SpoolId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let hex = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(id) if hex => Ok(Self(id)),
            _ => Err(InvalidId::Spool(text.to_owned())),
        }
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_session_is_read_as_it_is_written() {
        let id: SessionId = "k3f9x2ab-1042".parse().unwrap();
        assert_eq!((id.boot.as_str(), id.number), ("k3f9x2ab", 1042));
        assert_eq!(id.to_string(), "k3f9x2ab-1042");
    }

    #[test]
    fn what_is_not_a_session_is_refused() {
        for bad in [
            "",
            "k3f9x2ab",
            "k3f9x2ab-",
            "k3f9x2ab-0",
            "k3f9x2ab-01",
            "K3F9X2AB-1",
            "k3f9x2a-1",
            "k3f9x2ab-+1",
        ] {
            assert!(bad.parse::<SessionId>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_random_number_makes_a_boot_that_survives_text_and_word(random: u64) {
            let boot = BootId::from_random(random);
            prop_assert_eq!(boot.as_str().parse(), Ok(boot));
            prop_assert_eq!(BootId::from_word(boot.to_word()), Some(boot));
        }

        #[test]
        fn a_spool_survives_text(id: u64) {
            prop_assert_eq!(SpoolId(id).to_string().parse(), Ok(SpoolId(id)));
        }
    }
}
