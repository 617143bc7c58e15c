//! What Weir is to reach, as ratios to a peer measured in the same run, or as bare figures.

use super::plan::{Figure, Profile, Relay, Test};

/// A bound, and on which side of it is right.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    /// Whether a value reaches it.
    pub(super) fn reached(self, value: f64) -> bool {
        match self {
            Self::AtMost(bound) => value <= bound,
            Self::AtLeast(bound) => value >= bound,
        }
    }

    /// As in a table.
    pub(super) fn text(self) -> String {
        match self {
            Self::AtMost(bound) => format!("≤ {bound:.2}"),
            Self::AtLeast(bound) => format!("≥ {bound:.2}"),
        }
    }
}

/// The ratio of `ours` to `peer` that is to be reached.
pub(super) fn ratio(
    profile: Profile,
    test: Test,
    figure: Figure,
    ours: Relay,
    peer: Relay,
) -> Option<Goal> {
    let [haproxy, nginx, realm] = match (ours, profile, test, figure) {
        (Relay::Weir, Profile::Reno, Test::Bulk8Up | Test::Bulk8Down, Figure::CpuPerGb) => {
            [Some(0.30), Some(0.30), Some(1.15)]
        }
        (Relay::Weir, Profile::Reno, Test::Bulk8Up | Test::Bulk8Down, Figure::GbitPerS) => {
            [Some(1.6), Some(1.5), Some(1.0)]
        }
        (Relay::WeirCapture, Profile::Reno, Test::Bulk8Up | Test::Bulk8Down, Figure::CpuPerGb) => {
            [Some(2.0), None, None]
        }
        (Relay::WeirCapture, Profile::Reno, Test::Bulk8Up | Test::Bulk8Down, Figure::GbitPerS) => {
            [Some(0.65), None, None]
        }
        (Relay::Weir, Profile::Bbr, Test::Bulk8Up | Test::Bulk8Down, Figure::CpuPerGb) => {
            [Some(0.45), Some(0.48), Some(0.80)]
        }
        (Relay::Weir, Profile::Reno, Test::Conn, Figure::CpuUs) => {
            [Some(1.0), Some(1.05), Some(0.78)]
        }
        (Relay::Weir, Profile::Reno, Test::Rr32, Figure::CpuUs) => {
            [Some(1.0), Some(1.05), Some(0.80)]
        }
        (Relay::Weir, Profile::Reno, Test::Udp, Figure::CpuUs) => [None, Some(0.58), Some(0.60)],
        _ => [None; 3],
    };
    let bound = match peer {
        Relay::Haproxy => haproxy,
        Relay::Nginx => nginx,
        Relay::Realm => realm,
        Relay::Direct | Relay::Weir | Relay::WeirCapture | Relay::WeirNoAccount => None,
    }?;
    Some(match figure {
        Figure::GbitPerS => Goal::AtLeast(bound),
        _ => Goal::AtMost(bound),
    })
}

/// The same of the means of up and down with eight streams, by which capturing is judged besides: what
/// HAProxy uses differs by direction.
pub(super) fn mean_ratio(
    profile: Profile,
    figure: Figure,
    ours: Relay,
    peer: Relay,
) -> Option<Goal> {
    match (ours, profile, figure, peer) {
        (Relay::WeirCapture, Profile::Reno, Figure::CpuPerGb, Relay::Haproxy) => {
            Some(Goal::AtMost(2.0))
        }
        (Relay::WeirCapture, Profile::Reno, Figure::GbitPerS, Relay::Haproxy) => {
            Some(Goal::AtLeast(0.65))
        }
        _ => None,
    }
}

/// The figure of Weir itself that is to be reached.
pub(super) fn absolute(test: Test, figure: Figure) -> Option<Goal> {
    match (test, figure) {
        (Test::Udp, Figure::LossPercent) => Some(Goal::AtMost(0.1)),
        (Test::Idle, Figure::KibPerSession) => Some(Goal::AtMost(2.5)),
        (Test::Idle, Figure::FdsPerSession) => Some(Goal::AtMost(2.0)),
        _ => None,
    }
}

/// The ratio of Weir's CPU to that of the same built without an account which is to be kept.
pub(super) fn with_account(test: Test) -> Option<Goal> {
    match test {
        Test::Conn | Test::Rr32 | Test::Bulk8Up | Test::Bulk8Down | Test::Udp => {
            Some(Goal::AtMost(1.02))
        }
        Test::Idle | Test::Rr1 | Test::Bulk1Up | Test::UdpW1 => None,
    }
}

/// What the account may cost outside the threads that relay: microseconds per session where sessions
/// are what the test is about, else a share of the forwarder's CPU.
pub(super) fn account(test: Test) -> Option<Goal> {
    match test {
        Test::Conn => Some(Goal::AtMost(1.5)),
        Test::Rr32 | Test::Bulk8Up | Test::Bulk8Down | Test::Udp => Some(Goal::AtMost(0.02)),
        Test::Idle | Test::Rr1 | Test::Bulk1Up | Test::UdpW1 => None,
    }
}
