//! The messages in frames (protobuf). Fields are only ever added.

use crate::table::{Capture, Denied, Event, Session, Slot, Usage};

/// The protocol this binary speaks.
pub const PROTOCOL: u32 = 1;

/// Rows of one boot. `node` and `boot` are empty in the rows themselves: the reader fills them in.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Rows {
    /// The forwarder that made the rows.
    #[prost(string, tag = 1)]
    pub node: String,
    /// The boot the rows belong to.
    #[prost(string, tag = 2)]
    pub boot: String,
    /// Rows of `sessions`.
    #[prost(message, repeated, tag = 3)]
    pub sessions: Vec<Session>,
    /// Rows of `usage`; at most one per session in a frame.
    #[prost(message, repeated, tag = 4)]
    pub usage: Vec<Usage>,
    /// Rows of `slots`.
    #[prost(message, repeated, tag = 5)]
    pub slots: Vec<Slot>,
    /// Rows of `denied`.
    #[prost(message, repeated, tag = 6)]
    pub denied: Vec<Denied>,
    /// Rows of `events`.
    #[prost(message, repeated, tag = 7)]
    pub events: Vec<Event>,
    /// Rows of `captures`; only in the recorder's own log, with `node` and `boot` in each row.
    #[prost(message, repeated, tag = 8)]
    pub captures: Vec<Capture>,
}

impl Rows {
    /// Number of rows of all tables.
    pub fn len(&self) -> usize {
        self.sessions.len()
            + self.usage.len()
            + self.slots.len()
            + self.denied.len()
            + self.events.len()
            + self.captures.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `seq` of every row, in no particular order.
    pub fn seqs(&self) -> impl Iterator<Item = i64> + '_ {
        let sessions = self.sessions.iter().filter_map(|r| r.seq);
        let usage = self.usage.iter().filter_map(|r| r.seq);
        let slots = self.slots.iter().filter_map(|r| r.seq);
        let denied = self.denied.iter().filter_map(|r| r.seq);
        sessions
            .chain(usage)
            .chain(slots)
            .chain(denied)
            .chain(self.events.iter().filter_map(|r| r.seq))
    }

    /// Writes the frame's `node` and `boot` into every row.
    pub fn fill_in(&mut self) {
        macro_rules! fill {
            ($($rows:ident)+) => {
                $(for row in &mut self.$rows {
                    row.node.clone_from(&self.node);
                    row.boot.clone_from(&self.boot);
                })+
            };
        }
        fill!(sessions usage slots denied events);
    }
}

/// The end of a boot: after it no row of that boot is ever made. Found twice it counts once.
#[derive(Clone, PartialEq, prost::Message)]
pub struct BootEnd {
    /// The forwarder.
    #[prost(string, tag = 1)]
    pub node: String,
    /// The boot that ended.
    #[prost(string, tag = 2)]
    pub boot: String,
    /// The last `seq` the boot used; 0: none.
    #[prost(int64, tag = 3)]
    pub last_seq: i64,
    /// The last session number the boot gave out; 0: none.
    #[prost(int64, tag = 4)]
    pub last_session_no: i64,
    /// Numbers given out for sessions that were not open yet when the process was killed.
    #[prost(int64, tag = 5)]
    pub unopened: i64,
    /// Every row of the boot was written; false when the counter table was lost.
    #[prost(bool, tag = 6)]
    pub exact: bool,
    /// When, in microseconds since 1970 UTC.
    #[prost(int64, tag = 7)]
    pub ended_at: i64,
}

/// The head of a journal segment.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SegmentHeader {
    /// Format of the segment: 1.
    #[prost(uint32, tag = 1)]
    pub format: u32,
    /// The spool or log the segment belongs to.
    #[prost(fixed64, tag = 2)]
    pub spool_id: u64,
    /// Number of the first frame.
    #[prost(uint64, tag = 3)]
    pub first_frame: u64,
    /// CRC of the frame before the first one; 0 when there is none.
    #[prost(fixed32, tag = 4)]
    pub previous_crc: u32,
    /// The boot that writes; empty in the recorder's log.
    #[prost(string, tag = 5)]
    pub boot: String,
    /// The next `seq` of that boot when the segment was made.
    #[prost(int64, tag = 6)]
    pub next_seq: i64,
    /// Whether that boot had ended when the segment was made.
    #[prost(bool, tag = 7)]
    pub boot_ended: bool,
}

