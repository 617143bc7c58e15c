//! The side that answers scrapes: HTTP/1, one request a connection, nothing but GET and HEAD.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use schemas::exit::{Exit, Failure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Connections served at once; more are closed unanswered.
const MAX_CONNECTIONS: usize = 16;

/// Longest head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 8 << 10;

/// How long a peer may take to send a request, or to take an answer.
const PEER_PATIENCE: Duration = Duration::from_secs(5);

/// How long accepting pauses when the system is short of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound address of `admin.metrics`.
#[derive(Debug)]
pub(crate) struct Server {
    listener: TcpListener,
}

impl Server {
    /// Binds the address. Must be called within a runtime.
    ///
    /// # Errors
    /// It cannot be bound.
    pub(crate) fn bind(address: SocketAddr) -> Result<Self, Failure> {
        let bind = || -> io::Result<TcpListener> {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        };
        let listener = bind().map_err(|error| {
            let exit = match error.kind() {
                io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Unreachable,
            };
            let help = "free it, or give admin.metrics another address";
            Failure::new(exit, format!("cannot serve metrics on {address}: {error}; {help}"))
        })?;
        Ok(Self { listener })
    }

    /// The address, with the port that the kernel chose if the configuration left it open.
    ///
    /// # Errors
    /// What the system says.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Answers with what `render` makes, until the future is dropped; running answers are cut off
    /// then. `render` runs where it holds up nobody. Cancel-safe.
    pub(crate) async fn serve(self, render: impl Fn() -> String + Send + Sync + 'static) {
        let render = Arc::new(render);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "admin.metrics cannot accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = Arc::clone(&permits).try_acquire_owned() else { continue };
            let render = Arc::clone(&render);
            connections.spawn(async move {
                // Whoever does not ask, or does not listen, gets no answer.
                drop(converse(stream, render).await);
                drop(permit);
            });
        }
    }
}

async fn converse<R>(mut stream: TcpStream, render: Arc<R>) -> io::Result<()>
where
    R: Fn() -> String + Send + Sync + 'static,
{
    let head = timeout(PEER_PATIENCE, head(&mut stream)).await??;
    let answer = match head {
        Some(head) => match asked(&head) {
            Asked::Metrics { with_body } => {
                let body = tokio::task::spawn_blocking(move || render()).await;
                let body = body.map_err(io::Error::other)?;
                answer("200 OK", OPEN_METRICS, &body, with_body)
            }
            Asked::Health { with_body } => answer("200 OK", PLAIN, "ok\n", with_body),
            Asked::Other { with_body } => {
                answer("404 Not Found", PLAIN, "metrics are at /metrics\n", with_body)
            }
            Asked::Forbidden => {
                answer("405 Method Not Allowed", PLAIN, "only GET and HEAD\n", true)
            }
            Asked::Nothing => answer("400 Bad Request", PLAIN, "this is no HTTP/1\n", true),
        },
        None => {
            let status = "431 Request Header Fields Too Large";
            answer(status, PLAIN, "a request has at most 8 KiB\n", true)
        }
    };
    timeout(PEER_PATIENCE, stream.write_all(answer.as_bytes())).await??;
    timeout(PEER_PATIENCE, stream.shutdown()).await?
}

/// The head of the request; `None`: it is longer than it may be.
async fn head(stream: &mut TcpStream) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while head.len() <= MAX_HEAD_BYTES {
        let bytes = stream.read(&mut part).await?;
        head.extend_from_slice(&part[..bytes]);
        let is_whole = head.windows(4).any(|end| end == b"\r\n\r\n")
            || head.windows(2).any(|end| end == b"\n\n");
        if is_whole || bytes == 0 {
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
    }
    Ok(None)
}

/// What a request wants.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics { with_body: bool },
    Health { with_body: bool },
    Other { with_body: bool },
    Forbidden,
    Nothing,
}

fn asked(head: &str) -> Asked {
    let line = head.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(method), Some(path), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Asked::Nothing;
    };
    if !version.starts_with("HTTP/1.") || !path.starts_with('/') {
        return Asked::Nothing;
    }
    let with_body = match method {
        "GET" => true,
        "HEAD" => false,
        _ => return Asked::Forbidden,
    };
    match path.split('?').next() {
        Some("/metrics") => Asked::Metrics { with_body },
        Some("/healthz") => Asked::Health { with_body },
        _ => Asked::Other { with_body },
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; charset=utf-8";

fn answer(status: &str, kind: &str, body: &str, with_body: bool) -> String {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n{allow}\
         Connection: close\r\n\r\n{}",
        body.len(),
        if with_body { body } else { "" }
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    /// What a server of ours answers to each of these, on a connection each.
    fn answers(requests: &'static [&'static [u8]]) -> Vec<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = server.address().unwrap();
            let asking = tokio::task::spawn_blocking(move || {
                requests.iter().map(|request| ask(address, request)).collect()
            });
            tokio::select! {
                () = server.serve(|| "# EOF\n".to_owned()) => unreachable!("it serves for ever"),
                answers = timeout(BOUND, asking) => answers.unwrap().unwrap(),
            }
        })
    }

    fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        // It may have had enough before all is sent.
        drop(stream.write_all(request));
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer));
        String::from_utf8(answer).unwrap()
    }

    #[test]
    fn only_metrics_and_health_are_there_to_get() {
        let answers = answers(&[
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            b"HEAD /metrics?name=x HTTP/1.0\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\n\r\n",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            b"\x16\x03\x01\x02\x00\n\n",
        ]);
        insta::assert_snapshot!(answers.join("=====\n").replace('\r', ""), @r"
        HTTP/1.1 200 OK
        Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8
        Content-Length: 6
        Connection: close

        # EOF
        =====
        HTTP/1.1 200 OK
        Content-Type: application/openmetrics-text; version=1.0.0; charset=utf-8
        Content-Length: 6
        Connection: close

        =====
        HTTP/1.1 200 OK
        Content-Type: text/plain; charset=utf-8
        Content-Length: 3
        Connection: close

        ok
        =====
        HTTP/1.1 404 Not Found
        Content-Type: text/plain; charset=utf-8
        Content-Length: 24
        Connection: close

        metrics are at /metrics
        =====
        HTTP/1.1 405 Method Not Allowed
        Content-Type: text/plain; charset=utf-8
        Content-Length: 18
        Allow: GET, HEAD
        Connection: close

        only GET and HEAD
        =====
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Content-Length: 18
        Connection: close

        this is no HTTP/1
        =====
        HTTP/1.1 400 Bad Request
        Content-Type: text/plain; charset=utf-8
        Content-Length: 18
        Connection: close

        this is no HTTP/1
        ");
    }

    #[test]
    fn a_head_without_end_is_cut_off() {
        let long: &'static [u8] = vec![b'x'; MAX_HEAD_BYTES + 2048].leak();
        let requests: &'static [&'static [u8]] = vec![long].leak();
        // The answer may be lost with the connection, because more was sent than was read.
        let answer = answers(requests).remove(0);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    }

    #[test]
    fn an_address_in_use_is_told_by_name() {
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = held.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let failure = runtime.block_on(async { Server::bind(address) }).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains(&format!("metrics on {address}")), "{failure}");
    }
}
