//! A captured TCP session as segments, such that Wireshark finds nothing to complain about that is
//! not true.
//!
//! - The handshake is made up from the announcement. SYN is written at once; SYN-ACK and ACK with
//!   the first thing that happens, as a refusal may come instead.
//! - A sequence number is `ISN + 1 + stream offset`; the ISN is a hash of session and direction, so
//!   that a later session with the same addresses begins elsewhere. A session that continues in
//!   another file, or after a reconnect, simply goes on.
//! - Acknowledgements cover what has been written, never repeat, and come after a direction's first
//!   payload, then at least once per MiB, and before a FIN.
//! - The closing packet waits for the session's end, whose comment it carries.

use schemas::vocab::{Direction, EndReason, PerDirection, SessionId};
use schemas::wire::MarkKind;
use sha2::{Digest as _, Sha256};

use super::packet::Segment;
use super::session::{Event, Pen, Sink};

/// Most payload that goes unacknowledged, in bytes.
const UNACKED_MAX: u64 = 1 << 20;

/// The state of both streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tcp {
    isn: PerDirection<u32>,
    ts_start_ns: i64,
    stage: Stage,
    /// Stream offset behind the last byte written or known to be lost.
    next: PerDirection<u64>,
    /// How far the receiver has acknowledged, FIN included.
    acked: PerDirection<u64>,
    /// Payload of this direction has been written to the present file.
    spoke: PerDirection<bool>,
    fin: PerDirection<bool>,
    held: Option<Held>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// SYN is written or to be written.
    Opening,
    Open,
    /// Reset or refused; nobody acknowledges any more.
    Reset,
}

/// A closing packet that waits for the end.
#[derive(Debug, Clone, Copy)]
struct Held {
    direction: Direction,
    segment: Segment<'static>,
    time_ns: i64,
}

impl Tcp {
    /// A session that begins at `ts_start_ns`, or goes on at the offsets `resumed`, of which those
    /// with a FIN have come to their end.
    pub(super) fn new(
        session: &SessionId,
        ts_start_ns: i64,
        resumed: Option<PerDirection<u64>>,
        fin: PerDirection<bool>,
    ) -> Self {
        let next = resumed.unwrap_or_default();
        Self {
            isn: PerDirection::from_fn(|direction| isn(session, direction)),
            ts_start_ns,
            stage: if resumed.is_some() { Stage::Open } else { Stage::Opening },
            next,
            acked: PerDirection::from_fn(|direction| next[direction] + u64::from(fin[direction])),
            spoke: PerDirection::default(),
            fin,
            held: None,
        }
    }

    pub(super) fn position(&self) -> PerDirection<u64> {
        self.next
    }

    /// Whose FIN is written.
    pub(super) fn finished(&self) -> PerDirection<bool> {
        self.fin
    }

    pub(super) fn next_file(&mut self) {
        self.spoke = PerDirection::default();
    }

