//! `[log]`, `[dns]` and `[[alert]]` as typed.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use schemas::config::{Findings, Refusal, Value, duration, show_duration, size};
use schemas::vocab::{RuleName, ServiceName};
use toml::Spanned;

use super::service::NO_TARGET;
use super::{name, one_of, shorten};
use crate::config::address;
use crate::config::leaf::{Keys, Leaf, List};
use crate::config::{EndedBy, LogFormat, LogLevel, LogTo, Target};

/// What `alert.every` may be: shorter ones would strike between two pieces of payload.
const EVERY: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(1)..=Duration::from_secs(86_400);

/// `[log]`.
#[derive(Debug)]
pub(in crate::config) struct Log {
    pub(in crate::config) to: Leaf<LogTo>,
    pub(in crate::config) format: Leaf<LogFormat>,
    pub(in crate::config) level: Leaf<LogLevel>,
}

impl Log {
    pub(super) fn read(mut keys: Keys<'_>, findings: &mut Findings<'_>) -> Self {
        let log = Self {
            to: keys.text("to", "stderr", findings, |text| match text {
                "stderr" => Ok(LogTo::Stderr),
                "syslog" => Ok(LogTo::Syslog),
                _ if text.starts_with('/') => address::log_file(text).map(LogTo::File),
                _ => Err(one_of(text, &["stderr", "syslog", "/var/log/weir/forwarder.log"])),
            }),
            format: keys.text("format", "json", findings, |text| match text {
                "text" => Ok(LogFormat::Text),
                "json" => Ok(LogFormat::Json),
                _ => Err(one_of(text, &["text", "json"])),
            }),
            level: keys.text("level", "info", findings, |text| match text {
                "error" => Ok(LogLevel::Error),
                "warn" => Ok(LogLevel::Warn),
                "info" => Ok(LogLevel::Info),
                "debug" => Ok(LogLevel::Debug),
                "trace" => Ok(LogLevel::Trace),
                _ => Err(one_of(text, &["error", "warn", "info", "debug", "trace"])),
            }),
        };
        keys.finish(findings);
        log
    }
}

/// `[dns]`.
#[derive(Debug)]
pub(in crate::config) struct Dns {
    pub(in crate::config) servers: Leaf<List<SocketAddr>>,
    pub(in crate::config) require_ptr: Leaf<bool>,
    pub(in crate::config) require_confirmed: Leaf<bool>,
}

impl Dns {
    pub(super) fn read(mut keys: Keys<'_>, findings: &mut Findings<'_>) -> Self {
        const SYSTEM: &str = "leave the key out to ask the servers of the system";
        let dns = Self {
            servers: keys.some("servers", "192.0.2.53", SYSTEM, findings, address::name_server),
            require_ptr: keys.boolean("require_ptr", findings),
            require_confirmed: keys.boolean("require_confirmed", findings),
        };
        keys.finish(findings);
        dns
    }
}

/// `[[alert]]`.
#[derive(Debug)]
pub(in crate::config) struct RawAlert {
    /// Its header.
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) name: Leaf<RuleName>,
    pub(in crate::config) services: Leaf<List<ServiceName>>,
    pub(in crate::config) rules: Leaf<List<RuleName>>,
    pub(in crate::config) targets: Leaf<List<Target>>,
    pub(in crate::config) every: Leaf<Duration>,
    pub(in crate::config) ends_by: Leaf<EndedBy>,
    /// Of an alert about traffic, in bytes.
    pub(in crate::config) below: Leaf<u64>,
    /// As above.
    pub(in crate::config) above: Leaf<u64>,
    /// `above` of an alert about ends.
    pub(in crate::config) ends_above: Leaf<Share>,
}

/// So many, and at least this share of all, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) struct Share {
    pub(in crate::config) above: u64,
    pub(in crate::config) permille: u16,
}

