//! How far the spool was acknowledged, and by whom: kept beside the spool for the day when the
//! forwarder is given another recorder.
//!
//! `<spool>/acked` is one line: the spool's id, the recorder's, the last acknowledged frame, and a
//! checksum of these. It is a note and no truth: a recorder that holds more or less says so in its
//! `Welcome`. It is written over in place, so that a full disk does not matter, and made durable
//! when a connection ends; a process that is killed may leave it a tenth of a second old.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemas::vocab::SpoolId;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::timeout;

const FILE: &str = "acked";
/// Longest line, in bytes.
const LINE_BYTES: usize = 128;
/// How long the last write may take.
const CLOSE_WITHIN: Duration = Duration::from_secs(2);

/// The last acknowledgement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Acked {
    /// The spool whose frame it is.
    pub(super) spool: SpoolId,
    /// Who gave it.
    pub(super) recorder: u64,
    /// The frame.
    pub(super) frame: u64,
}

impl Acked {
    /// What is noted beside the spool in `dir`; `None`: nothing that can be read.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let file = OpenOptions::new().read(true).open(path(dir)).ok()?;
        let mut bytes = [0; LINE_BYTES];
        let len = file.read_at(&mut bytes, 0).ok()?;
        let line = std::str::from_utf8(&bytes[..len]).ok()?.lines().next()?;
        let (content, check) = line.rsplit_once(' ')?;
        if u32::from_str_radix(check, 16).ok()? != crc32c::crc32c(content.as_bytes()) {
            return None;
        }
        let mut words = content.split(' ');
        Some(Self {
            spool: words.next()?.parse().ok()?,
            recorder: u64::from_str_radix(words.next()?, 16).ok()?,
            frame: words.next()?.parse().ok()?,
        })
    }

    /// Notes it; `durably`: as good as the disk can.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn write(self, dir: &Path, durably: bool) -> io::Result<()> {
        let Self { spool, recorder, frame } = self;
        let content = format!("{spool} {recorder:016x} {frame:020}");
        let line = format!("{content} {:08x}\n", crc32c::crc32c(content.as_bytes()));
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(path(dir))?;
        file.write_all_at(line.as_bytes(), 0)?;
        if durably { file.sync_data() } else { Ok(()) }
    }
}

/// The last acknowledgement, on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct AckNote {
    last: Option<Acked>,
    written: Option<Acked>,
    /// At most one at a time.
    writing: Option<JoinHandle<()>>,
}

impl AckNote {
    pub(super) fn last(&self) -> Option<Acked> {
        self.last
    }

    pub(super) fn take(&mut self, acked: Option<Acked>) {
        self.last = acked;
    }

    /// Writes what is new, without waiting for the disk.
    pub(super) fn save(&mut self, dir: &Path) {
        if self.writing.as_ref().is_none_or(JoinHandle::is_finished) {
            self.write(dir, false);
        }
    }

    /// Makes what is new durable. A disk that takes longer than [`CLOSE_WITHIN`] is not waited for:
    /// without the note, only a recorder that is new to this forwarder gets more than it should.
    pub(super) async fn close(&mut self, dir: &Path) {
        let writes = async {
            if let Some(writing) = self.writing.take() {
                drop(writing.await);
            }
            self.write(dir, true);
            if let Some(writing) = self.writing.take() {
                drop(writing.await);
            }
        };
        if timeout(CLOSE_WITHIN, writes).await.is_err() {
            tracing::debug!("what is acknowledged is not noted: the disk is slow");
        }
    }

    fn write(&mut self, dir: &Path, durably: bool) {
        let Some(last) = self.last.filter(|last| durably || self.written != Some(*last)) else {
            return;
        };
        self.written = Some(last);
        let dir = dir.to_owned();
        self.writing = Some(spawn_blocking(move || {
            last.write(&dir, durably).unwrap_or_else(|error| {
                tracing::debug!(%error, "what is acknowledged is not noted");
            });
        }));
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_read_as_it_was_written_and_a_torn_one_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Acked::read(dir.path()), None);
        let first = Acked { spool: SpoolId(7), recorder: u64::MAX, frame: u64::MAX };
        first.write(dir.path(), true).unwrap();
        assert_eq!(Acked::read(dir.path()), Some(first));
        let second = Acked { recorder: 1, frame: 2, ..first };
        second.write(dir.path(), false).unwrap();
        assert_eq!(Acked::read(dir.path()), Some(second));

        let bytes = std::fs::read(path(dir.path())).unwrap();
        for at in 0..bytes.len() - 1 {
            let mut torn = bytes.clone();
            torn[at] ^= 1;
            std::fs::write(path(dir.path()), &torn).unwrap();
            assert_eq!(Acked::read(dir.path()), None, "byte {at}");
        }
    }
}
