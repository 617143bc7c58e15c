//! `[tcp]`: how relayed connections treat their networks.

use std::fmt;
use std::ops::RangeInclusive;
use std::time::Duration;

use schemas::config::{Findings, Refusal, duration, show_duration, show_size, size};
use toml::Spanned;

use super::Environment;
use super::leaf::{Keys, Leaf};

/// Longest name of a congestion control: the kernel's 16 bytes with a zero behind them.
const MAX_NAME_BYTES: usize = 15;
/// Longest `keepalive`; the kernel takes 32,767 s.
const MAX_KEEPALIVE: Duration = Duration::from_hours(9);
/// Longest `user_timeout`.
const MAX_USER_TIMEOUT: Duration = Duration::from_hours(24);
/// What `buffer` may be, in bytes.
const BUFFER_BYTES: RangeInclusive<u64> = (4 << 10)..=(1 << 20);
/// What `pipe` may be, in bytes: a smaller one moves less at a time than a buffer does, and an
/// unprivileged process gets none beyond `fs.pipe-max-size`, which is 1 MiB unless somebody changed
/// it.
const PIPE_BYTES: RangeInclusive<u64> = (64 << 10)..=(1 << 20);
/// Probes without an answer after which a peer is dead.
const PROBES: u32 = 4;

/// How relayed connections treat their networks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tcp {
    /// Towards clients. `None`: the system's.
    pub congestion_client: Option<CongestionControl>,
    /// Towards targets. `None`: the system's.
    pub congestion_target: Option<CongestionControl>,
    /// When silent peers are probed.
    pub keepalive: Keepalive,
    /// How long what was written may go without an acknowledgement. Zero: as the system says.
    pub user_timeout: Duration,
    /// Size of the buffers that payload is copied through, in bytes.
    pub buffer_bytes: usize,
    /// Size of the pipes that payload is spliced through, in bytes, a power of two.
    pub pipe_bytes: usize,
}

/// The name of a congestion control that this machine's kernel offers us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CongestionControl(String);

impl CongestionControl {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CongestionControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A congestion control as the machine has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CongestionOffer {
    /// Its name.
    pub name: String,
    /// Whether this process may choose it.
    pub may_use: bool,
}

/// When silent peers are probed: first after `after`, then every quarter of it, and given up after
/// four probes without an answer, twice `after` in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// Silence after which the first probe is sent, in whole seconds. Zero: none ever is.
    pub after: Duration,
}

impl Keepalive {
    /// Whether silent peers are probed at all.
    pub fn is_on(self) -> bool {
        !self.after.is_zero()
    }

    /// Time between two probes, in whole seconds, at least one.
    pub fn interval(self) -> Duration {
        Duration::from_secs((self.after.as_secs() / u64::from(PROBES)).max(1))
    }

    /// Probes without an answer after which the peer is dead.
    pub const fn probes(self) -> u32 {
        PROBES
    }
}

/// `[tcp]` as typed.
#[derive(Debug)]
pub(super) struct Raw {
    congestion_client: Leaf<CongestionControl>,
    congestion_target: Leaf<CongestionControl>,
    keepalive: Leaf<Duration>,
    user_timeout: Leaf<Duration>,
    buffer: Leaf<u64>,
    pipe: Leaf<u64>,
}

impl Raw {
    pub(super) fn read(mut keys: Keys<'_>, findings: &mut Findings<'_>) -> Self {
        let raw = Self {
            congestion_client: keys.text("congestion_client", "bbr", findings, congestion),
            congestion_target: keys.text("congestion_target", "reno", findings, congestion),
            keepalive: keys.text("keepalive", "60s", findings, |text| seconds(text, MAX_KEEPALIVE)),
            user_timeout: keys
                .text("user_timeout", "30s", findings, |text| seconds(text, MAX_USER_TIMEOUT)),
            buffer: keys.text("buffer", "64 KiB", findings, |text| within(text, &BUFFER_BYTES)),
            pipe: keys.text("pipe", "1 MiB", findings, |text| within(text, &PIPE_BYTES)),
        };
        keys.finish(findings);
        raw
    }

    /// Reports congestion controls that this machine does not have or does not let us have.
    pub(super) fn check(&self, environment: &Environment, findings: &mut Findings<'_>) {
        // Nothing known of the machine: whoever sets the option will hear.
        if environment.congestion_controls.is_empty() {
            return;
        }
        let keys = [
            ("congestion_client", &self.congestion_client),
            ("congestion_target", &self.congestion_target),
        ];
        for (key, leaf) in keys {
            if let Some(wanted) = leaf.given() {
                offered(key, wanted, &environment.congestion_controls, findings);
            }
        }
    }

