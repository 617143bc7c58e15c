//! The spool as the ledger sees it: frames of rows, appended to a journal, within its bound.

use forwarder_core::accounting::Spool;
use journal::{Heading, Journal, JournalError};
use prost::Message;
use schemas::wire::{BootEnd, FrameKind, Rows};

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

/// A journal with a bound.
#[derive(Debug)]
pub(super) struct BoundedSpool {
    pub(super) journal: Journal,
    pub(super) max_bytes: u64,
}

impl BoundedSpool {
    fn put(&mut self, kind: FrameKind, message: &impl Message) -> Result<(), SpoolError> {
        let bytes = self.journal.bytes();
        if bytes >= self.max_bytes {
            return Err(SpoolError::Full { bytes });
        }
        self.journal.append(kind, message.encode_to_vec().into())?;
        Ok(())
    }

    /// Makes everything appended durable. After a failed fdatasync the frames are written again,
    /// from memory and through a new descriptor.
    pub(super) fn sync(&mut self) -> Result<u64, JournalError> {
        if self.journal.is_poisoned() {
            self.append_again()?;
        }
        match self.journal.sync() {
            Ok(durable) => Ok(durable),
            Err(error) => {
                tracing::error!(%error, "the spool could not be made durable; writing it again");
                self.append_again()?;
                self.journal.sync()
            }
        }
    }

    fn append_again(&mut self) -> Result<(), JournalError> {
        for frame in self.journal.retreat()? {
            self.journal.append(frame.kind, frame.payload)?;
        }
        Ok(())
    }
}

impl Spool for BoundedSpool {
    type Error = SpoolError;

    fn append(&mut self, rows: &Rows, next_seq: i64) -> Result<(), SpoolError> {
        // Should the append begin a new segment, its header must not claim the rows that only
        // follow it.
        let first_seq = rows.seqs().min().unwrap_or(next_seq);
        self.journal.set_heading(Heading {
            boot: rows.boot.clone(),
            next_seq: first_seq,
            boot_ended: false,
        });
        self.put(FrameKind::Rows, rows)?;
        self.journal.set_heading(Heading { boot: rows.boot.clone(), next_seq, boot_ended: false });
        Ok(())
    }

    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), SpoolError> {
        let heading =
            |boot_ended| Heading { boot: end.boot.clone(), next_seq: end.last_seq + 1, boot_ended };
        self.journal.set_heading(heading(false));
        self.put(FrameKind::BootEnd, end)?;
        self.journal.set_heading(heading(true));
        Ok(())
    }
}
