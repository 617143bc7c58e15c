//! `[[rule.limit]]` and `rule.quota` as typed.

use std::ops::Range;

use jiff::tz::TimeZone;
use schemas::config::{Findings, Refusal, Value, bandwidth, rate, size};
use toml::Spanned;

use super::{one_of, shorten};
use crate::config::leaf::{Keys, Leaf};
use crate::config::{Bandwidth, Every, Limit, Per, Quota, Rate};

/// What `sessions` may be.
const SESSIONS: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;

/// What `burst` may be, in bytes: less than one segment would let nothing through.
const BURST_BYTES: std::ops::RangeInclusive<u64> = 2048..=1 << 30;

/// `[[rule.limit]]`.
#[derive(Debug)]
pub(in crate::config) struct RawLimit {
    /// Its header.
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) per: Leaf<Per>,
    pub(in crate::config) sessions: Leaf<u64>,
    pub(in crate::config) new_sessions: Leaf<Rate>,
    /// Whether the key is there, be its value right or not.
    pub(in crate::config) has_bandwidth: bool,
    pub(in crate::config) bandwidth: Option<RawBandwidth>,
    /// As above.
    pub(in crate::config) has_quota: bool,
    pub(in crate::config) quota: Option<RawQuota>,
}

/// A limit of each direction and of both together.
#[derive(Debug)]
pub(in crate::config) struct Ways {
    pub(in crate::config) up: Leaf<u64>,
    pub(in crate::config) down: Leaf<u64>,
    pub(in crate::config) both: Leaf<u64>,
}

/// `rule.limit.bandwidth`, in bits per second.
#[derive(Debug)]
pub(in crate::config) struct RawBandwidth {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) ways: Ways,
    pub(in crate::config) burst: Leaf<u64>,
}

/// `rule.limit.quota` and `rule.quota`, in bytes.
#[derive(Debug)]
pub(in crate::config) struct RawQuota {
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) ways: Ways,
    pub(in crate::config) every: Leaf<Every>,
    pub(in crate::config) tz: Leaf<String>,
}

impl RawLimit {
    pub(super) fn read(keys: Spanned<Keys<'_>>, findings: &mut Findings<'_>) -> Self {
        let span = keys.span();
        let mut keys = keys.into_inner();
        let (bandwidth, quota) = (keys.get("bandwidth"), keys.get("quota"));
        let limit = Self {
            span,
            per: keys.text("per", "client", findings, per),
            sessions: keys.integer("sessions", SESSIONS, findings),
            new_sessions: keys.text("new_sessions", "20/s", findings, |text| {
                rate(text).map(|(count, per)| Rate { count, per })
            }),
            has_bandwidth: bandwidth.is_some(),
            bandwidth: RawBandwidth::read(bandwidth, findings),
            has_quota: quota.is_some(),
            quota: RawQuota::read(quota, findings),
        };
        keys.finish(findings);
        limit
    }

    /// Its meaning. `None` is for a limit with faults.
    pub(in crate::config) fn resolve(&self) -> Option<Limit> {
        Some(Limit {
            per: *self.per.value()?,
            sessions: self.sessions.value().copied(),
            new_sessions: self.new_sessions.value().copied(),
            bandwidth: self.bandwidth.as_ref().map(RawBandwidth::resolve),
            quota: match &self.quota {
                Some(quota) => Some(quota.resolve()?),
                None => None,
            },
        })
    }
}

impl Ways {
    fn read(
        keys: &mut Keys<'_>,
        example: &str,
        findings: &mut Findings<'_>,
        read: impl Fn(&str) -> Result<u64, Refusal>,
    ) -> Self {
        Self {
            up: keys.text("up", example, findings, &read),
            down: keys.text("down", example, findings, &read),
            both: keys.text("both", example, findings, &read),
        }
    }

    /// Whether there is none of them.
    pub(in crate::config) fn are_absent(&self) -> bool {
        [&self.up, &self.down, &self.both].into_iter().all(Leaf::is_absent)
    }
}

impl RawBandwidth {
    fn read(value: Option<Value<'_>>, findings: &mut Findings<'_>) -> Option<Self> {
        let value = value?;
        let mut keys = Keys::of(Some(value.section(findings)?));
        let bandwidth = Self {
            span: value.span(),
            ways: Ways::read(&mut keys, "5 MB/s", findings, bandwidth),
            burst: keys.text("burst", "1 MiB", findings, burst),
        };
        keys.finish(findings);
        Some(bandwidth)
    }

    fn resolve(&self) -> Bandwidth {
        Bandwidth {
            up_bps: self.ways.up.value().copied(),
            down_bps: self.ways.down.value().copied(),
            both_bps: self.ways.both.value().copied(),
            burst_bytes: self.burst.value().copied(),
        }
    }
}