    pub(super) fn apply<'a>(&mut self, event: &Event<'a>, pen: &mut Pen<'_>, sink: Sink<'_, 'a>) {
        match event {
            Event::Began => {
                let syn = Segment { seq: self.isn.up, syn: true, ..Segment::default() };
                pen.tcp(Direction::Up, syn, self.ts_start_ns, sink);
            }
            Event::Data { direction, offset, original_len, bytes, time_ns } => {
                self.shake_hands(pen, sink);
                self.release(pen, sink);
                let chunk = (*offset, *original_len, *bytes);
                self.data(*direction, chunk, *time_ns, pen, sink);
            }
            Event::Mark { direction, kind, offset, time_ns } => {
                self.skip_to(*direction, *offset, pen);
                match kind {
                    MarkKind::Fin => self.fin(*direction, *time_ns, pen, sink),
                    MarkKind::Reset => self.reset(*direction, *time_ns, pen, sink),
                    MarkKind::Refused => self.refuse(*time_ns, pen, sink),
                    MarkKind::Unspecified => {}
                }
            }
            Event::End { reason, totals, time_ns } => {
                for direction in Direction::BOTH {
                    self.skip_to(direction, totals.received[direction], pen);
                }
                self.end(*reason, *time_ns, pen, sink);
            }
            Event::FileCloses => self.release(pen, sink),
        }
    }

    /// The sequence number behind everything that `direction` has sent.
    fn seq(&self, direction: Direction) -> u32 {
        let sent = self.sent(direction).wrapping_add(1);
        self.isn[direction].wrapping_add(low_bits(sent))
    }

    /// What `direction` has sent, FIN included.
    fn sent(&self, direction: Direction) -> u64 {
        self.next[direction].saturating_add(u64::from(self.fin[direction]))
    }

    /// Writes one segment of `direction`, which acknowledges all that the other side has sent.
    fn write<'a>(
        &mut self,
        direction: Direction,
        segment: Segment<'a>,
        time_ns: i64,
        pen: &mut Pen<'_>,
        sink: Sink<'_, 'a>,
    ) {
        let other = direction.opposite();
        let segment = Segment { seq: self.seq(direction), ack: Some(self.seq(other)), ..segment };
        self.acked[other] = self.sent(other);
        pen.tcp(direction, segment, time_ns, sink);
    }

    fn shake_hands(&mut self, pen: &mut Pen<'_>, sink: Sink<'_, '_>) {
        if self.stage != Stage::Opening {
            return;
        }
        self.stage = Stage::Open;
        let answer = Segment {
            seq: self.isn.down,
            ack: Some(self.isn.up.wrapping_add(1)),
            syn: true,
            ..Segment::default()
        };
        pen.tcp(Direction::Down, answer, self.ts_start_ns, sink);
        self.write(Direction::Up, Segment::default(), self.ts_start_ns, pen, sink);
    }

    /// The stream of `direction` goes on at `offset`; what lies before is missing.
    fn skip_to(&mut self, direction: Direction, offset: u64, pen: &mut Pen) {
        let missing = offset.saturating_sub(self.next[direction]);
        if missing > 0 {
            pen.missing(missing);
            self.next[direction] = offset;
        }
    }

    fn data<'a>(
        &mut self,
        direction: Direction,
        (offset, original_len, bytes): (u64, u32, &'a [u8]),
        time_ns: i64,
        pen: &mut Pen<'_>,
        sink: Sink<'_, 'a>,
    ) {
        if self.fin[direction] {
            return;
        }
        self.skip_to(direction, offset, pen);
        // What is already written cannot come again, unless a forwarder is mistaken.
        let again = self.next[direction] - offset;
        let mut left = usize::try_from(u64::from(original_len).saturating_sub(again)).unwrap_or(0);
        let again = usize::try_from(again).unwrap_or(usize::MAX);
        let mut bytes = &bytes[again.min(bytes.len())..];
        let largest = pen.max_segment();
        while left > 0 {
            let (payload, behind) = bytes.split_at(bytes.len().min(largest));
            bytes = behind;
            let cut = if payload.is_empty() { left.min(largest) } else { 0 };
            let len = payload.len() + cut;
            left = left.saturating_sub(len);
            let segment = Segment { psh: left == 0, payload, cut, ..Segment::default() };
            self.write(direction, segment, time_ns, pen, &mut *sink);
            self.next[direction] += u64::try_from(len).unwrap_or(0);
            let first = !std::mem::replace(&mut self.spoke[direction], true);
            if first || self.sent(direction) - self.acked[direction] >= UNACKED_MAX {
                self.acknowledge(direction, time_ns, pen, &mut *sink);
            }
        }
    }

    /// The receiver of `direction` acknowledges what it has not yet.
    fn acknowledge(
        &mut self,
        direction: Direction,
        time_ns: i64,
        pen: &mut Pen<'_>,
        sink: Sink<'_, '_>,
    ) {
        if self.acked[direction] < self.sent(direction) && self.stage == Stage::Open {
            self.write(direction.opposite(), Segment::default(), time_ns, pen, sink);
        }
    }

    fn fin(&mut self, direction: Direction, time_ns: i64, pen: &mut Pen<'_>, sink: Sink<'_, '_>) {
        self.close_stream(direction, false, time_ns, pen, sink);
    }

    /// Writes the FIN of `direction`. Its acknowledgement is held back when nothing else can come.
    fn close_stream(
        &mut self,
        direction: Direction,
        is_last: bool,
        time_ns: i64,
        pen: &mut Pen<'_>,
        sink: Sink<'_, '_>,
    ) {
        if self.fin[direction] || self.stage == Stage::Reset {
            return;
        }
        self.shake_hands(pen, &mut *sink);
        self.release(pen, &mut *sink);
        self.acknowledge(direction, time_ns, pen, &mut *sink);
        self.write(
            direction,
            Segment { fin: true, ..Segment::default() },
            time_ns,
            pen,
            &mut *sink,
        );
        self.fin[direction] = true;
        let other = direction.opposite();
        if self.fin[other] || is_last {
            let segment = Segment {
                seq: self.seq(other),
                ack: Some(self.seq(direction)),
                ..Segment::default()
            };
            self.acked[direction] = self.sent(direction);
            self.held = Some(Held { direction: other, segment, time_ns });
        } else {
            self.acknowledge(direction, time_ns, pen, sink);
        }
    }

    fn reset(&mut self, direction: Direction, time_ns: i64, pen: &mut Pen<'_>, sink: Sink<'_, '_>) {
        if self.stage == Stage::Reset {
            return;
        }
        self.shake_hands(pen, &mut *sink);
        self.release(pen, sink);
        self.stage = Stage::Reset;
        let segment = Segment {
            seq: self.seq(direction),
            ack: Some(self.seq(direction.opposite())),
            rst: true,
            ..Segment::default()
        };
        self.held = Some(Held { direction, segment, time_ns });
    }

    fn refuse(&mut self, time_ns: i64, pen: &mut Pen<'_>, sink: Sink<'_, '_>) {
        if self.stage != Stage::Opening {
            return self.reset(Direction::Down, time_ns, pen, sink);
        }
        self.stage = Stage::Reset;
        let segment =
            Segment { ack: Some(self.isn.up.wrapping_add(1)), rst: true, ..Segment::default() };
        self.held = Some(Held { direction: Direction::Down, segment, time_ns });
    }

    /// Writes the closing packet that was held back, as one that is not the last.
    fn release(&mut self, pen: &mut Pen<'_>, sink: Sink<'_, '_>) {
        if let Some(Held { direction, segment, time_ns }) = self.held.take() {
            pen.tcp(direction, segment, time_ns, sink);
        }
    }

    /// Closes what no mark has closed, as the client's side must have seen it.
    fn end(
        &mut self,
        reason: Option<EndReason>,
        time_ns: i64,
        pen: &mut Pen<'_>,
        sink: Sink<'_, '_>,
    ) {
        let closed = self.stage == Stage::Reset || (self.fin.up && self.fin.down);
        if !closed {
            match reason.unwrap_or(EndReason::Internal) {
                reason if self.stage == Stage::Opening && never_connected(reason) => {
                    self.refuse(time_ns, pen, &mut *sink);
                }
                EndReason::ClientReset | EndReason::ClientAbort => {
                    self.reset(Direction::Up, time_ns, pen, &mut *sink);
                }
                _ if self.fin.down => self.reset(Direction::Down, time_ns, pen, &mut *sink),
                EndReason::TargetReset => self.reset(Direction::Down, time_ns, pen, &mut *sink),
                _ => self.close_stream(Direction::Down, true, time_ns, pen, &mut *sink),
            }
        }
        let mut comment = pen.close();
        if let Some(Held { direction, segment, time_ns }) = self.held.take() {
            pen.tcp(direction, segment, time_ns, &mut |mut packet| {
                packet.comments.extend(comment.take());
                sink(packet);
            });
        }
    }
}

/// Whether a session with this end never reached its target.
fn never_connected(reason: EndReason) -> bool {
    matches!(
        reason,
        EndReason::TargetRefused
            | EndReason::TargetUnreachable
            | EndReason::ConnectTimeout
            | EndReason::ResolveFailed
            | EndReason::NoTarget
            | EndReason::Loop
            | EndReason::Resource
    )
}

pub(super) fn isn(session: &SessionId, direction: Direction) -> u32 {
    let text = format!("{session} {}", direction.as_str());
    let digest = Sha256::digest(text.as_bytes());
    let (head, _) = digest.split_first_chunk::<4>().expect("a digest has 32 bytes");
    u32::from_le_bytes(*head)
}

fn low_bits(offset: u64) -> u32 {
    u32::try_from(offset & u64::from(u32::MAX)).expect("32 bits are left")
}
