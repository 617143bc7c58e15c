//! Moving a stream's payload one way.

use std::io;

use schemas::vocab::Direction;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::coop::consume_budget;

use super::buffers::Buffers;
use super::meter::Meter;

/// Why payload no longer moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Halt {
    /// The sender sent FIN; everything before it is delivered.
    Finished,
    /// Reading from the sender gave this error number.
    ReadFailed(i32),
    /// Writing to the receiver gave this error number.
    WriteFailed(i32),
}

/// One direction of a TCP session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pump<'a> {
    pub(crate) direction: Direction,
    pub(crate) from: &'a TcpStream,
    pub(crate) to: &'a TcpStream,
    pub(crate) meter: &'a Meter,
    pub(crate) buffers: &'a Buffers,
}

impl Pump<'_> {
    /// Moves payload until the sender finishes or a side fails. Not cancel-safe: payload in hand
    /// is lost with it, which only the end of the session may bring about.
    pub(crate) async fn run(self) -> Halt {
        loop {
            if let Err(error) = self.from.readable().await {
                return Halt::ReadFailed(errno(&error));
            }
            if let Some(halt) = self.step().await {
                return halt;
            }
            consume_budget().await;
        }
    }

    /// One read and the writes that follow from it.
    async fn step(&self) -> Option<Halt> {
        let mut buffer = self.buffers.lend();
        let payload = match self.from.try_read(&mut buffer) {
            Ok(0) => return Some(Halt::Finished),
            Ok(len) => &buffer[..len],
            Err(error) if is_transient(&error) => return None,
            Err(error) => return Some(Halt::ReadFailed(errno(&error))),
        };
        self.meter.received(self.direction, payload);
        let mut rest = payload;
        while !rest.is_empty() {
            match self.to.try_write(rest) {
                Ok(len) => {
                    self.meter.delivered(self.direction, len);
                    rest = &rest[len..];
                }
                Err(error) if is_transient(&error) => {
                    if let Some(halt) = self.blocked().await {
                        return Some(halt);
                    }
                }
                Err(error) => return Some(Halt::WriteFailed(errno(&error))),
            }
        }
        None
    }

    /// Waits until the receiver takes more. The sender is not read meanwhile, so its reset must be
    /// looked for.
    async fn blocked(&self) -> Option<Halt> {
        // Both branches are cancel-safe: they only wait for readiness.
        tokio::select! {
            biased;
            writable = self.to.writable() => {
                writable.err().map(|error| Halt::WriteFailed(errno(&error)))
            }
            errno = broken(self.from) => Some(Halt::ReadFailed(errno)),
        }
    }
}

/// Waits until a connection that nobody reads breaks, and gives the error number. Cancel-safe.
pub(crate) async fn broken(stream: &TcpStream) -> i32 {
    let error = stream.async_io(Interest::ERROR, || match stream.take_error()? {
        Some(error) => Ok(error),
        None => Err(io::ErrorKind::WouldBlock.into()),
    });
    match error.await {
        Ok(error) | Err(error) => errno(&error),
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// The error number; 0 for an error that the kernel did not give.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}
