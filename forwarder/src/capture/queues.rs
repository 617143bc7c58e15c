//! The mover's end of the queues, and the sessions it carries.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use schemas::vocab::{Direction, PerDirection};
use schemas::wire::{CaptureData, CaptureOpen, Frame, FrameKind};

use super::inlet::Fifo;
use super::lane::{Captured, Chunk, Entry, Payload, Shared, as_u64};
use super::outbox::{Outbox, Unsaid};
use super::session::MAX_PIECE;

/// Most sessions that ended while the recorder was away and are told of when it is back.
const MAX_ENDED_AWAY: usize = 1 << 16;
/// What is thrown away at once, in bytes.
const SCRATCH_BYTES: usize = 64 << 10;

/// All queues, and where the sessions in them stand. Dropped, it closes the lane: sessions drop
/// their payload and wait for nothing.
pub(super) struct Queues {
    shared: Arc<Shared>,
    sources: Vec<Source>,
    /// The source that is asked next.
    turn: usize,
    running: HashMap<u64, Running>,
    ended_away: usize,
    scratch: Box<[u8]>,
}

/// One data thread's queue.
struct Source {
    fifo: Arc<Fifo>,
    /// Taken off the queue and not done with.
    current: Option<Chunk>,
}

/// A session that the lane carries.
#[derive(Debug, Default)]
pub(super) struct Running {
    session: Arc<Captured>,
    /// The recorder has heard of it, on this connection or an earlier one.
    known: bool,
    /// Behind the last payload that left the queue, sent or dropped.
    position: PerDirection<u64>,
    ended: bool,
}

/// How much is thrown away without a recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Loss {
    /// What slow sessions have handed over waits, and what is queued behind it.
    SparesSlow,
    /// Everything: there will be no recorder any more.
    Total,
}

impl Drop for Queues {
    fn drop(&mut self) {
        self.shared.closed.store(true, SeqCst);
        self.wake_all();
    }
}

