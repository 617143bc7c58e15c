//! The side that asks: one request, one answer.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request};
use schemas::exit::{Exit, Failure};

/// Longest answer, in bytes: as many sessions as one may hold, with long names.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// How long the forwarder may take: longer than it gives itself.
const PATIENCE: Duration = Duration::from_secs(40);

/// Asks the forwarder that listens on `socket`.
///
/// # Errors
/// Nobody answers there, or somebody who is no forwarder (69), we may not ask (77), or the forwarder
/// refuses (the code that it says).
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, Failure> {
    let line = exchange(socket, request).map_err(|error| unanswered(socket, &error))?;
    match serde_json::from_str(&line) {
        Ok(Answer::Error(complaint)) => {
            Err(Failure::new(Exit::from_code(complaint.exit), complaint.message))
        }
        Ok(answer) => Ok(answer),
        Err(error) => {
            let text = format!(
                "{} answers, but not as forwarder {} does: is it another program's socket? ({error})",
                socket.display(),
                env!("CARGO_PKG_VERSION"),
            );
            Err(Failure::new(Exit::Unreachable, text))
        }
    }
}

fn exchange(socket: &Path, request: &Request) -> io::Result<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    // Who is turned away finds the reason in the socket, though nobody waited for the question.
    match stream.write_all(line.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(error),
        _ => {}
    }
    let mut answer = String::new();
    BufReader::new(stream.take(MAX_ANSWER_BYTES)).read_line(&mut answer)?;
    match answer.ends_with('\n') {
        true => Ok(answer),
        false => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn unanswered(socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    let (exit, text) = match error.kind() {
        io::ErrorKind::NotFound => (
            Exit::Unreachable,
            format!(
                "no forwarder runs here: there is no admin socket {path}; is it another file (-c) or socket (--socket)?"
            ),
        ),
        io::ErrorKind::ConnectionRefused => (
            Exit::Unreachable,
            format!(
                "no forwarder runs here: nobody listens on the admin socket {path}; start it with forwarder run"
            ),
        ),
        io::ErrorKind::PermissionDenied => (
            Exit::Permission,
            format!(
                "the admin socket {path} may be used by its owner and group: try sudo, or join the group weir"
            ),
        ),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => (
            Exit::Unreachable,
            format!(
                "the forwarder behind the admin socket {path} did not answer in {} s",
                PATIENCE.as_secs()
            ),
        ),
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionReset => (
            Exit::Unreachable,
            format!("the forwarder behind the admin socket {path} went away before it answered"),
        ),
        io::ErrorKind::InvalidData => (
            Exit::Unreachable,
            format!("{path} answers, but not as a forwarder does: is it another program's socket?"),
        ),
        _ => {
            (Exit::Io, format!("cannot talk to the forwarder on the admin socket {path}: {error}"))
        }
    };
    Failure::new(exit, text)
}