    /// What the file says, or else the default.
    pub(super) fn resolve(&self, defaults: &Self) -> Option<Tcp> {
        let bytes = |leaf: &Leaf<u64>, default: &Leaf<u64>| {
            usize::try_from(*leaf.value().or(default.value())?).ok()
        };
        Some(Tcp {
            congestion_client: self.congestion_client.value().cloned(),
            congestion_target: self.congestion_target.value().cloned(),
            keepalive: Keepalive { after: *self.keepalive.value().or(defaults.keepalive.value())? },
            user_timeout: *self.user_timeout.value().or(defaults.user_timeout.value())?,
            buffer_bytes: bytes(&self.buffer, &defaults.buffer)?,
            // F_SETPIPE_SZ rounds up to this, fcntl(2).
            pipe_bytes: bytes(&self.pipe, &defaults.pipe)?.next_power_of_two(),
        })
    }
}

fn offered(
    key: &str,
    wanted: &Spanned<CongestionControl>,
    offers: &[CongestionOffer],
    findings: &mut Findings<'_>,
) {
    let name = wanted.get_ref().as_str();
    let ours = offers.iter().filter(|offer| offer.may_use);
    let ours: Vec<String> = ours.map(|offer| format!("{:?}", offer.name)).collect();
    let instead = match &ours[..] {
        [] => "leave the key out".to_owned(),
        [one] => format!("write {one}"),
        several => format!("write one of {}", several.join(", ")),
    };
    let refusal = match offers.iter().find(|offer| offer.name == name) {
        Some(offer) if offer.may_use => return,
        Some(_) => Refusal::new(
            format!("tcp.{key}: {name:?} takes CAP_NET_ADMIN on this machine"),
            format!("{instead}, or add {name} to net.ipv4.tcp_allowed_congestion_control"),
        ),
        None => Refusal::new(
            format!("tcp.{key}: this kernel has no {name:?}"),
            format!("{instead}, or load its module: modprobe tcp_{name}"),
        ),
    };
    findings.fault(wanted.span(), refusal);
}

fn congestion(text: &str) -> Result<CongestionControl, Refusal> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if text.is_empty() || text.len() > MAX_NAME_BYTES || !text.bytes().all(letter) {
        let shown: String = text.chars().take(40).collect();
        let message = format!("{shown:?} is no name of a congestion control");
        let help = "sysctl net.ipv4.tcp_available_congestion_control lists them";
        return Err(Refusal::new(message, help));
    }
    Ok(CongestionControl(text.to_owned()))
}

/// Zero, or whole seconds up to a bound.
fn seconds(text: &str, longest: Duration) -> Result<Duration, Refusal> {
    let time = duration(text)?;
    if time > longest {
        let longest = show_duration(longest);
        let message = format!("{text:?} is too long: the longest is {longest}");
        return Err(Refusal::new(message, format!("write \"{longest}\" or less")));
    }
    if time.subsec_nanos() != 0 {
        let message = format!("{text:?} is not a whole number of seconds");
        return Err(Refusal::new(message, format!("write \"{}s\"", time.as_secs() + 1)));
    }
    Ok(time)
}

/// The size of a buffer or a pipe.
fn within(text: &str, range: &RangeInclusive<u64>) -> Result<u64, Refusal> {
    let bytes = size(text)?;
    if range.contains(&bytes) {
        return Ok(bytes);
    }
    let (smallest, largest) = (show_size(*range.start()), show_size(*range.end()));
    let what = if bytes < *range.start() { "small" } else { "large" };
    let help = format!("write a size from \"{smallest}\" to \"{largest}\"");
    Err(Refusal::new(format!("{text:?} is too {what}"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_does_not_answer_is_given_up_after_twice_the_silence() {
        for (after, interval) in [(60, 15), (4, 1), (1, 1), (32_400, 8_100)] {
            let keepalive = Keepalive { after: Duration::from_secs(after) };
            assert_eq!(keepalive.interval(), Duration::from_secs(interval));
            assert!(keepalive.is_on());
        }
        assert!(!Keepalive { after: Duration::ZERO }.is_on());
    }
}
