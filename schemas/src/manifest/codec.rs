//! The files of the manifest: their names, and the text in them.
//!
//! A file is one line: `{"format":1,` then the fields of a [`Delta`] or [`Checkpoint`], then
//! `,"check":"<8 hexadecimal digits>"}`. The check is the CRC-32C of every byte before `,"check"`, so
//! that a changed byte anywhere is noticed. A file without `format` was written before there was a
//! check, and is taken as it is. Later formats keep `format` in the first place and the check in the
//! last.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Checkpoint, Delta};

/// Format of the files that this binary writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

const FIRST_FIELD: &[u8] = b"{\"format\":";
const CHECK_FIELD: &[u8] = b",\"check\":\"";
const CHECK_DIGITS: usize = 8;
const END: &[u8] = b"\"}\n";
const CHECKPOINT: &str = ".checkpoint";

/// Why a file of the manifest cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// It does not hold what was written, or it has another version's name.
    #[error("{0}")]
    Damaged(String),
    /// A newer version of Weir wrote it (exit code 78).
    #[error(
        "it has format {0}, written by a newer version of Weir; this one knows formats up to {FORMAT}"
    )]
    Newer(u32),
}

/// The name of a delta's file.
pub fn delta_file(version: u64) -> String {
    format!("{version:020}.json")
}

/// The name of a checkpoint's file.
pub fn checkpoint_file(version: u64) -> String {
    format!("{version:020}{CHECKPOINT}.json")
}

/// The version of the delta with this file name; `None`: it is no delta's name.
pub fn delta_version(name: &str) -> Option<u64> {
    let version = name.strip_suffix(".json")?.parse().ok()?;
    (delta_file(version) == name).then_some(version)
}

/// The version of the checkpoint with this file name; `None`: it is no checkpoint's name.
pub fn checkpoint_version(name: &str) -> Option<u64> {
    let version = name.strip_suffix(".json")?.strip_suffix(CHECKPOINT)?.parse().ok()?;
    (checkpoint_file(version) == name).then_some(version)
}

impl Delta {
    /// The content of its file.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the content of the file named for `version`.
    ///
    /// # Errors
    /// It is not whole, or of a newer format.
    pub fn decode(text: &[u8], version: u64) -> Result<Self, Unreadable> {
        let delta: Self = decode(text)?;
        named_for(version, delta.version).map(|()| delta)
    }
}

impl Checkpoint {
    /// The content of its file.
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }

    /// Reads the content of the file named for `version`.
    ///
    /// # Errors
    /// It is not whole, or of a newer format.
    pub fn decode(text: &[u8], version: u64) -> Result<Self, Unreadable> {
        let checkpoint: Self = decode(text)?;
        named_for(version, checkpoint.version).map(|()| checkpoint)
    }
}

fn encode(fields: &impl Serialize) -> Vec<u8> {
    let fields = serde_json::to_vec(fields).expect("fields are numbers, texts and lists");
    let mut text = Vec::with_capacity(fields.len() + 64);
    text.extend_from_slice(FIRST_FIELD);
    text.extend_from_slice(format!("{FORMAT},").as_bytes());
    text.extend_from_slice(&fields[1..fields.len() - 1]);
    let check = crc32c::crc32c(&text);
    text.extend_from_slice(CHECK_FIELD);
    text.extend_from_slice(format!("{check:0width$x}", width = CHECK_DIGITS).as_bytes());
    text.extend_from_slice(END);
    text
}

fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, Unreadable> {
    let damaged = |reason: &str| Unreadable::Damaged(reason.to_owned());
    if let Some(checked) = checked(text) {
        let (content, check) = checked;
        if check != format!("{:0width$x}", crc32c::crc32c(content), width = CHECK_DIGITS).as_bytes()
        {
            return Err(damaged("its check does not match its content"));
        }
        let format =
            format_of(content).ok_or_else(|| damaged("it does not begin with a format"))?;
        if format > FORMAT {
            return Err(Unreadable::Newer(format));
        }
    } else if text.starts_with(FIRST_FIELD) {
        return Err(damaged("its end is missing"));
    }
    serde_json::from_slice(text).map_err(|error| Unreadable::Damaged(error.to_string()))
}

/// The content that the check is for, and the check; `None`: it does not end with one.
fn checked(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let text = text.strip_suffix(END)?;
    let (text, check) = text.split_at_checked(text.len().checked_sub(CHECK_DIGITS)?)?;
    Some((text.strip_suffix(CHECK_FIELD)?, check))
}

