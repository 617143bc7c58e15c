//! What a session is to move, and how its client tells the server.

use std::sync::LazyLock;
use std::time::Duration;

use e2e_tests::dice::Dice;

/// Most bytes that an end reads or writes at once.
pub(crate) const CHUNK: usize = 64 << 10;
/// A prime, so that no two chunks of a stream are alike.
const PERIOD: usize = 65_537;

/// How the two ends take turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP: never more than one side has something under way, so that what the kernel took, it
    /// delivered, even when the forwarder is killed.
    Turns,
    /// TCP: both directions at once.
    Bulk,
    /// UDP: each datagram is answered before the next one.
    Datagrams,
}

/// A session's plan. Bytes are per turn; a header comes on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) turns: u64,
    pub(crate) up: u64,
    pub(crate) down: u64,
    /// What the client waits between turns; the server is not told.
    pub(crate) pause: Duration,
}

impl Plan {
    /// Bytes of the header that a client sends first; a datagram has one of its own.
    pub(crate) const HEADER: usize = 32;

    /// Any plan: mostly small ones, some that go on for seconds, some that fill every buffer.
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let (kind, turns, up, down, pause) = match dice.of(1..=100) {
            1..=40 => (Kind::Turns, dice.of(1..=20), dice.of(0..=4000), dice.of(0..=8000), 0),
            41..=55 => (Kind::Turns, dice.of(20..=300), dice.of(1..=500), dice.of(1..=2000), 20),
            56..=60 => (Kind::Turns, 0, 0, 0, 0),
            61..=70 => (Kind::Bulk, 1, dice.of(0..=100_000), dice.of(0..=1 << 20), 0),
            71..=75 => (Kind::Bulk, 1, dice.of(0..=16 << 20), dice.of(0..=16 << 20), 0),
            76..=95 => (Kind::Datagrams, dice.of(1..=20), dice.of(0..=1400), dice.of(0..=1400), 0),
            _ => (Kind::Datagrams, dice.of(20..=100), dice.of(0..=9000), dice.of(0..=9000), 20),
        };
        Self { kind, turns, up, down, pause: Duration::from_millis(pause) }
    }

    /// What the client says first.
    pub(crate) fn header(self, number: u64) -> [u8; Self::HEADER] {
        let turns = if self.kind == Kind::Bulk { 0 } else { self.turns + 1 };
        let mut header = [0; Self::HEADER];
        for (at, word) in header.chunks_exact_mut(8).zip([number, turns, self.up, self.down]) {
            at.copy_from_slice(&word.to_be_bytes());
        }
        header
    }

    /// The session's number and plan from what a TCP client said first.
    pub(crate) fn parse(header: &[u8; Self::HEADER]) -> (u64, Self) {
        let word = |at: usize| {
            header[at * 8..].first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
        };
        let kind = if word(1) == 0 { Kind::Bulk } else { Kind::Turns };
        let turns = word(1).saturating_sub(1);
        (word(0), Self { kind, turns, up: word(2), down: word(3), pause: Duration::ZERO })
    }
}

/// Up and down streams are shifted against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    Up = 1,
    Down = 31_337,
}

/// The `len` bytes from `offset` on of a stream; at most [`CHUNK`].
pub(crate) fn content(stream: Stream, offset: u64, len: usize) -> &'static [u8] {
    static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut dice = Dice::new(0, 0);
        let once: Vec<u8> = (0..PERIOD).map(|_| dice.throw().to_be_bytes()[0]).collect();
        once.iter().chain(&once).copied().collect()
    });
    let from = (offset + stream as u64) % PERIOD as u64;
    let from = usize::try_from(from).unwrap_or_default();
    &BYTES[from..from + len.min(CHUNK)]
}
