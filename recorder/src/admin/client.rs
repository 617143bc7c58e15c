//! The side that asks: `recorder status` and `recorder flush`.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Request};
use schemas::exit::{Exit, Failure};

/// How long a status may take.
const STATUS_WITHIN: Duration = Duration::from_secs(10);
/// How long a flush may take: it writes all that the log holds.
const FLUSH_WITHIN: Duration = Duration::from_secs(600);
/// Longest answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// Asks the recorder that listens on `socket`.
///
/// # Errors
/// Nobody listens there (69), we may not ask (77), it does not answer in time (74), or it complains
/// (as it says).
pub fn ask(socket: &Path, request: Request) -> Result<Answer, Failure> {
    let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, &error))?;
    let within = match request {
        Request::Status => STATUS_WITHIN,
        Request::Flush => FLUSH_WITHIN,
    };
    let line = converse(stream, request, within).map_err(|error| {
        let socket = socket.display();
        let seconds = within.as_secs();
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Failure::new(
                Exit::Io,
                format!("the recorder on {socket} did not answer within {seconds} s"),
            ),
            _ => {
                Failure::new(Exit::Io, format!("cannot talk to the recorder on {socket}: {error}"))
            }
        }
    })?;
    match serde_json::from_str(&line) {
        Ok(Answer::Error(complaint)) => {
            Err(Failure::new(Exit::from_code(complaint.exit), complaint.message))
        }
        Ok(answer) => Ok(answer),
        Err(error) => {
            let socket = socket.display();
            let message =
                format!("{socket} answers, but not as a recorder of this version: {error}");
            Err(Failure::new(Exit::Io, message))
        }
    }
}

fn converse(mut stream: UnixStream, request: Request, within: Duration) -> io::Result<String> {
    stream.set_write_timeout(Some(within))?;
    stream.set_read_timeout(Some(within))?;
    let request = serde_json::to_string(&request).expect("a request is a word");
    match stream.write_all(format!("{request}\n").as_bytes()) {
        // It was closed before it was asked; why it was may still be read.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    let mut line = String::new();
    if BufReader::new(stream).take(MAX_ANSWER_BYTES).read_line(&mut line)? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(line)
}

fn unreachable(socket: &Path, error: &io::Error) -> Failure {
    let path = socket.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Failure::new(
            Exit::Unreachable,
            format!(
                "no recorder listens on {path}: start it with `recorder run`, or name its socket \
                 with --socket"
            ),
        ),
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::Permission,
            format!(
                "we may not talk to the recorder on {path}: ask as root, as its user, or from its group"
            ),
        ),
        _ => {
            Failure::new(Exit::Unreachable, format!("cannot reach the recorder on {path}: {error}"))
        }
    }
}
