//! One captured session: what the forwarder told of it becomes packets and their comments.
//!
//! No I/O happens here, and the same input gives the same packets. Comments that name the session:
//! - its first packet in a file: `sid=<boot>-<n> node= svc= rule= customer= upstream= extent=`
//! - its last packet: `sid=<boot>-<n> end=<reason> up=<received> down=<received>`, and
//!   `undelivered_up=`, `undelivered_down=` when not all of it reached the other side. A UDP
//!   association has no closing packet, so its end stands in the tables alone.
//!
//! Comments about what is not there: `mid-session …` on a first packet that is not the session's
//! first, `cut …` where payload begins to be left out on purpose, `lost=<bytes> gap=<bytes> …`
//! behind a gap (`lost` is what should have been kept, `gap` is what the stream lacks).

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::str::FromStr as _;
use std::sync::Arc;

use schemas::vocab::{
    BootId, CustomerName, Direction, EndReason, NodeName, PerDirection, RuleName, ServiceName,
    SessionId, Transport,
};
use schemas::wire::{CaptureOpen, MarkKind};

use super::packet::{Endpoints, Head, Segment};
use super::store::Left;
use super::tcp::Tcp;
use super::udp::Udp;

/// Which session of which forwarder.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct SessionKey {
    pub(super) node: NodeName,
    pub(super) id: SessionId,
}

/// Why an announcement of a session cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("capture announcement of session {session}: {what}")]
pub(super) struct MalformedOpen {
    session: SessionId,
    what: String,
}

/// What was announced of a session, checked.
#[derive(Debug, Clone)]
pub(super) struct Announcement {
    pub(super) key: SessionKey,
    pub(super) service: ServiceName,
    rule: RuleName,
    customer: Option<CustomerName>,
    target: Option<SocketAddr>,
    transport: Transport,
    ends: Endpoints,
    keep: Keep,
    ts_start_ns: i64,
    /// The offsets where the stream stands, when the session is announced again.
    pub(super) resumed: Option<PerDirection<u64>>,
}

/// How much payload the session's rule wants kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keep {
    Headers,
    Prefix(u64),
    Full,
}

/// Something that happened in a session.
#[derive(Debug, Clone)]
pub(super) enum Event<'a> {
    /// It began. Nothing for a session that is announced again.
    Began,
    /// A chunk of a stream or one datagram.
    Data { direction: Direction, offset: u64, original_len: u32, bytes: &'a [u8], time_ns: i64 },
    /// A FIN, reset or refusal by the sender of `direction`, whose stream had come to `offset`.
    Mark { direction: Direction, kind: MarkKind, offset: u64, time_ns: i64 },
    /// It ended; a reason that this binary does not know is none.
    End { reason: Option<EndReason>, totals: Totals, time_ns: i64 },
    /// The file closes: nothing may be held back any longer.
    FileCloses,
}

/// The totals of a session that ended, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Totals {
    pub(super) received: PerDirection<u64>,
    pub(super) delivered: PerDirection<u64>,
}

/// One packet for the file.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) time_ns: i64,
    pub(super) direction: Direction,
    pub(super) head: Head,
    pub(super) payload: &'a [u8],
    /// Length of the frame without cuts, in bytes.
    pub(super) whole_len: u32,
    pub(super) weight: Weight,
    /// Packets lost before this one, as far as can be told.
    pub(super) lost_packets: u64,
    pub(super) comments: Vec<String>,
}

/// What a packet adds to the index, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Weight {
    /// Payload kept.
    pub(super) captured: u64,
    /// Payload it stands for.
    pub(super) original: u64,
    /// Payload lost before it that should have been kept.
    pub(super) lost: u64,
}

/// Where packets go, whose payload lives for `'a`.
pub(super) type Sink<'s, 'a> = &'s mut dyn FnMut(Packet<'a>);

/// A captured session.
#[derive(Debug)]
pub(super) struct Session {
    about: Arc<Announcement>,
    state: State,
}

/// What events change in a session: small, so that it is copied before each, and put back when the
/// disk refuses the packets.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    body: Body,
    notes: Notes,
}

