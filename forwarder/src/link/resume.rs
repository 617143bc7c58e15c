//! Where in the spool a connection goes on.

use std::io;
use std::path::Path;

use journal::{JournalError, Reader};
use schemas::wire::{Hello, Welcome};

use super::LinkError;

/// Times the spool is opened while segments vanish under it.
const OPEN_ATTEMPTS: usize = 3;

impl From<JournalError> for LinkError {
    fn from(error: JournalError) -> Self {
        Self::Spool(error.to_string())
    }
}

/// The oldest frame on disk; 0: there is none.
pub(super) fn first_frame(spool: &Path, durable: u64) -> Result<u64, LinkError> {
    let first = open_amid_deletions(|| Reader::open(spool, 0))?.header().first_frame;
    Ok(if first <= durable { first } else { 0 })
}

/// A reader that stands at the first frame the recorder is to be sent, and that frame's number.
///
/// # Errors
/// The recorder's last frame is not ours ([`LinkError::Forked`]), or the spool cannot be read.
pub(super) fn resume(
    spool: &Path,
    durable: u64,
    hello: &Hello,
    welcome: &Welcome,
) -> Result<(Reader, u64), LinkError> {
    let (held, crc) = (welcome.last_frame, welcome.last_crc);
    if held > durable {
        let text = format!("the recorder holds frame {held}, our last is {durable}");
        return Err(LinkError::Forked(text));
    }
    let mut reader = open_amid_deletions(|| Reader::open(spool, held))?;
    let first = reader.header().first_frame;
    let ours = if held >= first {
        reader.next(durable)?.map(|(_, crc)| crc)
    } else if held > 0 && held + 1 == first {
        // Zero: the spool does not know it either.
        Some(reader.header().previous_crc).filter(|crc| *crc != 0)
    } else {
        None
    };
    if let Some(ours) = ours.filter(|ours| *ours != crc) {
        let text = format!(
            "frame {held} has the checksum {ours:#010x} here and {crc:#010x} at the recorder"
        );
        return Err(LinkError::Forked(text));
    }
    let next = first.max(hello.next_frame(welcome.recorder_id, held)).min(durable + 1);
    if next > first.max(held + 1) {
        reader = open_amid_deletions(|| Reader::open(spool, next))?;
    }
    Ok((reader, next))
}

/// Opens a reader. The journal thread deletes what was acknowledged, and may do so between the
/// listing and the opening of a segment: that is no trouble with the spool, which would be given
/// time, but only an old list.
fn open_amid_deletions<T>(
    mut open: impl FnMut() -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    for _ in 1..OPEN_ATTEMPTS {
        match open() {
            Err(error) if has_vanished(&error) => {}
            opened => return opened,
        }
    }
    open()
}

fn has_vanished(error: &JournalError) -> bool {
    match error {
        JournalError::Missing { .. } => true,
        JournalError::Io { source, .. } => source.kind() == io::ErrorKind::NotFound,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_vanish_while_the_spool_is_opened_do_not_fail_it() {
        let dir = tempfile::tempdir().unwrap();
        let vanished = dir.path().join("00000000000000000001.seg");
        let mut attempts = 0;
        let opened = open_amid_deletions(|| {
            attempts += 1;
            if attempts < OPEN_ATTEMPTS {
                journal::SegmentReader::open(&vanished).map(|_| 0)
            } else {
                Ok(attempts)
            }
        });
        assert_eq!(opened.unwrap(), OPEN_ATTEMPTS);
    }

    #[test]
    fn a_spool_that_stays_empty_or_cannot_be_read_is_told_after_a_few_attempts() {
        let dir = tempfile::tempdir().unwrap();
        let mut attempts = 0;
        let outcome = open_amid_deletions(|| {
            attempts += 1;
            Reader::open(dir.path(), 0)
        });
        assert!(matches!(outcome, Err(JournalError::Missing { .. })), "{outcome:?}");
        assert_eq!(attempts, OPEN_ATTEMPTS);

        let segment = dir.path().join("00000000000000000001.seg");
        std::fs::write(&segment, "no frame at all, but long enough for one").unwrap();
        attempts = 0;
        let outcome = open_amid_deletions(|| {
            attempts += 1;
            Reader::open(dir.path(), 0)
        });
        assert!(matches!(outcome, Err(JournalError::Damaged { .. })), "{outcome:?}");
        assert_eq!(attempts, 1);
    }
}