impl RawQuota {
    pub(super) fn read(value: Option<Value<'_>>, findings: &mut Findings<'_>) -> Option<Self> {
        let value = value?;
        let mut keys = Keys::of(Some(value.section(findings)?));
        let quota = Self {
            span: value.span(),
            ways: Ways::read(&mut keys, "100 GB", findings, |text| match size(text)? {
                0 => Err(Refusal::new(
                    "this is a quota of nothing",
                    "write \"1 GB\" or the like, or action = \"block\"",
                )),
                bytes => Ok(bytes),
            }),
            every: keys.text("every", "month", findings, |text| match text {
                "day" => Ok(Every::Day),
                "month" => Ok(Every::Month),
                _ => Err(one_of(text, &["day", "month"])),
            }),
            tz: keys.text("tz", "Europe/Berlin", findings, zone),
        };
        keys.finish(findings);
        Some(quota)
    }

    /// Its meaning. `None` is for a quota with faults.
    pub(in crate::config) fn resolve(&self) -> Option<Quota> {
        Some(Quota {
            up_bytes: self.ways.up.value().copied(),
            down_bytes: self.ways.down.value().copied(),
            both_bytes: self.ways.both.value().copied(),
            every: *self.every.value()?,
            tz: self.tz.value()?.clone(),
        })
    }
}

fn per(text: &str) -> Result<Per, Refusal> {
    const HELP: &str = "write one of \"rule\", \"service\", \"customer\", \"client\", \
                        \"client/24\" and \"client/24/56\"";
    match text {
        "rule" => return Ok(Per::Rule),
        "service" => return Ok(Per::Service),
        "customer" => return Ok(Per::Customer),
        "client" => return Ok(Per::CLIENT),
        _ => {}
    }
    let Some(prefixes) = text.strip_prefix("client/") else {
        return Err(one_of(text, &["rule", "service", "customer", "client", "client/24"]));
    };
    let (v4, v6) = prefixes.split_once('/').unwrap_or((prefixes, "56"));
    let prefix = |text: &str, longest: u8| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|len| digits && (1..=longest).contains(len)).ok_or_else(|| {
            let what = if longest == 32 { "IPv4" } else { "IPv6" };
            let message =
                format!("{:?} is no length of an {what} prefix: 1 to {longest}", shorten(text));
            Refusal::new(message, HELP)
        })
    };
    Ok(Per::Client { v4: prefix(v4, 32)?, v6: prefix(v6, 128)? })
}

fn burst(text: &str) -> Result<u64, Refusal> {
    let bytes = size(text)?;
    if BURST_BYTES.contains(&bytes) {
        return Ok(bytes);
    }
    let what = if bytes < *BURST_BYTES.start() { "small" } else { "large" };
    let help = "write a size from \"2 KiB\" to \"1 GiB\"";
    Err(Refusal::new(format!("{text:?} is too {what} for a burst"), help))
}

/// The IANA name of a zone, as the database spells it.
fn zone(text: &str) -> Result<String, Refusal> {
    let found = TimeZone::get(text).ok();
    if let Some(name) = found.as_ref().and_then(TimeZone::iana_name) {
        return Ok(name.to_owned());
    }
    let shown = shorten(text);
    let likeness = |name: &str| strsim::jaro_winkler(&shown.to_lowercase(), &name.to_lowercase());
    let names = jiff::tz::db().available().map(|name| name.as_str().to_owned());
    let near = names
        .map(|name| (likeness(&name), name))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let help = match near {
        Some((_, name)) => format!("did you mean {name:?}?"),
        None => "write the IANA name of a zone, as in \"Europe/Berlin\" or \"UTC\"".to_owned(),
    };
    Err(Refusal::new(format!("there is no time zone {shown:?}"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_limit_is_read_as_it_is_shown() {
        for text in ["rule", "service", "customer", "client", "client/24", "client/24/48"] {
            assert_eq!(per(text).map(|per| per.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(per("client/24"), Ok(Per::Client { v4: 24, v6: 56 }));
        assert_eq!(per("client/32/64"), Ok(Per::CLIENT));
        for bad in
            ["", "clients", "client/", "client/0", "client/33", "client/24/129", "client/+1", "x/1"]
        {
            assert!(per(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn zones_have_iana_names() {
        assert_eq!(zone("europe/berlin"), Ok("Europe/Berlin".to_owned()));
        assert_eq!(zone("UTC"), Ok("UTC".to_owned()));
        let refusal = zone("Europe/Berln").unwrap_err();
        assert_eq!(refusal.help, "did you mean \"Europe/Berlin\"?");
        for bad in ["", "+02:00", "../../etc/passwd", "Mars/Olympus"] {
            assert!(zone(bad).is_err(), "{bad:?}");
        }
    }
}
