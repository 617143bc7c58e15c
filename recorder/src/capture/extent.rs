//! What the index says of one session in one file, gathered while its packets are written.

use schemas::table::Capture;
use schemas::vocab::{Direction, PerDirection};

use super::session::{SessionKey, Weight};

const NANOS_PER_MICRO: i64 = 1_000;

/// A session's packets in one file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Extent {
    /// 0, 1, 2… over the files that hold the session.
    pub(super) number: i32,
    /// Where its first block begins and its last one ends; 0 and 0 before the first packet.
    span: (u64, u64),
    pub(super) packets: u64,
    weight: Weight,
    times_ns: (i64, i64),
    with_payload: PerDirection<bool>,
    truncated: bool,
}

impl Extent {
    pub(super) fn new(number: i32) -> Self {
        Self { number, ..Self::default() }
    }

    /// Adds a packet whose block lies at `span` in the file.
    pub(super) fn add(
        &mut self,
        span: (u64, u64),
        time_ns: i64,
        direction: Direction,
        weight: Weight,
    ) {
        if self.packets == 0 {
            self.span.0 = span.0;
            self.times_ns.0 = time_ns;
        }
        self.span.1 = span.1;
        self.times_ns.1 = time_ns;
        self.packets += 1;
        let sum = &mut self.weight;
        sum.captured = sum.captured.saturating_add(weight.captured);
        sum.original = sum.original.saturating_add(weight.original);
        sum.lost = sum.lost.saturating_add(weight.lost);
        self.with_payload[direction] |= weight.original > 0;
        self.truncated |= weight.original > weight.captured;
    }

    /// Adds payload that is missing and that no packet tells of.
    pub(super) fn add_loss(&mut self, bytes: u64) {
        self.weight.lost = self.weight.lost.saturating_add(bytes);
    }

    /// An extent of which nothing could be written.
    pub(super) fn lost(number: i32, bytes: u64, time_ns: i64) -> Self {
        let weight = Weight { lost: bytes, ..Weight::default() };
        Self { number, weight, times_ns: (time_ns, time_ns), ..Self::default() }
    }

    /// The row of the index. `file` is the path below the data directory, `sha256` its digest; none
    /// when nothing could be written.
    pub(super) fn row(
        &self,
        key: &SessionKey,
        file: Option<&str>,
        sha256: Option<&str>,
    ) -> Capture {
        let direction = match (self.with_payload.up, self.with_payload.down) {
            (true, true) => "both",
            (true, false) => "up",
            (false, true) => "down",
            (false, false) => "none",
        };
        Capture {
            node: key.node.as_str().to_owned(),
            boot: key.id.boot.as_str().to_owned(),
            session_no: signed(key.id.number),
            extent: self.number,
            file: file.map(str::to_owned),
            offset_first: signed(self.span.0),
            offset_last: signed(self.span.1),
            packets: signed(self.packets),
            captured_bytes: signed(self.weight.captured),
            original_bytes: signed(self.weight.original),
            dropped_bytes: signed(self.weight.lost),
            ts_first: self.times_ns.0 / NANOS_PER_MICRO,
            ts_last: self.times_ns.1 / NANOS_PER_MICRO,
            direction: direction.to_owned(),
            truncated: self.truncated,
            sha256: sha256.map(str::to_owned),
            key_id: None,
        }
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
