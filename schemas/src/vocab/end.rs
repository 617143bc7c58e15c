//! How sessions end: the first cause, the phase it struck in, and how each side was closed.

use super::term::terms;

terms! {
    /// The first cause of a session's end. Codes and texts are append-only.
    EndReason {
        /// Both FINs seen, all bytes delivered.
        Done = 1 "done",
        /// The client left before the target was connected.
        ClientAbort = 2 "client_abort",
        /// RST from the client, or a write to it failed, in the data phase.
        ClientReset = 3 "client_reset",
        /// The target refused the connection.
        TargetRefused = 4 "target_refused",
        /// No route to the target, or ICMP said so.
        TargetUnreachable = 5 "target_unreachable",
        /// No answer to our connect in time.
        ConnectTimeout = 6 "connect_timeout",
        /// RST from the target, or a write to it failed, in the data phase.
        TargetReset = 7 "target_reset",
        /// The target's name did not resolve.
        ResolveFailed = 8 "resolve_failed",
        /// Every target is down or excluded.
        NoTarget = 9 "no_target",
        /// Ended because its target was marked down.
        TargetDown = 10 "target_down",
        /// TCP: no byte either way for too long.
        IdleTimeout = 11 "idle_timeout",
        /// UDP: idled out, the normal end of an association.
        UdpExpired = 12 "udp_expired",
        /// UDP: the agreed number of replies was reached.
        UdpDone = 13 "udp_done",
        /// One side closed and the other stayed silent for too long.
        HalfCloseTimeout = 14 "half_close_timeout",
        /// A peer did not acknowledge our data in time.
        WriteStall = 15 "write_stall",
        /// The lifetime cap was reached.
        MaxDuration = 16 "max_duration",
        /// The byte allowance was used up.
        Quota = 17 "quota",
        /// The target is one of our own listeners.
        Loop = 18 "loop",
        /// Ended by the operator.
        Killed = 19 "killed",
        /// A drain deadline passed, its listener was removed, or we stopped.
        Drained = 20 "drained",
        /// A running session that the reloaded rules no longer allow.
        Denied = 21 "denied",
        /// We ran out of descriptors, memory or source ports; see `errno`.
        Resource = 22 "resource",
        /// Our bug.
        Internal = 23 "internal",
        /// No end was recorded: the process died; written by recovery.
        Lost = 24 "lost",
    }
}

terms! {
    /// The phase in which the end's cause struck.
    EndPhase {
        /// Between accept and verdict.
        Accept = 1 "accept",
        /// While the rules were asked.
        Policy = 2 "policy",
        /// While a preamble was read.
        Preread = 3 "preread",
        /// While the target's name was looked up.
        Resolve = 4 "resolve",
        /// While the target was dialled.
        Connect = 5 "connect",
        /// While both directions were open.
        Data = 6 "data",
        /// After one direction had ended.
        HalfClosed = 7 "half_closed",
        /// While the forwarder was draining.
        Drain = 8 "drain",
    }
}

terms! {
    /// Which side sent its FIN first.
    FirstFin {
        /// Neither did.
        None = 1 "none",
        /// The client.
        Client = 2 "client",
        /// The target.
        Target = 3 "target",
    }
}

terms! {
    /// How one side's connection was closed.
    CloseKind {
        /// It was not, or there was none.
        None = 1 "none",
        /// By FIN, from that side or ours.
        Fin = 2 "fin",
        /// By RST, from that side or ours.
        Rst = 3 "rst",
        /// By running out of time.
        Timeout = 4 "timeout",
    }
}