#[derive(Debug, Clone, Copy)]
enum Body {
    Tcp(Tcp),
    Udp(Udp),
}

/// Which comments are due.
#[derive(Debug, Clone, Copy)]
struct Notes {
    /// Number of the session's extent in the present file.
    extent: i32,
    first_in_file: bool,
    mid_session: Option<PerDirection<u64>>,
    cut_noted: bool,
    /// Stream bytes accounted for so far, kept, cut or lost: what a prefix is measured against.
    seen: u64,
    gap: u64,
    lost: u64,
}

/// Writes the packets of one event, with the comments that are due.
#[derive(Debug)]
pub(super) struct Pen<'p> {
    about: &'p Announcement,
    notes: &'p mut Notes,
    last: Option<String>,
}

impl SessionKey {
    pub(super) fn new(node: &NodeName, boot: BootId, number: u64) -> Self {
        Self { node: node.clone(), id: SessionId { boot, number } }
    }
}

impl Announcement {
    /// Checks what a forwarder announced.
    pub(super) fn new(
        node: &NodeName,
        boot: BootId,
        open: &CaptureOpen,
    ) -> Result<Self, MalformedOpen> {
        let key = SessionKey::new(node, boot, open.session_no);
        let session = key.id;
        let wrong = |what: String| MalformedOpen { session, what };
        let address = |text: &str, which: &str| {
            SocketAddr::from_str(text).map_err(|_| wrong(format!("{which} address {text:?}")))
        };
        let client = address(&open.client, "client")?;
        let listen = address(&open.listen, "listen")?;
        let ends = Endpoints::new(client, listen)
            .ok_or_else(|| wrong(format!("{client} and {listen} are of two families")))?;
        let customer = Some(&open.customer).filter(|text| !text.is_empty());
        let target = Some(&open.target).filter(|text| !text.is_empty());
        Ok(Self {
            service: open.service.parse().map_err(|e| wrong(format!("service: {e}")))?,
            rule: open.rule.parse().map_err(|e| wrong(format!("rule: {e}")))?,
            customer: customer
                .map(|text| text.parse())
                .transpose()
                .map_err(|e| wrong(format!("customer: {e}")))?,
            target: target.map(|text| address(text, "target")).transpose()?,
            transport: open.transport.parse().map_err(|e| wrong(format!("{e}")))?,
            ends,
            keep: Keep::parse(&open.mode).ok_or_else(|| wrong(format!("mode {:?}", open.mode)))?,
            ts_start_ns: open.ts_start_ns,
            resumed: open
                .resumed
                .then_some(PerDirection { up: open.offset_up, down: open.offset_down }),
            key,
        })
    }

    /// Whether what one allows of chunks is right for the other, too.
    pub(super) fn makes_the_same_packets(&self, other: &Self) -> bool {
        self.transport == other.transport && self.ends == other.ends
    }

    /// Longest chunk that one message may stand for, in bytes.
    pub(super) fn max_chunk(&self) -> u32 {
        match self.transport {
            Transport::Tcp => MAX_CHUNK,
            Transport::Udp => u32::try_from(self.ends.max_datagram()).unwrap_or(u32::MAX),
        }
    }

    fn first_comment(&self, extent: i32) -> String {
        let mut text = format!(
            "sid={} node={} svc={} rule={}",
            self.key.id,
            self.key.node.as_str(),
            self.service.as_str(),
            self.rule.as_str()
        );
        for (name, value) in [
            ("customer", self.customer.as_ref().map(|c| c.as_str().to_owned())),
            ("upstream", self.target.map(|t| t.to_string())),
            ("extent", Some(extent.to_string())),
        ] {
            if let Some(value) = value {
                write!(text, " {name}={value}").expect("a String takes every write");
            }
        }
        text
    }
}

