//! Moving a stream's payload one way.
//!
//! What comes next is decided by the machine in `forwarder_core::session`; here it is done.

use std::ops::Deref;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Instant;
use std::{io, mem};

use forwarder_core::config::Tcp;
use forwarder_core::session::{Flow, Outcome, Route, Step};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvFlags, SendFlags, recv, send};
use schemas::vocab::Direction;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::meter::Meter;
use super::pipes::Lent;
use super::thread::DataThread;

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

/// One direction of a TCP session. It holds a buffer or a pipe only while payload is in it.
#[derive(Debug)]
pub(crate) struct Pump {
    direction: Direction,
    flow: Flow,
    hand: Hand,
    nagle: Nagle,
    silence: Silence,
}

/// Most bytes that are one segment on every path, whose packets have 576 bytes at least (RFC 1122).
const ONE_SEGMENT: usize = 536;

/// Whether the receiver's kernel holds back small segments (Nagle's algorithm) until what was sent
/// before them is acknowledged. It makes no difference to a first write of one segment, and many
/// connections have no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nagle {
    OnAndUnused,
    On,
    Off,
}

/// How sure it is that a sender we wait for has nothing. A short read says so, except where it ended
/// at the mark of urgent data (tcp(7)): no event tells of what lies behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// Nothing was read yet, or nobody had anything when it was asked again.
    Sure,
    Assumed,
    /// The sender is to be read, until it has nothing, though no event says that it has something.
    Doubted,
}

/// What a direction works with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Side<'a> {
    pub(crate) from: &'a TcpStream,
    pub(crate) to: &'a TcpStream,
    pub(crate) meter: &'a Meter,
    pub(crate) thread: &'a DataThread,
    pub(crate) tcp: &'a Tcp,
    pub(crate) now: Instant,
}

/// Where payload is that was received and is not delivered.
#[derive(Debug)]
enum Hand {
    Empty,
    Buffer { buffer: Box<[u8]>, next: usize },
    Pipe(Lent),
}

impl Pump {
    /// The direction up: its receiver is a socket of ours with no options set.
    pub(crate) fn to_target(route: Route) -> Self {
        Self::new(Direction::Up, route, Nagle::OnAndUnused)
    }

    /// The direction down: its receiver has its listener's options.
    pub(crate) fn to_client(route: Route) -> Self {
        Self::new(Direction::Down, route, Nagle::Off)
    }

    fn new(direction: Direction, route: Route, nagle: Nagle) -> Self {
        let (flow, hand, silence) = (Flow::new(route), Hand::Empty, Silence::Sure);
        Self { direction, flow, hand, nagle, silence }
    }

    /// Whether the sender should be asked again some time if no event comes.
    pub(crate) fn is_unsure(&self) -> bool {
        self.silence == Silence::Assumed && self.flow.step() == Step::AwaitReadable
    }

    /// Asks the sender at the next poll, event or not, if its silence was only assumed.
    pub(crate) fn doubt(&mut self) {
        if self.is_unsure() {
            self.silence = Silence::Doubted;
            self.flow.handle(Outcome::Doubted);
        }
    }

    /// Whether a reset of the sender would show by itself.
    pub(crate) fn is_reading(&self) -> bool {
        self.flow.is_reading()
    }