impl Queues {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            sources: Vec::new(),
            turn: 0,
            running: HashMap::new(),
            ended_away: 0,
            scratch: vec![0; SCRATCH_BYTES].into_boxed_slice(),
        }
    }

    /// Whether a session is there that waits for the recorder rather than lose payload.
    pub(super) fn holds_sessions_up(&self) -> bool {
        self.running.values().any(|running| running.session.slow)
    }

    /// The recorder is there again, or the lane is closed.
    pub(super) fn wake_all(&mut self) {
        self.welcome();
        for source in &self.sources {
            source.fifo.level.room.notify_waiters();
        }
    }

    /// Takes notice of new data threads.
    fn welcome(&mut self) {
        while let Some(fifo) = self.shared.joining.pop() {
            self.sources.push(Source { fifo, current: None });
        }
    }

    /// Fills the outbox, a frame of each source in turn.
    pub(super) fn load(&mut self, outbox: &mut Outbox) {
        self.welcome();
        while outbox.has_room() && self.load_next(outbox) {}
    }

    /// False: there is nothing, or no credit for it.
    fn load_next(&mut self, outbox: &mut Outbox) -> bool {
        for _ in 0..self.sources.len() {
            let turn = self.turn % self.sources.len();
            self.turn = turn + 1;
            let source = &mut self.sources[turn];
            if let Some(chunk) = source.current.take() {
                return self.load_chunk(turn, chunk, outbox);
            }
            match source.fifo.pop() {
                None => {}
                Some(Entry::Data(chunk)) => {
                    self.release(turn, &chunk);
                    return self.load_chunk(turn, chunk, outbox);
                }
                Some(Entry::Begin(session)) => {
                    let number = session.open.session_no;
                    outbox.add(&self.begin(session).announcement(number));
                    return true;
                }
                Some(Entry::Mark(mark)) => {
                    if self.running.contains_key(&mark.session_no) {
                        outbox.add(&Frame::message(FrameKind::CaptureMark, 0, &mark));
                    }
                    return true;
                }
                Some(Entry::End { number }) => {
                    self.end(number, outbox);
                    return true;
                }
            }
        }
        false
    }

    fn load_chunk(&mut self, turn: usize, chunk: Chunk, outbox: &mut Outbox) -> bool {
        let Some(running) = self.running.get_mut(&chunk.number) else {
            self.discard(turn, &chunk);
            return true;
        };
        let (piece, rest) = chunk.split(MAX_PIECE);
        let source = &mut self.sources[turn];
        if !outbox.spend(piece.payload_len()) {
            source.current = Some(rejoined(piece, rest));
            self.turn = turn;
            return false;
        }
        running.position[piece.direction] = piece.offset + as_u64(piece.original);
        let data = CaptureData {
            session_no: piece.number,
            down: piece.direction == Direction::Down,
            offset: piece.offset,
            original_len: u32::try_from(piece.original).expect("pieces are below 256 KiB"),
            time_ns: piece.time_ns,
        };
        outbox.add_data(&data, piece, turn, &source.fifo);
        source.current = rest;
        true
    }

    /// Takes back what a connection that was lost had not said; what cannot be said again is lost.
    pub(super) fn take_back(&mut self, unsaid: Unsaid) {
        // Before what they lost is counted, so that the end that is told again is right.
        for (number, session) in unsaid.ended {
            self.running.insert(number, session);
            self.ended_without_recorder(number);
        }
        for (number, bytes) in unsaid.lost {
            let session = self.running.get(&number).map(|running| &*running.session);
            self.shared.lose(session, bytes);
        }
        let Some((turn, piece)) = unsaid.left else { return };
        if let Some(running) = self.running.get_mut(&piece.number) {
            running.position[piece.direction] = piece.offset;
        }
        let source = &mut self.sources[turn];
        source.current = Some(rejoined(piece, source.current.take()));
    }

    /// What the queues hold means while there is nobody to tell. True: no payload was lost.
    pub(super) fn pass_by(&mut self, loss: Loss) -> bool {
        self.welcome();
        let mut nothing_lost = true;
        for turn in 0..self.sources.len() {
            nothing_lost &= self.pass_by_source(turn, loss);
        }
        nothing_lost
    }

    fn pass_by_source(&mut self, turn: usize, loss: Loss) -> bool {
        let mut nothing_lost = true;
        loop {
            let source = &mut self.sources[turn];
            if let Some(chunk) = source.current.take() {
                if chunk.slow && loss == Loss::SparesSlow {
                    source.current = Some(chunk);
                    return nothing_lost;
                }
                self.discard(turn, &chunk);
                nothing_lost = false;
                continue;
            }
            match source.fifo.pop() {
                None => return nothing_lost,
                Some(Entry::Data(chunk)) if chunk.slow => {
                    self.release(turn, &chunk);
                    self.sources[turn].current = Some(chunk);
                }
                Some(Entry::Data(chunk)) => {
                    self.discard(turn, &chunk);
                    self.release(turn, &chunk);
                    nothing_lost = false;
                }
                Some(Entry::Begin(session)) => {
                    self.begin(session);
                }
                Some(Entry::Mark(_)) => {}
                Some(Entry::End { number }) => self.ended_without_recorder(number),
            }
        }
    }

    fn begin(&mut self, session: Arc<Captured>) -> &mut Running {
        let number = session.open.session_no;
        let position = PerDirection::default();
        let running = Running { session, known: false, position, ended: false };
        self.running.entry(number).insert_entry(running).into_mut()
    }

    fn release(&self, turn: usize, chunk: &Chunk) {
        self.shared.release(chunk.cost());
        if chunk.slow {
            self.sources[turn].fifo.level.taken(chunk.cost());
        }
    }

    fn discard(&mut self, turn: usize, chunk: &Chunk) {
        if let Payload::Piped(len) = chunk.payload {
            self.empty_pipe(turn, len);
        }
        let running = self.running.get_mut(&chunk.number);
        self.shared.lose(running.as_ref().map(|running| &*running.session), chunk.payload_len());
        if let Some(running) = running {
            running.position[chunk.direction] = chunk.offset + as_u64(chunk.original);
        }
    }

    fn empty_pipe(&mut self, turn: usize, len: usize) {
        let fifo = &self.sources[turn].fifo;
        let Some(pipe) = fifo.pipe.get() else { return };
        let mut left = len;
        while left > 0 {
            match pipe.discard(left, &mut self.scratch) {
                Ok(gone) if gone > 0 => {
                    fifo.level.drained(gone);
                    left -= gone;
                }
                outcome => {
                    tracing::error!(?outcome, left, "the capture pipe lacks payload");
                    return;
                }
            }
        }
    }

    /// A recorder that knows of a session has to hear of its end some time.
    fn ended_without_recorder(&mut self, number: u64) {
        let Some(running) = self.running.get_mut(&number) else { return };
        if running.known && self.ended_away < MAX_ENDED_AWAY {
            running.ended = true;
            self.ended_away += 1;
        } else {
            self.running.remove(&number);
        }
    }

    /// Announces what is still running, and tells the ends that were missed.
    pub(super) fn announce_again(&mut self, credit: u64) -> Outbox {
        let mut outbox = Outbox::new(credit);
        let mut numbers: Vec<u64> = self.running.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let Some(running) = self.running.get_mut(&number) else { continue };
            outbox.add(&running.announcement(number));
            if running.ended {
                self.end(number, &mut outbox);
            }
        }
        self.ended_away = 0;
        outbox
    }

    fn end(&mut self, number: u64, outbox: &mut Outbox) {
        let Some(running) = self.running.remove(&number) else { return };
        if let Some(frame) = running.session.end_frame() {
            outbox.add_end(&frame, number, running);
        }
    }

    /// Ends that found no place in a queue, once all that came before them is sent.
    pub(super) fn find_missed_ends(&mut self, outbox: &mut Outbox) {
        if !self.shared.end_missed.swap(false, Relaxed) {
            return;
        }
        let over = |(number, running): (&u64, &Running)| {
            running.session.end.get().is_some().then_some(*number)
        };
        let mut missed: Vec<u64> = self.running.iter().filter_map(over).collect();
        missed.sort_unstable();
        for number in missed {
            self.end(number, outbox);
        }
    }
}

fn rejoined(mut piece: Chunk, rest: Option<Chunk>) -> Chunk {
    if let Some(rest) = rest {
        piece.rejoin(&rest);
    }
    piece
}

impl Running {
    /// Says that the session begins, or where it stands.
    fn announcement(&mut self, session_no: u64) -> Frame {
        let resumed = self.known || self.position.sum() > 0;
        self.known = true;
        let open = CaptureOpen {
            session_no,
            resumed,
            offset_up: self.position.up,
            offset_down: self.position.down,
            ..self.session.open.clone()
        };
        Frame::message(FrameKind::CaptureOpen, 0, &open)
    }
}
