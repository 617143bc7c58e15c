//! The side that answers: accepts, reads lines, and gives each to a handler.

use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::{Answer, Complaint, MAX_REQUEST_BYTES, Request};
use schemas::exit::{Exit, Failure};

/// Connections served at once; more are told so and closed.
const MAX_CONNECTIONS: usize = 16;

/// How long a peer may take to send a request, or to take an answer.
const PEER_PATIENCE: Duration = Duration::from_secs(5);

/// How long a request may take us; a reload binds sockets and reads a file.
const WORK_PATIENCE: Duration = Duration::from_secs(30);

/// How long accepting pauses when the system is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound admin socket. Its file goes when the server is dropped.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
}

impl Server {
    /// Binds the socket, mode 0660, of group `weir` if there is one and we may give it. A file
    /// that nobody listens on is replaced. Must be called within a runtime.
    ///
    /// # Errors
    /// Another forwarder answers there, something else is in the way, or the directory is not
    /// ours to write.
    pub fn bind(path: &Path) -> Result<Self, Failure> {
        let attempt = format!("cannot listen on the admin socket {}", path.display());
        let failed = |error: io::Error| Failure::io(&error, &attempt);
        make_room(path, &attempt)?;
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => {
                Failure::new(Exit::Unreachable, format!("{attempt}: another program was faster"))
            }
            _ => failed(error),
        })?;
        let server = Self { listener, path: path.to_owned() };
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
        if let Ok(Some(group)) = nix::unistd::Group::from_name("weir") {
            // Without it, our own group may ask, which is right where there is no other.
            if let Err(error) = std::os::unix::fs::chown(path, None, Some(group.gid.as_raw())) {
                tracing::debug!(%error, "the admin socket stays with our own group");
            }
        }
        Ok(server)
    }

    /// Answers requests through `handle`, until the future is dropped; running answers are cut
    /// off then. Cancel-safe.
    pub async fn serve<H, F>(self, handle: H)
    where
        H: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Answer> + Send + 'static,
    {
        let handle = Arc::new(handle);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "the admin socket cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            match Arc::clone(&permits).try_acquire_owned() {
                Ok(permit) => {
                    let handle = Arc::clone(&handle);
                    connections.spawn(async move {
                        converse(stream, &*handle).await;
                        drop(permit);
                    });
                }
                Err(_) => turn_away(&stream),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; either way the next start replaces it.
        drop(std::fs::remove_file(&self.path));
    }
}

/// Removes a socket that nobody listens on any more, and makes the directory it goes to.
fn make_room(path: &Path, attempt: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::io(&error, attempt);
    let metadata = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let directory = path.parent().unwrap_or(Path::new("/"));
            return make_directories(directory).map_err(failed);
        }
        other => other.map_err(failed)?,
    };
    let in_the_way = |what: &str| Failure::new(Exit::Unreachable, format!("{attempt}: {what}"));
    if !metadata.file_type().is_socket() {
        return Err(in_the_way("something that is no socket has that name; move it away"));
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => Err(in_the_way(
            "a running forwarder answers there; stop it, or give this one another admin.socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(failed)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Makes a directory, and those above it that are not there, for our group to pass whatever the
/// umask is: who may use the socket must be able to reach it.
fn make_directories(directory: &Path) -> io::Result<()> {
    let missing: Vec<_> = directory
        .ancestors()
        .filter(|path| !path.as_os_str().is_empty())
        .take_while(|path| !path.exists())
        .collect();
    for path in missing.into_iter().rev() {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            // Somebody was faster, and says who may pass.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                made?;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o750))?;
            }
        }
    }
    Ok(())
}

/// Answers one connection's requests until it ends, errs, or takes too long.
async fn converse<H, F>(stream: UnixStream, handle: &H)
where
    H: Fn(Request) -> F,
    F: Future<Output = Answer>,
{
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(MAX_REQUEST_BYTES));
    while let Ok(Some(line)) = timeout(PEER_PATIENCE, lines.next()).await {
        let (answer, go_on) = match line {
            Ok(line) => (answer(&line, handle).await, true),
            Err(LinesCodecError::MaxLineLengthExceeded) => {
                let text = format!("a request has at most {MAX_REQUEST_BYTES} bytes");
                (complaint(Exit::Usage, text), false)
            }
            Err(LinesCodecError::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
                (complaint(Exit::Usage, "a request is UTF-8 text".to_owned()), false)
            }
            Err(LinesCodecError::Io(_)) => return,
        };
        let sent = timeout(PEER_PATIENCE, lines.send(to_line(&answer))).await;
        if !go_on || !matches!(sent, Ok(Ok(()))) {
            return;
        }
    }
}

async fn answer<H, F>(line: &str, handle: &H) -> Answer
where
    H: Fn(Request) -> F,
    F: Future<Output = Answer>,
{
    let request = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(error) => {
            let version = env!("CARGO_PKG_VERSION");
            let text = format!("forwarder {version} does not understand the request: {error}");
            return complaint(Exit::Usage, text);
        }
    };
    match timeout(WORK_PATIENCE, handle(request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let text = format!("the forwarder found no answer in {} s", WORK_PATIENCE.as_secs());
            complaint(Exit::Bug, text)
        }
    }
}

/// Tells a peer that there are too many, if it takes that without waiting.
fn turn_away(stream: &UnixStream) {
    let text = format!("{MAX_CONNECTIONS} others ask already; try again in a moment");
    let line = to_line(&complaint(Exit::Unreachable, text)) + "\n";
    if let Err(error) = stream.try_write(line.as_bytes()) {
        tracing::debug!(%error, "an admin connection beyond the limit was closed unanswered");
    }
}

fn complaint(exit: Exit, message: String) -> Answer {
    Answer::Error(Complaint { exit: exit.code(), message })
}

fn to_line(answer: &Answer) -> String {
    serde_json::to_string(answer).expect("answers have text keys and no fractions")
}
