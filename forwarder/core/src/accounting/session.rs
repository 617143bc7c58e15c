//! One session's slot in the counter table, as the data thread that carries it sees it.

use schemas::vocab::{
    ClientAddr, CloseKind, DenyAction, DenyReason, Direction, EgressAddr, EndPhase, EndReason,
    FirstFin, ListenAddr, PerDirection, TargetAddr, Timestamp, Transport,
};

/// What is known of a session when its verdict is given. Names are ids into the table's name area
/// (registered once per configuration), so that opening a session allocates nothing.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// Id of the service's name.
    pub service: u32,
    /// Id of the rule's name.
    pub rule: u32,
    /// Id of the customer's name; 0: none.
    pub customer: u32,
    /// Id of the configuration's revision.
    pub config_rev: u32,
    /// TCP or UDP.
    pub transport: Transport,
    /// The socket peer.
    pub client: ClientAddr,
    /// The local address it used.
    pub listen: ListenAddr,
    /// Wall clock at accept.
    pub ts_start: Timestamp,
}

/// How a session ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending {
    /// The first cause.
    pub reason: EndReason,
    /// The phase it struck in.
    pub phase: EndPhase,
    /// Which side sent its FIN first.
    pub first_fin: FirstFin,
    /// How the client's connection was closed.
    pub client_close: CloseKind,
    /// How the target's connection was closed.
    pub target_close: CloseKind,
    /// The error number that ended it; 0: none.
    pub errno: i32,
    /// Wall clock at the end.
    pub ts_end: Timestamp,
    /// From start to end by the monotonic clock, in microseconds.
    pub duration_us: u64,
}

/// The running totals of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Payload read from one side, in bytes.
    pub received: u64,
    /// Payload the kernel accepted for the other side, in bytes.
    pub bytes: u64,
    /// UDP: datagrams the kernel accepted for the other side.
    pub datagrams: u64,
}

/// An attempt that was refused. Names are ids into the table's name area, as in [`Opening`].
#[derive(Debug, Clone, Copy)]
pub struct Denial {
    /// Id of the service's name.
    pub service: u32,
    /// Id of the name of the rule that refused; 0: none did.
    pub rule: u32,
    /// Id of the name of that rule's customer; 0: none.
    pub customer: u32,
    /// TCP or UDP.
    pub transport: Transport,
    /// The socket peer.
    pub client: ClientAddr,
    /// The local address it used.
    pub listen: ListenAddr,
    /// Accept, policy or drain.
    pub phase: EndPhase,
    /// Why.
    pub reason: DenyReason,
    /// What the client saw.
    pub action: DenyAction,
    /// Payload of a dropped datagram, in bytes.
    pub bytes: u64,
    /// When.
    pub ts: Timestamp,
}

/// The account takes no further session: the client is to be refused with this reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no account can be kept: {reason}")]
pub struct Refused {
    /// `table_full` or `spool_full`.
    pub reason: DenyReason,
}

/// The slot of a running session. One thread writes it; the methods are single relaxed or release
/// stores, never a system call, lock or allocation. Dropped without [`OpenSession::end`] it is
/// closed as `internal`.
#[derive(Debug)]
pub struct OpenSession {
    _todo: (),
}

#[expect(unused_variables, reason = "contract first: the bodies follow with the counter table")]
impl OpenSession {
    /// The session's number in this boot.
    pub fn number(&self) -> u64 {
        unimplemented!()
    }

    /// Which target is dialled, and its configured name's id (0: configured as an address).
    pub fn dialling(&self, target: TargetAddr, target_name: u32) {
        unimplemented!()
    }

    /// The target's connection stands.
    pub fn connected(&self, egress: EgressAddr, ts: Timestamp, connect_us: u64) {
        unimplemented!()
    }

    /// `bytes` of payload were read from the sender of `direction`. Called before they are written
    /// on. `ts` is kept if it is the direction's first payload.
    pub fn received(&self, direction: Direction, bytes: u64, ts: Timestamp) {
        unimplemented!()
    }

    /// The kernel accepted `bytes` of payload for the receiver of `direction`. Called after the
    /// write and before any shutdown.
    pub fn delivered(&self, direction: Direction, bytes: u64) {
        unimplemented!()
    }

    /// The kernel accepted one datagram of `bytes` for the receiver of `direction`.
    pub fn delivered_datagram(&self, direction: Direction, bytes: u64) {
        unimplemented!()
    }

    /// Payload handed to the capture lane and dropped before it, in all.
    pub fn captured(&self, handed: u64, dropped: u64) {
        unimplemented!()
    }

    /// The totals so far.
    pub fn traffic(&self) -> PerDirection<Traffic> {
        unimplemented!()
    }

    /// The session is over; the slot is the journal thread's from here on.
    pub fn end(self, ending: Ending) {
        unimplemented!()
    }
}