impl Keep {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "headers" => Some(Self::Headers),
            "full" => Some(Self::Full),
            _ => text.strip_prefix("prefix ")?.parse().ok().map(Self::Prefix),
        }
    }

    /// How many of `bytes` that begin at position `seen` should be kept.
    fn wanted(self, seen: u64, bytes: u64) -> u64 {
        match self {
            Self::Headers => 0,
            Self::Prefix(limit) => limit.saturating_sub(seen).min(bytes),
            Self::Full => bytes,
        }
    }
}

impl Session {
    /// A session as announced; `extent` is the number of its first extent.
    /// `left`: where an earlier run of the recorder left it.
    pub(super) fn new(about: Announcement, extent: i32, left: Option<Left>) -> Self {
        let mid_session = left.and_then(|left| left.position).or(about.resumed);
        let fin = left.map(|left| left.fin).unwrap_or_default();
        let next = mid_session.unwrap_or_default();
        let body = match about.transport {
            Transport::Tcp => {
                Body::Tcp(Tcp::new(&about.key.id, about.ts_start_ns, mid_session, fin))
            }
            Transport::Udp => Body::Udp(Udp::new(next)),
        };
        let notes = Notes {
            extent,
            first_in_file: true,
            mid_session,
            cut_noted: false,
            seen: next.sum(),
            gap: 0,
            lost: 0,
        };
        Self { about: Arc::new(about), state: State { body, notes } }
    }

    pub(super) fn about(&self) -> &Arc<Announcement> {
        &self.about
    }

    /// What the next event may change.
    pub(super) fn state(&self) -> State {
        self.state
    }

    /// Forgets what happened since `state` was taken.
    pub(super) fn put_back(&mut self, state: State) {
        self.state = state;
    }

    /// Number of the session's extent in the present file.
    pub(super) fn extent(&self) -> i32 {
        self.state.notes.extent
    }

    /// Where the streams stand: behind the last byte written or known to be lost.
    pub(super) fn position(&self) -> PerDirection<u64> {
        match &self.state.body {
            Body::Tcp(tcp) => tcp.position(),
            Body::Udp(udp) => udp.position(),
        }
    }

    /// Whose FIN is written.
    pub(super) fn finished(&self) -> PerDirection<bool> {
        match &self.state.body {
            Body::Tcp(tcp) => tcp.finished(),
            Body::Udp(_) => PerDirection::default(),
        }
    }

    /// The next packet opens the session's next extent, in another file.
    pub(super) fn next_file(&mut self) {
        let position = self.position();
        let notes = &mut self.state.notes;
        notes.extent = notes.extent.saturating_add(1);
        notes.first_in_file = true;
        notes.cut_noted = false;
        notes.mid_session = Some(position);
        if let Body::Tcp(tcp) = &mut self.state.body {
            tcp.next_file();
        }
    }

    /// Writes the packets of `event` into `sink`.
    pub(super) fn apply<'a>(&mut self, event: &Event<'a>, sink: Sink<'_, 'a>) {
        let last = match event {
            Event::End { reason, totals, .. } => {
                Some(last_comment(&self.about.key.id, *reason, *totals))
            }
            _ => None,
        };
        let State { body, notes } = &mut self.state;
        let mut pen = Pen { about: &self.about, notes, last };
        match body {
            Body::Tcp(tcp) => tcp.apply(event, &mut pen, sink),
            Body::Udp(udp) => udp.apply(event, &mut pen, sink),
        }
    }

    /// Payload that will be missing when the session ends with `totals`, in bytes.
    pub(super) fn loss_until(&self, totals: Totals) -> u64 {
        let position = self.position();
        let mut notes = self.state.notes;
        let mut pen = Pen { about: &self.about, notes: &mut notes, last: None };
        for direction in Direction::BOTH {
            pen.missing(totals.received[direction].saturating_sub(position[direction]));
        }
        notes.lost
    }

    /// Payload found missing that no packet came to tell of, in bytes. Asked after the end.
    pub(super) fn untold_loss(&self) -> u64 {
        self.state.notes.lost
    }
}

