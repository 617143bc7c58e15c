//! The link between forwarder and recorder: a relay of our own that cuts it anywhere, lets it hang,
//! or lets nobody in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::time::sleep;

/// How often a link that hangs is looked at.
const LOOK: Duration = Duration::from_millis(5);
const BUFFER: usize = 16 << 10;

/// What is done to the link at the moment.
#[derive(Debug)]
pub(crate) struct Link {
    /// Bytes, of both directions, that still pass before every connection is cut.
    passes: AtomicI64,
    stalled: AtomicBool,
    refused: AtomicBool,
    /// Raised to cut every connection.
    cuts: watch::Sender<u64>,
    /// Connections that were cut.
    pub(crate) cut: AtomicU64,
}

impl Link {
    /// Listens on `from` and passes on to `to`, for as long as the program runs.
    pub(crate) fn start(from: &Path, to: &Path) -> io::Result<Arc<Self>> {
        let listener = UnixListener::bind(from)?;
        let link = Arc::new(Self {
            passes: AtomicI64::new(i64::MAX),
            stalled: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            cuts: watch::Sender::new(0),
            cut: AtomicU64::new(0),
        });
        tokio::spawn(accept(listener, to.to_path_buf(), Arc::clone(&link)));
        Ok(link)
    }

    /// Cuts every connection once so many more bytes have passed, also in the midst of a frame.
    pub(crate) fn cut_after(&self, bytes: u64) {
        self.passes.store(i64::try_from(bytes).unwrap_or(i64::MAX), Ordering::Relaxed);
    }

    /// Cuts every connection and lets nobody in, or does again.
    pub(crate) fn refuse(&self, refused: bool) {
        self.refused.store(refused, Ordering::Relaxed);
        if refused {
            self.cuts.send_modify(|count| *count += 1);
        }
    }

    /// Passes nothing on, and says nothing of it, or does again.
    pub(crate) fn stall(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Relaxed);
    }

    /// How many of `len` bytes pass; fewer than all: then comes the cut.
    fn pass(&self, len: usize) -> usize {
        let len = i64::try_from(len).unwrap_or(i64::MAX);
        let passes = self.passes.fetch_sub(len, Ordering::Relaxed);
        if passes < len {
            self.passes.store(i64::MAX, Ordering::Relaxed);
            self.cuts.send_modify(|count| *count += 1);
        }
        usize::try_from(passes.min(len)).unwrap_or_default()
    }
}

async fn accept(listener: UnixListener, to: PathBuf, link: Arc<Link>) {
    loop {
        let Ok((forwarder, _)) = listener.accept().await else { continue };
        if link.refused.load(Ordering::Relaxed) {
            continue;
        }
        let Ok(recorder) = UnixStream::connect(&to).await else { continue };
        tokio::spawn(connection(forwarder, recorder, Arc::clone(&link)));
    }
}

/// Both directions until one ends or the link is cut; then both are closed.
async fn connection(forwarder: UnixStream, recorder: UnixStream, link: Arc<Link>) {
    let mut cut = link.cuts.subscribe();
    let (from_forwarder, to_forwarder) = forwarder.into_split();
    let (from_recorder, to_recorder) = recorder.into_split();
    tokio::select! {
        () = copy(from_forwarder, to_recorder, &link) => {}
        () = copy(from_recorder, to_forwarder, &link) => {}
        _ = cut.changed() => { link.cut.fetch_add(1, Ordering::Relaxed); }
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: &Link) {
    let mut buffer = vec![0; BUFFER];
    while let Ok(len @ 1..) = from.read(&mut buffer).await {
        while link.stalled.load(Ordering::Relaxed) {
            sleep(LOOK).await;
        }
        let passes = link.pass(len);
        if to.write_all(&buffer[..passes]).await.is_err() || passes < len {
            // The cut, if it is one, ends both directions.
            break;
        }
    }
}
