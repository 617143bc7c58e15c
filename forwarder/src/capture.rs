//! The capture lane: payload on its way to the recorder. Bounded; it may drop, and counts every
//! byte that it drops.

use forwarder_core::config::CaptureMode;
use schemas::vocab::{Direction, EndReason, PerDirection};
use schemas::wire::{CaptureOpen, MarkKind};

/// The way in, for data threads. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct CaptureLane {
    _todo: (),
}

#[expect(unused_variables, reason = "contract first: the bodies follow with the lane")]
impl CaptureLane {
    /// Announces a session. Never blocks.
    pub fn begin(&self, open: CaptureOpen, mode: CaptureMode) -> SessionCapture {
        unimplemented!()
    }
}

/// One captured session, as the data thread that carries it sees it. No method blocks.
#[derive(Debug)]
pub struct SessionCapture {
    _todo: (),
}

#[expect(unused_variables, reason = "contract first: the bodies follow with the lane")]
impl SessionCapture {
    /// A chunk of a stream, or one whole datagram (empty ones too), as it was received.
    /// `time_ns`: when it was read, nanoseconds since 1970 UTC.
    pub fn data(&mut self, direction: Direction, bytes: &[u8], time_ns: i64) {
        unimplemented!()
    }

    /// A FIN or a reset from the sender of `direction`.
    pub fn mark(&mut self, direction: Direction, kind: MarkKind, time_ns: i64) {
        unimplemented!()
    }

    /// Payload handed over and payload dropped so far, in bytes.
    pub fn handed_and_dropped(&self) -> (u64, u64) {
        unimplemented!()
    }

    /// The session is over.
    pub fn end(
        self,
        reason: EndReason,
        received: PerDirection<u64>,
        delivered: PerDirection<u64>,
        time_ns: i64,
    ) {
        unimplemented!()
    }
}