    /// Moves payload until neither side is ready, or the sender finishes, or a side fails, or
    /// `budget` steps are done; then it comes back at once, after the other tasks.
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        side: Side<'_>,
        mut budget: u32,
    ) -> Poll<Halt> {
        loop {
            if self.flow.step() == Step::Finish {
                return Poll::Ready(Halt::Finished);
            }
            if budget == 0 {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            budget -= 1;
            match ready!(self.poll_step(cx, side)) {
                Ok(outcome) => self.flow.handle(outcome),
                Err(halt) => return Poll::Ready(halt),
            }
        }
    }

    fn poll_step(&mut self, cx: &mut Context<'_>, side: Side<'_>) -> Poll<Result<Outcome, Halt>> {
        let done = match self.flow.step() {
            step @ (Step::Read | Step::Fill) => match side.meter.poll_room(cx, self.direction) {
                Poll::Pending => Ok(Outcome::NoRoom),
                Poll::Ready(room) if step == Step::Read => self.read(side, room),
                Poll::Ready(room) => self.fill(side, room),
            },
            Step::Write(bytes) => self.write(side, bytes),
            Step::TakePipe => Ok(self.take_pipe(side)),
            Step::Clear(bytes) => Ok(self.clear(side, bytes)),
            Step::Drain(bytes) => self.drain(side, bytes),
            Step::ReturnPipe => Ok(self.return_pipe()),
            Step::AwaitReadable => match ready!(side.from.poll_read_ready(cx)) {
                Ok(()) => Ok(Outcome::Ready),
                Err(error) => Err(Halt::ReadFailed(errno(&error))),
            },
            Step::AwaitWritable => match ready!(side.to.poll_write_ready(cx)) {
                Ok(()) => Ok(Outcome::Ready),
                Err(error) => Err(Halt::WriteFailed(errno(&error))),
            },
            Step::AwaitRoom => {
                ready!(side.meter.poll_room(cx, self.direction));
                Ok(Outcome::Ready)
            }
            Step::Finish => return Poll::Pending,
        };
        Poll::Ready(done)
    }

    /// Reads at most `room` bytes, at least one.
    fn read(&mut self, side: Side<'_>, room: usize) -> Result<Outcome, Halt> {
        let mut buffer = side.thread.buffers.take(side.tcp.buffer_bytes);
        let space = buffer.len().min(room);
        let (mut bytes, mut asked) = (0, false);
        let doubted = self.silence == Silence::Doubted;
        let mut receive = || {
            asked = true;
            bytes = retry_on_intr(|| recv(side.from, &mut buffer[..space], RecvFlags::empty()))?.0;
            // A short read has emptied the socket: it need not be asked again to know that it would
            // block. The runtime keeps in mind that the sender has closed, if it has.
            if (1..space).contains(&bytes) { Err(blocks()) } else { Ok(()) }
        };
        let read = if doubted { receive() } else { side.from.try_io(Interest::READABLE, receive) };
        if bytes > 0 {
            if read.is_err() {
                self.silence = Silence::Assumed;
            }
            side.meter.received(self.direction, &buffer[..bytes], side.now);
            self.hand = Hand::Buffer { buffer, next: 0 };
            return Ok(Outcome::Received { bytes, drained: read.is_err() });
        }
        side.thread.buffers.put(buffer);
        side.meter.received_nothing(self.direction, side.now);
        if asked {
            self.silence = Silence::Sure;
        }
        match read {
            Ok(()) => Ok(Outcome::Ended),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Outcome::Nothing),
            Err(error) => Err(Halt::ReadFailed(errno(&error))),
        }
    }

    fn write(&mut self, side: Side<'_>, held: usize) -> Result<Outcome, Halt> {
        self.send_small_segments_at_once(side.to, held);
        let Hand::Buffer { buffer, next } = &mut self.hand else {
            return Err(Halt::WriteFailed(0));
        };
        let rest = &buffer[*next..*next + held];
        let written = side.to.try_io(Interest::WRITABLE, || {
            Ok(retry_on_intr(|| send(side.to, rest, SendFlags::NOSIGNAL))?)
        });
        let bytes = match written {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Outcome::Blocked),
            Err(error) => return Err(Halt::WriteFailed(errno(&error))),
        };
        side.meter.delivered(self.direction, bytes, side.now);
        *next += bytes;
        if bytes == held {
            self.empty_hand(side);
        }
        Ok(Outcome::Moved(bytes))
    }

    /// To be called before each write, of so many `bytes`.
    fn send_small_segments_at_once(&mut self, to: &TcpStream, bytes: usize) {
        self.nagle = match self.nagle {
            Nagle::OnAndUnused if bytes <= ONE_SEGMENT => Nagle::On,
            Nagle::OnAndUnused | Nagle::On => {
                if let Err(error) = to.set_nodelay(true) {
                    tracing::trace!(%error, "small segments wait for acknowledgements");
                }
                Nagle::Off
            }
            Nagle::Off => return,
        };
    }

    fn empty_hand(&mut self, side: Side<'_>) {
        if let Hand::Buffer { buffer, .. } = mem::replace(&mut self.hand, Hand::Empty) {
            side.thread.buffers.put(buffer);
        }
    }

    fn take_pipe(&mut self, side: Side<'_>) -> Outcome {
        if side.thread.shared.counters.splice_denied.load(Ordering::Relaxed) > 0 {
            return Outcome::Denied;
        }
        match side.thread.pipes.lend(side.tcp.pipe_bytes) {
            Some(pipe) => {
                self.hand = Hand::Pipe(pipe);
                Outcome::PipeTaken
            }
            None => Outcome::PipeRefused,
        }
    }

    /// Splices at most `room` bytes into the pipe, at least one.
    fn fill(&mut self, side: Side<'_>, room: usize) -> Result<Outcome, Halt> {
        let Hand::Pipe(pipe) = &self.hand else { return Ok(Outcome::Denied) };
        let filled = match self.silence {
            Silence::Doubted => pipe.fill(side.from, room),
            Silence::Sure | Silence::Assumed => {
                side.from.try_io(Interest::READABLE, || pipe.fill(side.from, room))
            }
        };
        if !matches!(filled, Ok(1..)) {
            side.meter.received_nothing(self.direction, side.now);
        }
        match filled {
            Ok(0) => Ok(Outcome::Ended),
            Ok(bytes) => {
                side.meter.received_in_pipe(self.direction, bytes, side.now);
                Ok(Outcome::Received { bytes, drained: false })
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.silence = Silence::Assumed;
                Ok(Outcome::Nothing)
            }
            Err(error) if is_denial(&error) => {
                side.thread.shared.counters.splice_denied.store(1, Ordering::Relaxed);
                Ok(Outcome::Denied)
            }
            Err(error) => Err(Halt::ReadFailed(errno(&error))),
        }
    }

    fn clear(&self, side: Side<'_>, bytes: usize) -> Outcome {
        let Hand::Pipe(pipe) = &self.hand else { return Outcome::Cleared(0) };
        Outcome::Cleared(side.meter.kept_from_pipe(self.direction, pipe.reader(), bytes, side.now))
    }

    fn drain(&mut self, side: Side<'_>, bytes: usize) -> Result<Outcome, Halt> {
        self.send_small_segments_at_once(side.to, bytes);
        let Hand::Pipe(pipe) = &self.hand else { return Err(Halt::WriteFailed(0)) };
        match side.to.try_io(Interest::WRITABLE, || pipe.drain(side.to, bytes)) {
            Ok(bytes) => {
                side.meter.delivered(self.direction, bytes, side.now);
                Ok(Outcome::Moved(bytes))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Outcome::Blocked),
            Err(error) => Err(Halt::WriteFailed(errno(&error))),
        }
    }

    fn return_pipe(&mut self) -> Outcome {
        if let Hand::Pipe(pipe) = mem::replace(&mut self.hand, Hand::Empty) {
            pipe.give_back();
        }
        Outcome::PipeReturned
    }
}

/// Waits until a connection that nobody reads breaks, and gives the error number. Cancel-safe.
pub(crate) async fn broken(stream: impl Deref<Target = TcpStream>) -> i32 {
    let error = stream.async_io(Interest::ERROR, || match stream.take_error()? {
        Some(error) => Ok(error),
        None => Err(blocks()),
    });
    match error.await {
        Ok(error) | Err(error) => errno(&error),
    }
}

fn blocks() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}

/// Whether splice(2) is refused to the whole process: a seccomp filter, or a kernel without it.
fn is_denial(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    matches!(errno, Some(Errno::PERM | Errno::NOSYS | Errno::INVAL))
}

/// The error number; 0 for an error that the kernel did not give.
pub(crate) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_a_long_first_write_waits_for_no_acknowledgement() {
        for (writes, expected) in [(&[ONE_SEGMENT][..], false), (&[1, 1], true), (&[2000], true)] {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let to = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let mut pump = Pump::to_target(Route::Adaptive);
            writes.iter().for_each(|&bytes| pump.send_small_segments_at_once(&to, bytes));
            assert_eq!(to.nodelay().unwrap(), expected, "{writes:?}");
        }
    }
}
