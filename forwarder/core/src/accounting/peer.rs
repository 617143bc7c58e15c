//! What TCP tells of a session's two peers at its end, and when it is worth asking.

use std::time::Duration;

use schemas::vocab::EndReason;

/// Payload from which on a session's peers are asked, both directions together, in bytes.
const WORTH_BYTES: u64 = 64 << 10;
/// Duration from which on a session's peers are asked.
const WORTH_TIME: Duration = Duration::from_secs(1);

/// What TCP tells of one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Smoothed round trip in microseconds; 0: none was ever measured.
    pub rtt_us: u32,
    /// Segments sent to it again.
    pub retransmits: u32,
    /// Payload it has acknowledged, in bytes.
    pub acknowledged: u64,
}

/// A session's two peers, as far as they were asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Peers {
    /// The client.
    pub client: Option<Peer>,
    /// The target.
    pub target: Option<Peer>,
}

/// Whether the peers of a TCP session that ends are asked: two system calls, which a short session
/// that ended in order would feel and nobody would read.
pub fn is_worth_asking(reason: EndReason, bytes: u64, lasted: Duration, logged: bool) -> bool {
    is_abnormal(reason) || logged || bytes >= WORTH_BYTES || lasted >= WORTH_TIME
}

/// Whether payload that was written may not have arrived.
pub(super) fn is_abnormal(reason: EndReason) -> bool {
    reason != EndReason::Done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_sessions_that_end_in_order_are_not_asked() {
        let second = Duration::from_secs(1);
        let under = second.saturating_sub(Duration::from_nanos(1));
        assert!(!is_worth_asking(EndReason::Done, 65_535, under, false));
        assert!(is_worth_asking(EndReason::Done, 65_536, Duration::ZERO, false));
        assert!(is_worth_asking(EndReason::Done, 0, second, false));
        assert!(is_worth_asking(EndReason::Done, 0, Duration::ZERO, true));
        for reason in EndReason::ALL.iter().filter(|reason| **reason != EndReason::Done) {
            assert!(is_worth_asking(*reason, 0, Duration::ZERO, false), "{reason}");
        }
    }
}
