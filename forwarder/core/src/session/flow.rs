//! One direction of a TCP session: which of copy and splice moves its payload next.
//!
//! A flow begins by copying through a buffer, which is cheapest for little payload. Once it has
//! carried [`SUSTAINED_BYTES`] and its reads are large it splices through a pipe, which moves pages
//! instead of bytes; when its fills become small it copies again. A pipe is filled only when it is
//! empty, so that "would block" can only mean that the sender has nothing; then the pipe goes back,
//! and a quiet flow holds neither buffer nor pipe.
//!
//! The shell does what [`Flow::step`] says and reports the [`Outcome`]; the machine keeps the order:
//! what was received first is delivered first, and nothing is read before that is done. While
//! [`Flow::is_reading`] says no, a reset of the sender does not show by itself.

/// Payload after which a flow may splice, in bytes.
const SUSTAINED_BYTES: usize = 64 * 1024;
/// Reads and fills of at least so many bytes are large.
const LARGE_BYTES: usize = 4 * 1024;
/// Large reads in a row after which a flow splices, and small fills in a row after which it no
/// longer does.
const IN_A_ROW: u8 = 2;
/// Payload that a flow copies after it got no pipe, before it asks for one again, in bytes.
const RETRY_BYTES: usize = 1024 * 1024;

/// Which ways a flow may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Route {
    /// Copy, then splice while payload keeps coming.
    #[default]
    Adaptive,
    /// Copy and nothing else.
    Copy,
    /// Splice from the first byte on, for as long as pipes are to be had.
    Splice,
}

/// What to do next. Each has the outcomes named with it; any may also fail, which ends the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Read from the sender into a buffer: [`Outcome::Received`], [`Outcome::Nothing`],
    /// [`Outcome::Ended`], [`Outcome::NoRoom`].
    Read,
    /// Write what is left in the buffer, so many bytes: [`Outcome::Moved`], [`Outcome::Blocked`].
    Write(usize),
    /// Take a pipe from the pool: [`Outcome::PipeTaken`], [`Outcome::PipeRefused`],
    /// [`Outcome::Denied`].
    TakePipe,
    /// Splice from the sender into the empty pipe: [`Outcome::Received`], [`Outcome::Nothing`],
    /// [`Outcome::Ended`], [`Outcome::NoRoom`], [`Outcome::Denied`].
    Fill,
    /// Ask the capture how many of the so many bytes in the pipe may move on: [`Outcome::Cleared`].
    Clear(usize),
    /// Splice at most so many bytes from the pipe to the receiver: [`Outcome::Moved`],
    /// [`Outcome::Blocked`].
    Drain(usize),
    /// Give the empty pipe back to the pool: [`Outcome::PipeReturned`].
    ReturnPipe,
    /// Wait until the sender has something: [`Outcome::Ready`], [`Outcome::Doubted`].
    AwaitReadable,
    /// Wait until the receiver takes something: [`Outcome::Ready`].
    AwaitWritable,
    /// Wait until the capture has room: [`Outcome::Ready`].
    AwaitRoom,
    /// Nothing: the sender has finished and everything is delivered.
    Finish,
}

/// What came of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// So many bytes were read or spliced in, at least one.
    Received {
        /// How many.
        bytes: usize,
        /// The sender has nothing more at the moment.
        drained: bool,
    },
    /// The sender has nothing at the moment.
    Nothing,
    /// The sender has finished.
    Ended,
    /// The capture has no room: nothing was read.
    NoRoom,
    /// The receiver took so many bytes.
    Moved(usize),
    /// The receiver takes nothing at the moment.
    Blocked,
    /// There is a pipe.
    PipeTaken,
    /// There is no pipe to be had.
    PipeRefused,
    /// The pipe is back.
    PipeReturned,
    /// This process may not splice; nothing was moved.
    Denied,
    /// So many bytes at the head of the pipe may move on; 0: none.
    Cleared(usize),
    /// What was waited for has come.
    Ready,
    /// The sender has been silent for a while, and may have been misheard.
    Doubted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Read,
    Write { held: usize, drained: bool },
    TakePipe,
    Fill,
    Clear { held: usize },
    Drain { held: usize, cleared: usize },
    ReturnPipe(Next),
    AwaitReadable,
    AwaitWritable(Held),
    AwaitRoom { held: usize },
    Finished,
}

/// What follows when the pipe is back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Read,
    AwaitReadable,
    AwaitRoom,
}

/// What a blocked receiver is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Buffer { held: usize, drained: bool },
    Pipe { held: usize, cleared: usize },
}

/// The state of one direction.
#[derive(Debug, Clone)]
pub struct Flow {
    state: State,
    route: Route,
    splices: bool,
    /// Reads or fills in a row that speak for the other way.
    in_a_row: u8,
    /// Bytes to copy before splicing comes into question.
    to_copy: usize,
}

impl Flow {
    /// A flow that has moved nothing yet.
    pub fn new(route: Route) -> Self {
        let splices = route == Route::Splice;
        let state = State::AwaitReadable;
        Self { state, route, splices, in_a_row: 0, to_copy: SUSTAINED_BYTES }
    }

    /// What to do next.
    pub fn step(&self) -> Step {
        match self.state {
            State::Read => Step::Read,
            State::Write { held, .. } => Step::Write(held),
            State::TakePipe => Step::TakePipe,
            State::Fill => Step::Fill,
            State::Clear { held } => Step::Clear(held),
            State::Drain { cleared, .. } => Step::Drain(cleared),
            State::ReturnPipe(_) => Step::ReturnPipe,
            State::AwaitReadable => Step::AwaitReadable,
            State::AwaitWritable(_) => Step::AwaitWritable,
            State::AwaitRoom { .. } => Step::AwaitRoom,
            State::Finished => Step::Finish,
        }
    }