fn format_of(content: &[u8]) -> Option<u32> {
    let rest = content.strip_prefix(FIRST_FIELD)?;
    let digits = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()
}

fn named_for(named: u64, says: u64) -> Result<(), Unreadable> {
    if named == says {
        return Ok(());
    }
    Err(Unreadable::Damaged(format!("it says that it is version {says}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{BootMark, Part, SpoolMark};

    fn part() -> Part {
        Part {
            table: "usage".into(),
            path: "accounting/usage/date=2026-10-31/log-1.parquet".into(),
            rows: 3,
            bytes: 99,
            min_time_us: -1,
            max_time_us: 2,
            sha256: "00ff".into(),
        }
    }

    fn checkpoint() -> Checkpoint {
        Checkpoint {
            version: 200,
            parts: vec![part()],
            spools: vec![SpoolMark {
                spool_id: "00000000000000ff".into(),
                node: "edge-1".into(),
                last_frame: 7,
                last_crc: 9,
            }],
            boots: vec![BootMark {
                node: "edge-1".into(),
                boot: "aaaaaaaa".into(),
                last_seq: 5,
                end: None,
                elsewhere: Vec::new(),
                closed: vec![
                    "accounting/sessions/date=2026-10-31/lost-1-k3f9x2ab.parquet".to_owned(),
                ],
            }],
            retired: Vec::new(),
            log_through: 12,
        }
    }

    fn delta() -> Delta {
        Delta { version: 42, add: vec![part()], remove: vec!["x".into()], ..Delta::default() }
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(Delta::decode(&delta().encode(), 42), Ok(delta()));
        assert_eq!(Checkpoint::decode(&checkpoint().encode(), 200), Ok(checkpoint()));
        let text = String::from_utf8(Delta { version: 1, ..Delta::default() }.encode()).unwrap();
        insta::assert_snapshot!(
            text.trim_end(),
            @r#"{"format":1,"version":1,"add":[],"remove":[],"spools":[],"boots":[],"log_through":0,"check":"b00c3c86"}"#
        );
    }

    #[test]
    fn a_file_written_before_there_was_a_check_is_read() {
        let text = serde_json::to_vec(&delta()).unwrap();
        assert_eq!(Delta::decode(&text, 42), Ok(delta()));
    }

    #[test]
    fn a_flipped_bit_and_a_missing_end_are_noticed_wherever_they_are() {
        for whole in [delta().encode(), checkpoint().encode()] {
            let read = |text: &[u8]| match whole[..40] == checkpoint().encode()[..40] {
                true => Checkpoint::decode(text, 200).map(drop),
                false => Delta::decode(text, 42).map(drop),
            };
            for at in 0..whole.len() {
                for bit in 0..8 {
                    let mut text = whole.clone();
                    text[at] ^= 1 << bit;
                    let found = read(&text);
                    assert!(matches!(found, Err(Unreadable::Damaged(_))), "{at} {bit}: {found:?}");
                }
                assert!(matches!(read(&whole[..at]), Err(Unreadable::Damaged(_))), "{at}");
            }
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut text = br#"{"format":2,"version":7,"parts":{"other":1}"#.to_vec();
        let check = crc32c::crc32c(&text);
        text.extend_from_slice(format!(",\"check\":\"{check:08x}\"}}\n").as_bytes());
        assert_eq!(Delta::decode(&text, 7), Err(Unreadable::Newer(2)));
        text[12] = b'x';
        assert!(matches!(Delta::decode(&text, 7), Err(Unreadable::Damaged(_))));
    }

    #[test]
    fn a_file_under_another_versions_name_is_noticed() {
        let found = Delta::decode(&delta().encode(), 43).unwrap_err();
        assert_eq!(found.to_string(), "it says that it is version 42");
    }

    #[test]
    fn names_tell_deltas_from_checkpoints_and_from_other_files() {
        assert_eq!(delta_version(&delta_file(42)), Some(42));
        assert_eq!(checkpoint_version(&checkpoint_file(42)), Some(42));
        assert_eq!(delta_version(&checkpoint_file(42)), None);
        assert_eq!(checkpoint_version(&delta_file(42)), None);
        for strange in ["42.json", "+0000000000000000042.json", "00000000000000000042.json.tmp"] {
            assert_eq!((delta_version(strange), checkpoint_version(strange)), (None, None));
        }
    }
}
