//! The spool as the ledger sees it: frames of rows, appended to a journal, within its bound.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::PathBuf;

use bytes::Bytes;
use forwarder_core::accounting::{Spool, SpoolLevel};
use journal::{Heading, Journal, JournalError};
use prost::Message;
use schemas::wire::{BootEnd, EncodedRows, Frame, FrameKind};

/// A file in the spool's directory that is given up when the disk is full: a new segment needs
/// room for its head before the old one, however large, can go.
const RESERVE: &str = "reserve";
const RESERVE_BYTES: usize = 16 << 10;

/// Why a frame is not in the spool.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// The configured bound is reached.
    #[error("the spool holds {bytes} bytes, which is its bound (recorder.spool_max)")]
    Full {
        /// Bytes it holds.
        bytes: u64,
    },
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl SpoolError {
    /// Whether more room would help.
    pub(super) fn is_full(&self) -> bool {
        match self {
            Self::Full { .. } => true,
            Self::Journal(error) => error.is_full(),
        }
    }
}

/// A journal with a bound.
#[derive(Debug)]
pub(super) struct BoundedSpool {
    pub(super) journal: Journal,
    pub(super) max_bytes: u64,
    /// Frames that a failed fdatasync took out of the journal and that are not back yet. Their rows
    /// have numbers and their sessions no slots any more: only here they still are.
    taken_back: VecDeque<Frame>,
}

impl BoundedSpool {
    pub(super) fn new(journal: Journal, max_bytes: u64) -> Self {
        let spool = Self { journal, max_bytes, taken_back: VecDeque::new() };
        spool.reserve();
        spool
    }

    /// Bytes from which on the account leaves out interim rows: 80 % of the bound.
    pub(super) fn interims_until(&self) -> u64 {
        self.max_bytes / 5 * 4
    }

    fn put(&mut self, kind: FrameKind, payload: Bytes) -> Result<(), SpoolError> {
        self.append_again()?;
        let bytes = self.journal.bytes();
        if bytes >= self.max_bytes {
            return Err(SpoolError::Full { bytes });
        }
        self.journal.append(kind, payload)?;
        Ok(())
    }

    /// Whether something was appended, or taken back, since the last sync.
    pub(super) fn has_unsynced(&self) -> bool {
        self.journal.durable_frame() < self.journal.last_frame() || !self.taken_back.is_empty()
    }

    /// Makes everything appended durable. After a failed fdatasync the frames are written again,
    /// from memory and through a new descriptor.
    pub(super) fn sync(&mut self) -> Result<u64, JournalError> {
        self.append_again()?;
        match self.journal.sync() {
            Ok(durable) => Ok(durable),
            Err(error) => {
                tracing::error!(%error, "the spool could not be made durable; writing it again");
                self.append_again()?;
                self.journal.sync()
            }
        }
    }

    /// Writes again what a failed fdatasync was for. What the disk does not take stays in memory
    /// until it does, and nothing else is appended before.
    fn append_again(&mut self) -> Result<(), JournalError> {
        if self.journal.is_poisoned() {
            for frame in self.journal.retreat()?.into_iter().rev() {
                self.taken_back.push_front(frame);
            }
        }
        while let Some(frame) = self.taken_back.front() {
            self.journal.append(frame.kind, frame.payload.clone())?;
            self.taken_back.pop_front();
        }
        Ok(())
    }

    /// Makes room in a spool of which everything is acknowledged: its newest segment, which would
    /// otherwise grow until it is full, gives way to an empty one.
    pub(super) fn begin_afresh(&mut self) -> Result<(), JournalError> {
        let acknowledged = self.journal.last_frame();
        // Rows taken back would come behind a head that claims them.
        if self.journal.first_frame() > acknowledged || !self.taken_back.is_empty() {
            return Ok(());
        }
        // The link's reader stands at the end of the last one until there is a next frame, and the
        // room of a file that is open is not free: it is emptied once it has no name any more.
        let files: Vec<File> = self
            .journal
            .segments()
            .filter_map(|segment| File::options().write(true).open(segment.path).ok())
            .collect();
        if self.journal.seal().is_err() {
            // The second failure is the one that counts: it had the room of the reserve.
            drop(fs::remove_file(self.reserve_path()));
            self.journal.seal()?;
        }
        self.journal.remove_through(acknowledged)?;
        if self.journal.first_frame() > acknowledged {
            for file in files {
                file.set_len(0).unwrap_or_else(|error| {
                    tracing::debug!(%error, "a deleted part of the spool keeps its room");
                });
            }
        }
        self.reserve();
        Ok(())
    }