impl RawAlert {
    pub(super) fn read(keys: Spanned<Keys<'_>>, findings: &mut Findings<'_>) -> Self {
        const SERVICES: &str = "leave the key out to mean every service";
        const RULES: &str = "leave the key out to mean every rule";
        let span = keys.span();
        let mut keys = keys.into_inner();
        let ends_by = keys.text("ends_by", "target", findings, |text| match text {
            "client" => Ok(EndedBy::Client),
            "target" => Ok(EndedBy::Target),
            _ => Err(one_of(text, &["client", "target"])),
        });
        let about_ends = !ends_by.is_absent();
        let alert = Self {
            span,
            name: keys.text("name", "quiet", findings, name),
            services: keys.some("services", "web", SERVICES, findings, name),
            rules: keys.some("rules", "office", RULES, findings, name),
            targets: keys.some("targets", "10.0.0.5:80", NO_TARGET, findings, address::target),
            every: keys.text("every", "5m", findings, every),
            below: keys.text("below", "1 kB", findings, size),
            above: match about_ends {
                true => Leaf::Absent,
                false => keys.text("above", "10 GB", findings, size),
            },
            ends_above: match about_ends {
                true => keys.get("above").map_or(Leaf::Absent, |value| share(&value, findings)),
                false => Leaf::Absent,
            },
            ends_by,
        };
        keys.finish(findings);
        alert
    }
}

fn every(text: &str) -> Result<Duration, Refusal> {
    let time = duration(text)?;
    if EVERY.contains(&time) && time.subsec_nanos() == 0 {
        return Ok(time);
    }
    let (shortest, longest) = (show_duration(*EVERY.start()), show_duration(*EVERY.end()));
    let message = format!("{text:?} is not whole seconds from {shortest} to {longest}");
    Err(Refusal::new(message, "write a time, as in \"5m\""))
}

/// `above` of an alert about ends: `50`, `"20%"` or `"50 and 20%"`.
fn share(value: &Value<'_>, findings: &mut Findings<'_>) -> Leaf<Share> {
    const HELP: &str = "write a number of ends (above = 50), a share of the sessions that there \
                        were (above = \"20%\"), or both (above = \"50 and 20%\")";
    let read = match value.as_str() {
        Some(_) => value.read(HELP, |text| share_of(text, HELP), findings),
        None => {
            value.integer(0..=1_000_000_000, findings).map(|above| Share { above, permille: 0 })
        }
    };
    read.map_or(Leaf::Faulty, |share| Leaf::Given(Spanned::new(value.span(), share)))
}

fn share_of(text: &str, help: &str) -> Result<Share, Refusal> {
    let refuse = || {
        let message = format!("{:?} is neither a number nor a share", shorten(text));
        Refusal::new(message, help)
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = |text: &str| text.parse().ok().filter(|_| digits(text)).ok_or_else(refuse);
    let (count, percent) = match text.split_once(" and ") {
        Some((count, percent)) => (number(count)?, percent),
        None if digits(text) => {
            let above = number(text)?;
            let nothing = || Refusal::new(format!("{text:?} is no threshold"), help);
            return (above > 0).then_some(Share { above, permille: 0 }).ok_or_else(nothing);
        }
        None => (0, text),
    };
    let percent = percent.strip_suffix('%').ok_or_else(refuse)?;
    let (whole, tenths) = percent.split_once('.').unwrap_or((percent, "0"));
    if !digits(whole) || whole.len() > 3 || !digits(tenths) || tenths.len() > 1 {
        return Err(refuse());
    }
    let permille = format!("{whole}{tenths}").parse::<u16>().map_err(|_| refuse())?;
    if permille == 0 || permille > 1000 {
        let message = format!("{:?} is no share: shares are \"0.1%\" to \"100%\"", shorten(text));
        return Err(Refusal::new(message, help));
    }
    Ok(Share { above: count, permille })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_told_as_a_number_a_share_or_both() {
        let share = |above, permille| Ok(Share { above, permille });
        assert_eq!(share_of("50", ""), share(50, 0));
        assert_eq!(share_of("20%", ""), share(0, 200));
        assert_eq!(share_of("50 and 2.5%", ""), share(50, 25));
        assert_eq!(share_of("100%", ""), share(0, 1000));
        for bad in
            ["", "0", "00", "%", "0%", "101%", "5.55%", "50 and", "50 and 20", "-1", "a%", "5 %"]
        {
            assert!(share_of(bad, "").is_err(), "{bad:?}");
        }
    }
}