    /// Whether the sender is read, or waited for, so that its reset shows by itself.
    pub fn is_reading(&self) -> bool {
        match self.state {
            State::AwaitWritable(_) | State::AwaitRoom { .. } | State::Finished => false,
            State::Read
            | State::Write { .. }
            | State::TakePipe
            | State::Fill
            | State::Clear { .. }
            | State::Drain { .. }
            | State::ReturnPipe(_)
            | State::AwaitReadable => true,
        }
    }

    /// Takes the outcome of the last step. An outcome that the step cannot have changes nothing.
    pub fn handle(&mut self, outcome: Outcome) {
        self.state = match (self.state, outcome) {
            (State::Read, Outcome::Received { bytes, drained }) => {
                self.copied(bytes);
                State::Write { held: bytes, drained }
            }
            (State::Read, Outcome::Nothing) => State::AwaitReadable,
            (State::Read, Outcome::Ended) => State::Finished,
            (State::Read, Outcome::NoRoom) => State::AwaitRoom { held: 0 },
            (State::Write { held, drained }, Outcome::Moved(bytes)) => match held - bytes.min(held)
            {
                0 if drained => State::AwaitReadable,
                0 => self.receive(),
                held => State::Write { held, drained },
            },
            (State::Write { held, drained }, Outcome::Blocked) => {
                State::AwaitWritable(Held::Buffer { held, drained })
            }
            (State::TakePipe, Outcome::PipeTaken) => State::Fill,
            (State::TakePipe, Outcome::Denied) => {
                self.never_splice();
                State::Read
            }
            (State::TakePipe, Outcome::PipeRefused) => {
                self.copy_for(RETRY_BYTES);
                State::Read
            }
            (State::Fill, Outcome::Received { bytes, .. }) => {
                self.filled(bytes);
                State::Clear { held: bytes }
            }
            (State::Fill, Outcome::Nothing) => State::ReturnPipe(Next::AwaitReadable),
            (State::Fill, Outcome::Ended) => {
                // splice(2) also says so at the mark of urgent data once the sender has finished:
                // a read passes the mark, or says the same.
                self.copy_for(SUSTAINED_BYTES);
                State::ReturnPipe(Next::Read)
            }
            (State::Fill, Outcome::NoRoom) => State::ReturnPipe(Next::AwaitRoom),
            (State::Fill, Outcome::Denied) => {
                self.never_splice();
                State::ReturnPipe(Next::Read)
            }
            (State::Clear { held }, Outcome::Cleared(0)) => State::AwaitRoom { held },
            (State::Clear { held }, Outcome::Cleared(bytes)) => {
                State::Drain { held, cleared: bytes.min(held) }
            }
            (State::Drain { held, cleared }, Outcome::Moved(bytes)) => {
                let bytes = bytes.min(cleared);
                self.drained(held - bytes, cleared - bytes)
            }
            (State::Drain { held, cleared }, Outcome::Blocked) => {
                State::AwaitWritable(Held::Pipe { held, cleared })
            }
            (State::ReturnPipe(next), Outcome::PipeReturned) => match next {
                Next::Read => State::Read,
                Next::AwaitReadable => State::AwaitReadable,
                Next::AwaitRoom => State::AwaitRoom { held: 0 },
            },
            (State::AwaitReadable | State::AwaitRoom { held: 0 }, Outcome::Ready) => self.receive(),
            (State::AwaitReadable, Outcome::Doubted) => {
                // splice(2) never passes the mark of urgent data; a read does.
                self.copy_for(SUSTAINED_BYTES);
                State::Read
            }
            (State::AwaitRoom { held }, Outcome::Ready) => State::Clear { held },
            (State::AwaitWritable(Held::Buffer { held, drained }), Outcome::Ready) => {
                State::Write { held, drained }
            }
            (State::AwaitWritable(Held::Pipe { held, cleared }), Outcome::Ready) => {
                State::Drain { held, cleared }
            }
            (state, _) => state,
        };
    }

    /// The way payload comes in next.
    fn receive(&self) -> State {
        if self.splices { State::TakePipe } else { State::Read }
    }

    /// What follows when so much is left in the pipe, and so much of it may move on.
    fn drained(&self, held: usize, cleared: usize) -> State {
        match (held, cleared) {
            (0, _) if self.splices => State::Fill,
            (0, _) => State::ReturnPipe(Next::Read),
            (held, 0) => State::Clear { held },
            (held, cleared) => State::Drain { held, cleared },
        }
    }

    fn copied(&mut self, bytes: usize) {
        self.to_copy = self.to_copy.saturating_sub(bytes);
        self.in_a_row = if bytes >= LARGE_BYTES { self.in_a_row.saturating_add(1) } else { 0 };
        let may_splice = match self.route {
            Route::Adaptive => self.in_a_row >= IN_A_ROW,
            Route::Copy => false,
            Route::Splice => true,
        };
        if may_splice && self.to_copy == 0 {
            self.splices = true;
            self.in_a_row = 0;
        }
    }

    fn filled(&mut self, bytes: usize) {
        self.in_a_row = if bytes < LARGE_BYTES { self.in_a_row.saturating_add(1) } else { 0 };
        if self.route == Route::Adaptive && self.in_a_row >= IN_A_ROW {
            self.copy_for(SUSTAINED_BYTES);
        }
    }

    fn copy_for(&mut self, bytes: usize) {
        self.splices = false;
        self.in_a_row = 0;
        self.to_copy = bytes;
    }

    fn never_splice(&mut self) {
        self.route = Route::Copy;
        self.copy_for(usize::MAX);
    }
}

#[cfg(test)]
mod tests;