fn last_comment(session: &SessionId, reason: Option<EndReason>, totals: Totals) -> String {
    let Totals { received, delivered } = totals;
    let mut text = format!(
        "sid={session} end={} up={} down={}",
        reason.map_or("unknown", EndReason::as_str),
        received.up,
        received.down
    );
    for direction in Direction::BOTH {
        let undelivered = received[direction].saturating_sub(delivered[direction]);
        if undelivered > 0 {
            write!(text, " undelivered_{}={undelivered}", direction.as_str())
                .expect("a String takes every write");
        }
    }
    text
}

impl Pen<'_> {
    pub(super) fn max_segment(&self) -> usize {
        self.about.ends.max_segment()
    }

    /// `bytes` of a stream are missing.
    pub(super) fn missing(&mut self, bytes: u64) {
        let notes = &mut *self.notes;
        notes.gap = notes.gap.saturating_add(bytes);
        notes.lost = notes.lost.saturating_add(self.about.keep.wanted(notes.seen, bytes));
        notes.seen = notes.seen.saturating_add(bytes);
    }

    /// Writes one segment.
    pub(super) fn tcp<'a>(
        &mut self,
        direction: Direction,
        segment: Segment<'a>,
        time_ns: i64,
        sink: Sink<'_, 'a>,
    ) {
        let head = self.about.ends.tcp(direction, &segment);
        self.write(direction, head, (segment.payload, segment.cut), time_ns, sink);
    }

    /// Writes one datagram.
    pub(super) fn udp<'a>(
        &mut self,
        direction: Direction,
        payload: &'a [u8],
        cut: usize,
        time_ns: i64,
        sink: Sink<'_, 'a>,
    ) {
        let head = self.about.ends.udp(direction, payload, cut);
        self.write(direction, head, (payload, cut), time_ns, sink);
    }

    /// The next packet is the session's last.
    pub(super) fn close(&mut self) -> Option<String> {
        self.last.take()
    }

    fn write<'a>(
        &mut self,
        direction: Direction,
        head: Head,
        (payload, cut): (&'a [u8], usize),
        time_ns: i64,
        sink: Sink<'_, 'a>,
    ) {
        let whole_len = u32::try_from(head.as_bytes().len() + payload.len() + cut)
            .expect("a frame is below 64 KiB and its headers");
        let captured = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        let original = captured.saturating_add(u64::try_from(cut).unwrap_or(u64::MAX));
        let comments = self.comments(direction, cut > 0);
        let largest = u64::try_from(self.max_segment()).unwrap_or(u64::MAX);
        let notes = &mut *self.notes;
        let lost_packets = notes.gap.div_ceil(largest);
        let weight = Weight { captured, original, lost: notes.lost };
        notes.seen = notes.seen.saturating_add(original);
        (notes.gap, notes.lost) = (0, 0);
        sink(Packet {
            time_ns,
            direction,
            head,
            payload,
            whole_len,
            weight,
            lost_packets,
            comments,
        });
    }

    fn comments(&mut self, direction: Direction, cut: bool) -> Vec<String> {
        let notes = &mut *self.notes;
        let mut comments = Vec::new();
        if std::mem::take(&mut notes.first_in_file) {
            comments.push(self.about.first_comment(notes.extent));
            if let Some(at) = notes.mid_session.take() {
                comments.push(format!("mid-session up={} down={}", at.up, at.down));
            }
        }
        if notes.gap > 0 {
            comments.push(format!(
                "lost={} gap={} {} bytes before this packet were not captured",
                notes.lost,
                notes.gap,
                direction.as_str()
            ));
        }
        if cut && !notes.cut_noted {
            notes.cut_noted = true;
            comments.push(match self.about.keep {
                Keep::Headers => "cut: payload is not kept, capture = headers".to_owned(),
                Keep::Prefix(bytes) => {
                    format!("cut: payload behind here is not kept, capture = prefix {bytes}")
                }
                Keep::Full => "cut: payload was left out by the forwarder".to_owned(),
            });
        }
        comments
    }
}

/// Longest chunk of a stream that one message may stand for, in bytes: far more than any read, and a
/// bound on the packets that one message makes.
const MAX_CHUNK: u32 = 16 << 20;