    fn reserve_path(&self) -> PathBuf {
        self.journal.dir().join(RESERVE)
    }

    /// Without room for it now, it is made when there is some.
    fn reserve(&self) {
        let path = self.reserve_path();
        let made = File::create(&path).and_then(|mut file| file.write_all(&[0; RESERVE_BYTES]));
        if let Err(error) = made {
            tracing::debug!(path = %path.display(), %error, "no room is kept aside in the spool");
        }
    }
}

impl Spool for BoundedSpool {
    type Error = SpoolError;

    fn append(&mut self, rows: EncodedRows, next_seq: i64) -> Result<(), SpoolError> {
        // Should the append begin a new segment, its header must not claim the rows that only
        // follow it.
        let boot = rows.boot().to_owned();
        let heading = |next_seq| Heading { boot: boot.clone(), next_seq, boot_ended: false };
        self.journal.set_heading(heading(rows.first_seq().unwrap_or(next_seq)));
        self.put(FrameKind::Rows, rows.into_bytes().into())?;
        self.journal.set_heading(heading(next_seq));
        Ok(())
    }

    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), SpoolError> {
        let heading =
            |boot_ended| Heading { boot: end.boot.clone(), next_seq: end.last_seq + 1, boot_ended };
        self.journal.set_heading(heading(false));
        self.put(FrameKind::BootEnd, end.encode_to_vec().into())?;
        self.journal.set_heading(heading(true));
        Ok(())
    }

    fn level(&self) -> SpoolLevel {
        let bytes = self.journal.bytes();
        if bytes >= self.max_bytes {
            SpoolLevel::Full
        } else if bytes >= self.interims_until() {
            SpoolLevel::NoInterims
        } else {
            SpoolLevel::Normal
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use e2e_tests::process::output;
    use journal::{Entry, Settings, scan};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use schemas::vocab::SpoolId;

    use super::*;

    /// Tells the child which directory to fill.
    const CHILD_DIR: &str = "SPOOL_TEST_DIR";
    const ROWS: &[u8] = &[b'x'; 700];

    fn limit_files_to(bytes: Option<u64>) {
        let hard = getrlimit(Resource::Fsize).maximum;
        setrlimit(Resource::Fsize, Rlimit { current: bytes, maximum: hard }).unwrap();
    }

    /// The disk fails an fdatasync, and has room for only one of the three frames when they are
    /// written again.
    fn lose_the_disk_for_a_while(dir: &Path) {
        let (journal, _) = Journal::open(dir, Settings::new(SpoolId(1))).unwrap();
        let mut spool = BoundedSpool::new(journal, u64::MAX);
        let durable = spool.journal.bytes();
        for _ in 0..3 {
            spool.journal.append(FrameKind::Rows, ROWS.into()).unwrap();
        }
        // What a failed fdatasync makes the journal do.
        spool.taken_back = spool.journal.retreat().unwrap().into();
        limit_files_to(Some(durable + 1000));
        assert!(spool.sync().unwrap_err().is_full());
        assert!(spool.put(FrameKind::Rows, Bytes::new()).is_err(), "it would overtake");
        limit_files_to(None);
        spool.put(FrameKind::BootEnd, Bytes::new()).unwrap();
        assert_eq!(spool.sync().unwrap(), 4);
    }

    #[test]
    fn frames_that_cannot_be_written_again_at_once_are_not_forgotten() {
        if let Some(dir) = std::env::var_os(CHILD_DIR) {
            return lose_the_disk_for_a_while(dir.as_ref());
        }
        let dir = tempfile::tempdir().unwrap();
        // A write beyond the limit raises SIGXFSZ, which kills unless ignored; then it fails.
        let child = output(Command::new("sh")
            .args(["-c", r#"trap "" XFSZ; exec "$0" --exact "$1""#])
            .arg(std::env::current_exe().unwrap())
            .arg("accounting::spool::tests::frames_that_cannot_be_written_again_at_once_are_not_forgotten")
            .env(CHILD_DIR, dir.path()));
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
        let entries = scan(dir.path()).unwrap().map(Result::unwrap);
        let kinds: Vec<_> = entries
            .filter_map(|entry| match entry {
                Entry::Frame(frame, _) => Some((frame.number, frame.kind)),
                Entry::Segment(_) => None,
            })
            .collect();
        let rows = FrameKind::Rows;
        assert_eq!(kinds, [(1, rows), (2, rows), (3, rows), (4, FrameKind::BootEnd)]);
    }
}
