//! What is measured on whom, and in which order.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// What stands between client and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Relay {
    /// Nothing.
    Direct,
    /// Forwarder and recorder, nothing captured.
    Weir,
    /// The same with everything captured, and nothing dropped.
    WeirCapture,
    /// Ours, built without an account: what the account costs is the difference.
    WeirNoAccount,
    Haproxy,
    Nginx,
    Realm,
}

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Test {
    /// Many sessions that say nothing after the first byte.
    Idle,
    /// Connect, one byte each way, close.
    Conn,
    /// 64 bytes there and back in one session.
    Rr1,
    /// The same in 32 sessions at once.
    Rr32,
    /// One stream from client to target.
    Bulk1Up,
    /// Eight streams from client to target.
    Bulk8Up,
    /// Eight streams from target to client.
    Bulk8Down,
    /// 16 UDP clients, each with 32 datagrams of 200 bytes under way.
    Udp,
    /// The same with one datagram under way.
    UdpW1,
}

/// How the kernel paces TCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Profile {
    /// Unpaced: what the relays can do.
    Reno,
    /// Paced, as traffic from afar is.
    Bbr,
}

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Figure {
    /// Seconds of the relay's CPU per 10⁹ bytes of payload.
    CpuPerGb,
    /// 10⁹ bits of payload per second.
    GbitPerS,
    /// Microseconds of the relay's CPU per session, exchange or echo.
    CpuUs,
    /// Sessions, exchanges or echos per second.
    PerS,
    /// Half of them took no longer, in microseconds.
    P50Us,
    /// 99 of 100 took no longer.
    P99Us,
    /// Datagrams that never came back, of 100.
    LossPercent,
    /// The relay's own memory (RssAnon) per session.
    KibPerSession,
    /// The relay's descriptors per session.
    FdsPerSession,
}

/// One relay in a network namespace of its own, and what is measured there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) round: u32,
    pub(super) relay: Relay,
    pub(super) profile: Profile,
    pub(super) tests: Vec<Test>,
}

impl Relay {
    /// Whether the test says anything about it.
    pub(super) fn takes(self, test: Test) -> bool {
        match self {
            Self::Direct => test != Test::Idle,
            Self::WeirCapture => matches!(test, Test::Bulk8Up | Test::Bulk8Down),
            Self::Haproxy => !matches!(test, Test::Udp | Test::UdpW1),
            Self::WeirNoAccount => matches!(
                test,
                Test::Conn | Test::Rr32 | Test::Bulk8Up | Test::Bulk8Down | Test::Udp
            ),
            Self::Weir | Self::Nginx | Self::Realm => true,
        }
    }
}

impl Profile {
    /// Pacing tells on sustained flows alone.
    fn takes(self, test: Test) -> bool {
        match self {
            Self::Reno => true,
            Self::Bbr => matches!(test, Test::Bulk8Up | Test::Bulk8Down),
        }
    }
}

impl Figure {
    /// The unit, as a column of a table says it.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::CpuPerGb => "CPU s/GB",
            Self::GbitPerS => "Gbit/s",
            Self::CpuUs => "CPU µs",
            Self::PerS => "per s",
            Self::P50Us => "p50 µs",
            Self::P99Us => "p99 µs",
            Self::LossPercent => "lost %",
            Self::KibPerSession => "KiB each",
            Self::FdsPerSession => "fds each",
        }
    }
}

macro_rules! named_as_on_the_command_line {
    ($($kind:ty),*) => {$(
        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.pad(value.as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}

named_as_on_the_command_line!(Relay, Test, Profile);

/// Every cell in the order in which they run: relays take turns in being first, so that what
/// drifts during a run hits all of them alike.
pub(super) fn cells(
    rounds: u32,
    relays: &[Relay],
    tests: &[Test],
    profiles: &[Profile],
) -> Vec<Cell> {
    let mut cells = Vec::new();
    for round in 0..rounds {
        let mut order = relays.to_vec();
        let turn = usize::try_from(round).unwrap_or_default() % order.len().max(1);
        order.rotate_left(turn);
        for relay in order {
            for &profile in profiles {
                let fits = |test: &Test| relay.takes(*test) && profile.takes(*test);
                let tests: Vec<Test> = tests.iter().copied().filter(fits).collect();
                if !tests.is_empty() {
                    cells.push(Cell { round, relay, profile, tests });
                }
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relays_take_turns_in_being_first() {
        let relays = [Relay::Weir, Relay::Haproxy, Relay::Nginx];
        let cells = cells(3, &relays, &[Test::Conn], &[Profile::Reno]);
        let order: Vec<String> = cells.iter().map(|cell| cell.relay.to_string()).collect();
        let rounds: Vec<&[String]> = order.chunks(3).collect();
        assert_eq!(rounds[0], ["weir", "haproxy", "nginx"]);
        assert_eq!(rounds[1], ["haproxy", "nginx", "weir"]);
        assert_eq!(rounds[2], ["nginx", "weir", "haproxy"]);
    }

    #[test]
    fn nobody_is_asked_for_what_it_cannot_do() {
        let profiles = [Profile::Reno, Profile::Bbr];
        let cells =
            cells(1, &[Relay::Haproxy, Relay::Nginx], &[Test::Udp, Test::Bulk8Up], &profiles);
        let asked: Vec<(Relay, Profile, usize)> =
            cells.iter().map(|cell| (cell.relay, cell.profile, cell.tests.len())).collect();
        assert_eq!(
            asked,
            [
                (Relay::Haproxy, Profile::Reno, 1),
                (Relay::Haproxy, Profile::Bbr, 1),
                (Relay::Nginx, Profile::Reno, 2),
                (Relay::Nginx, Profile::Bbr, 1),
            ]
        );
    }
}