/// A frame of a forwarder's spool, as the recorder's log keeps it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Received {
    /// The forwarder that sent it, as its peer credentials allow.
    #[prost(string, tag = 1)]
    pub node: String,
    /// The spool the frame's number belongs to.
    #[prost(fixed64, tag = 2)]
    pub spool_id: u64,
    /// The whole frame, header included.
    #[prost(bytes = "bytes", tag = 3)]
    pub frame: bytes::Bytes,
    /// The stream begins here, or goes on here, because another recorder acknowledged the frames
    /// before: rows that are missing before this frame's are no loss.
    #[prost(bool, tag = 4)]
    pub begins: bool,
    /// The frame ends a boot that was connected itself when the frame came: a copy of its spool
    /// took it for dead. It ends nothing.
    #[prost(bool, tag = 5)]
    pub mistaken: bool,
}

/// What a connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum Lane {
    /// Not said.
    Unspecified = 0,
    /// Rows: lossless, acknowledged after fsync.
    Accounting = 1,
    /// Payload: bounded, may drop, counts what it dropped.
    Capture = 2,
}

/// The forwarder's first word on a connection.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    /// The protocol it speaks.
    #[prost(uint32, tag = 1)]
    pub protocol: u32,
    /// Its name.
    #[prost(string, tag = 2)]
    pub node: String,
    /// Its run.
    #[prost(string, tag = 3)]
    pub boot: String,
    /// What the connection carries.
    #[prost(enumeration = "Lane", tag = 4)]
    pub lane: i32,
    /// Accounting: the spool the frame numbers belong to.
    #[prost(fixed64, tag = 5)]
    pub spool_id: u64,
    /// Accounting: number of the oldest frame on disk; 0: the spool is empty.
    #[prost(uint64, tag = 6)]
    pub first_frame: u64,
    /// Accounting: number of the newest durable frame; 0: the spool is empty.
    #[prost(uint64, tag = 7)]
    pub last_frame: u64,
    /// The forwarder's version, for logs.
    #[prost(string, tag = 8)]
    pub build: String,
    /// Accounting: number of the first frame that no recorder has acknowledged; 0: not known.
    #[prost(uint64, tag = 9)]
    pub first_unacked: u64,
    /// Accounting: the recorder that acknowledged the frames before, as its [`Welcome`] named it; 0:
    /// none did, or it is not known.
    #[prost(fixed64, tag = 10)]
    pub acked_by: u64,
}

impl Hello {
    /// Whether another recorder than `recorder` acknowledged the frames before `first_unacked`.
    pub fn is_acked_elsewhere(&self, recorder: u64) -> bool {
        self.acked_by != 0 && recorder != 0 && self.acked_by != recorder
    }

    /// The first frame that is to be sent to `recorder`, which holds the spool's frames through
    /// `held` (0: none). The recorder that acknowledged the last ones gets everything it does not
    /// hold; any other begins at the first frame that nobody has acknowledged, so that no row is in
    /// the tables of both.
    pub fn next_frame(&self, recorder: u64, held: u64) -> u64 {
        let from = if self.is_acked_elsewhere(recorder) { self.first_unacked } else { 0 };
        self.first_frame.max(held + 1).max(from)
    }
}

/// The recorder's answer to a [`Hello`] it accepts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Welcome {
    /// The protocol it speaks.
    #[prost(uint32, tag = 1)]
    pub protocol: u32,
    /// Accounting: number of the last frame of this spool it holds; 0: none.
    #[prost(uint64, tag = 2)]
    pub last_frame: u64,
    /// Accounting: CRC of that frame.
    #[prost(fixed32, tag = 3)]
    pub last_crc: u32,
    /// Capture: payload bytes that may be sent before the next [`Credit`].
    #[prost(uint64, tag = 4)]
    pub credit: u64,
    /// Accounting: the recorder, by the id of its log; 0: not said.
    #[prost(fixed64, tag = 5)]
    pub recorder_id: u64,
}

/// Why a recorder refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum RejectCode {
    /// Not said.
    Unspecified = 0,
    /// No protocol in common.
    Protocol = 1,
    /// The peer may not be this node.
    NotAllowed = 2,
    /// The node name, boot or lane is not one.
    Malformed = 3,
    /// Frames came out of order, or a frame was damaged.
    Stream = 4,
    /// The recorder cannot write.
    Storage = 5,
    /// The recorder is stopping.
    Stopping = 6,
    /// Another forwarder is connected under the same node name.
    NodeTaken = 7,
}

/// The recorder's refusal; it closes the connection behind it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Reject {
    /// Why.
    #[prost(enumeration = "RejectCode", tag = 1)]
    pub code: i32,
    /// The same for people.
    #[prost(string, tag = 2)]
    pub text: String,
    /// Not before this many milliseconds; 0: as the forwarder likes.
    #[prost(uint32, tag = 3)]
    pub retry_after_ms: u32,
}

