//! Who waits for closed files, and when one of them may be read for its digest.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep};

use super::closing::hexadecimal;
use super::counters::Counters;
use super::session::SessionKey;
use super::store::Left;

/// Bytes of closed files that may wait for those before them to be digested.
pub(super) const MAX_UNDIGESTED: u64 = 4 << 30;
/// Most closed files that may wait for those before them to be digested: the others fit the queue.
const MAX_UNDIGESTED_FILES: u64 = 64;
/// How long one file may wait for a quiet moment; the time in which it is read does not count.
pub(super) const QUIET_WITHIN: Duration = Duration::from_secs(10);
/// How long all files may be read for their digests that somebody waits for.
pub(super) const HURRY_WITHIN: Duration = Duration::from_secs(5);
/// Payload per second above which the capture is busy: digests wait.
const BUSY: u64 = 256 << 20;
/// Over how long that is measured.
pub(super) const PACE_OVER: Duration = Duration::from_millis(100);
/// How much of a file is read at once, in bytes.
const PIECE: usize = 1 << 20;

/// What the thread should know while it reads a file.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// The files that wait, and their bytes.
    pub(super) files: AtomicU64,
    pub(super) bytes: AtomicU64,
    /// How many wait for the files that wait.
    pub(super) hurries: AtomicUsize,
    /// Sessions that go on, to be written down before the next job is done. A newer note takes the
    /// place of one that nobody has written: each holds every session.
    pub(super) open: Mutex<Option<Vec<(SessionKey, Left)>>>,
}

/// Somebody waits for the files that wait, for as long as this lives.
#[derive(Debug)]
pub(super) struct Hurry(Arc<Waiting>);

impl Drop for Hurry {
    fn drop(&mut self) {
        self.0.hurries.fetch_sub(1, Relaxed);
    }
}

impl Hurry {
    /// Everything that is told until the next flush is wanted soon.
    pub(super) fn new(waiting: &Arc<Waiting>) -> Self {
        waiting.hurries.fetch_add(1, Relaxed);
        Self(Arc::clone(waiting))
    }
}

/// When a file may be read for its digest: while the capture is not busy, or when somebody waits
/// for it. It waits for that only so long, and not while much more waits.
#[derive(Debug)]
pub(super) struct Patience {
    counters: Counters,
    pub(super) waiting: Arc<Waiting>,
    pub(super) measured: Instant,
    /// Payload taken until then.
    taken: u64,
    is_busy: bool,
    /// Since when somebody waits.
    pub(super) hurried: Option<Instant>,
}

/// What may be done about a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum May {
    GoOn,
    Wait,
    GiveUp,
}

impl Patience {
    pub(super) fn new(counters: Counters, waiting: Arc<Waiting>) -> Self {
        let taken = counters.payload_bytes.get();
        Self { counters, waiting, measured: Instant::now(), taken, is_busy: false, hurried: None }
    }

    /// The digest of a file as hexadecimal text, if there is time for it.
    pub(super) async fn digest(&mut self, file: &File) -> io::Result<Option<String>> {
        let mut waited = Duration::ZERO;
        let len = file.metadata()?.len();
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; PIECE];
        let mut at = 0;
        loop {
            match self.may(waited, len) {
                May::GoOn => {}
                May::Wait => {
                    let begun = Instant::now();
                    sleep(PACE_OVER).await;
                    waited += begun.elapsed();
                    continue;
                }
                May::GiveUp => return Ok(None),
            }
            let read = match file.read_at(&mut buffer, at) {
                Ok(0) => return Ok(Some(hexadecimal(&hasher.finalize()))),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            hasher.update(&buffer[..read]);
            at += u64::try_from(read).unwrap_or_default();
        }
    }

    /// `own`: bytes of the file that is being read, which wait too.
    pub(super) fn may(&mut self, waited: Duration, own: u64) -> May {
        if self.waiting.hurries.load(Relaxed) > 0 {
            let since = *self.hurried.get_or_insert_with(Instant::now);
            return if since.elapsed() < HURRY_WITHIN { May::GoOn } else { May::GiveUp };
        }
        self.measure();
        let behind = self.waiting.bytes.load(Relaxed).saturating_sub(own);
        let files = self.waiting.files.load(Relaxed).saturating_sub(1);
        if behind > MAX_UNDIGESTED || files > MAX_UNDIGESTED_FILES {
            May::GiveUp
        } else if self.is_busy {
            if waited < QUIET_WITHIN { May::Wait } else { May::GiveUp }
        } else {
            May::GoOn
        }
    }

    /// One of those who waited has what it waited for; the files of the next have their own time.
    pub(super) fn calm_down(&mut self, hurry: Hurry) {
        drop(hurry);
        self.hurried = None;
    }

    fn measure(&mut self) {
        let elapsed = self.measured.elapsed();
        if elapsed < PACE_OVER {
            return;
        }
        let taken = self.counters.payload_bytes.get();
        let nanos = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
        let per_second = (taken - self.taken).saturating_mul(1_000_000_000) / nanos.max(1);
        self.is_busy = per_second > BUSY;
        (self.measured, self.taken) = (Instant::now(), taken);
    }
}