/// Every frame of the spool up to this number is durable at the recorder.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Ack {
    /// The number.
    #[prost(uint64, tag = 1)]
    pub frame: u64,
}

/// A captured session begins, or is announced again after a reconnect.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CaptureOpen {
    /// The session's number in the boot of the [`Hello`].
    #[prost(uint64, tag = 1)]
    pub session_no: u64,
    /// The service.
    #[prost(string, tag = 2)]
    pub service: String,
    /// The rule.
    #[prost(string, tag = 3)]
    pub rule: String,
    /// The customer, or empty.
    #[prost(string, tag = 4)]
    pub customer: String,
    /// `tcp` or `udp`.
    #[prost(string, tag = 5)]
    pub transport: String,
    /// The client, `address:port`.
    #[prost(string, tag = 6)]
    pub client: String,
    /// The local address the client used, `address:port`.
    #[prost(string, tag = 7)]
    pub listen: String,
    /// The target, `address:port`, or empty while it is not known.
    #[prost(string, tag = 8)]
    pub target: String,
    /// When the session began, in nanoseconds since 1970 UTC.
    #[prost(int64, tag = 9)]
    pub ts_start_ns: i64,
    /// The capture mode as configured: `headers`, `prefix 65536`, `full`.
    #[prost(string, tag = 10)]
    pub mode: String,
    /// Announced again: the recorder goes on mid-session at these offsets.
    #[prost(bool, tag = 11)]
    pub resumed: bool,
    /// Where the stream stands, client to target, in bytes.
    #[prost(uint64, tag = 12)]
    pub offset_up: u64,
    /// Where the stream stands, target to client, in bytes.
    #[prost(uint64, tag = 13)]
    pub offset_down: u64,
}

/// The message before captured bytes: a chunk of a stream, or one whole datagram.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CaptureData {
    /// The session's number.
    #[prost(uint64, tag = 1)]
    pub session_no: u64,
    /// True: target to client.
    #[prost(bool, tag = 2)]
    pub down: bool,
    /// Offset of the first byte in its direction's stream, counting every byte that was received.
    #[prost(uint64, tag = 3)]
    pub offset: u64,
    /// Bytes received; more than follow when the capture mode cuts them on purpose.
    #[prost(uint32, tag = 4)]
    pub original_len: u32,
    /// When they were read, in nanoseconds since 1970 UTC.
    #[prost(int64, tag = 5)]
    pub time_ns: i64,
}

/// What happened to a connection besides payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MarkKind {
    /// Not said.
    Unspecified = 0,
    /// End of stream in this direction.
    Fin = 1,
    /// Reset by the sender of this direction.
    Reset = 2,
    /// The client's connection was never answered: its target could not be reached.
    Refused = 3,
}

/// A FIN or a reset in a captured session.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CaptureMark {
    /// The session's number.
    #[prost(uint64, tag = 1)]
    pub session_no: u64,
    /// True: from the target's side.
    #[prost(bool, tag = 2)]
    pub down: bool,
    /// What.
    #[prost(enumeration = "MarkKind", tag = 3)]
    pub kind: i32,
    /// When, in nanoseconds since 1970 UTC.
    #[prost(int64, tag = 4)]
    pub time_ns: i64,
    /// How much of this direction's stream was received before it, in bytes.
    #[prost(uint64, tag = 5)]
    pub offset: u64,
}

/// A captured session ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CaptureEnd {
    /// The session's number.
    #[prost(uint64, tag = 1)]
    pub session_no: u64,
    /// Why it ended.
    #[prost(string, tag = 2)]
    pub end_reason: String,
    /// Payload read from the client, in bytes.
    #[prost(uint64, tag = 3)]
    pub received_up: u64,
    /// Payload read from the target, in bytes.
    #[prost(uint64, tag = 4)]
    pub received_down: u64,
    /// Of that, delivered to the target, in bytes.
    #[prost(uint64, tag = 5)]
    pub bytes_up: u64,
    /// Of that, delivered to the client, in bytes.
    #[prost(uint64, tag = 6)]
    pub bytes_down: u64,
    /// Payload dropped by the forwarder before it was sent here, in bytes.
    #[prost(uint64, tag = 7)]
    pub dropped: u64,
    /// When, in nanoseconds since 1970 UTC.
    #[prost(int64, tag = 8)]
    pub time_ns: i64,
}

/// More captured payload may be sent.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Credit {
    /// How many bytes more.
    #[prost(uint64, tag = 1)]
    pub bytes: u64,
}
