//! `[[service]]` as typed.

use std::ops::{Range, RangeInclusive};
use std::time::Duration;

use ipnet::IpNet;
use schemas::config::{Findings, Refusal, Value};
use schemas::vocab::ServiceName;
use toml::Spanned;

use super::{name, one_of, some_time};
use crate::config::address::{self, Listen};
use crate::config::leaf::{Keys, Leaf, List};
use crate::config::{Balance, ProxyVersion, Source, Target};

/// What to do about an empty `target`.
pub(super) const NO_TARGET: &str = "write a target, as in [\"10.0.0.5:80\"], or leave the key out";

/// What `max_udp_sessions` may be: no more than `accounting.table` may be.
const UDP_SESSIONS: RangeInclusive<u64> = 1..=4_194_304;

/// What `rise` and `fall` may be.
const CHECKS: RangeInclusive<u64> = 1..=100;

/// `[[service]]`.
#[derive(Debug)]
pub(in crate::config) struct Service {
    /// Its header.
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) name: Leaf<ServiceName>,
    /// Each entry of the list stands for the listeners of each of its ports and transports.
    pub(in crate::config) listen: Leaf<List<Vec<Listen>>>,
    pub(in crate::config) target: Leaf<List<Target>>,
    pub(in crate::config) balance: Leaf<Balance>,
    pub(in crate::config) health: Option<Health>,
    pub(in crate::config) source: Leaf<Source>,
    pub(in crate::config) proxy: Option<Proxy>,
    pub(in crate::config) max_udp_sessions: Leaf<u64>,
}

/// `service.health`.
#[derive(Debug)]
pub(in crate::config) struct Health {
    pub(in crate::config) every: Leaf<Duration>,
    pub(in crate::config) timeout: Leaf<Duration>,
    pub(in crate::config) rise: Leaf<u64>,
    pub(in crate::config) fall: Leaf<u64>,
}

/// `service.proxy_protocol`.
#[derive(Debug)]
pub(in crate::config) struct Proxy {
    pub(in crate::config) span: Range<usize>,
    /// The only version to take, or any.
    pub(in crate::config) accept: Leaf<Option<ProxyVersion>>,
    pub(in crate::config) trusted: Leaf<List<IpNet>>,
    pub(in crate::config) send: Leaf<ProxyVersion>,
}

impl Service {
    pub(super) fn read(keys: Spanned<Keys<'_>>, findings: &mut Findings<'_>) -> Self {
        const LISTENER: &str = "tcp://0.0.0.0:8080";
        let span = keys.span();
        let mut keys = keys.into_inner();
        let no_listener = format!("write a listener, as in [\"{LISTENER}\"]");
        let service = Self {
            span,
            name: keys.text("name", "web", findings, name),
            listen: keys.some("listen", LISTENER, &no_listener, findings, address::listen),
            target: keys.some("target", "10.0.0.5:80", NO_TARGET, findings, address::target),
            balance: keys.text("balance", "round-robin", findings, balance),
            health: Health::read(keys.get("health"), findings),
            source: keys.text("source", "same", findings, address::source),
            proxy: Proxy::read(keys.get("proxy_protocol"), findings),
            max_udp_sessions: keys.integer("max_udp_sessions", UDP_SESSIONS, findings),
        };
        keys.finish(findings);
        service
    }
}

fn balance(text: &str) -> Result<Balance, Refusal> {
    match text {
        "round-robin" => Ok(Balance::RoundRobin),
        "least-sessions" => Ok(Balance::LeastSessions),
        "source-hash" => Ok(Balance::SourceHash),
        "first-available" => Ok(Balance::FirstAvailable),
        _ => {
            Err(one_of(text, &["round-robin", "least-sessions", "source-hash", "first-available"]))
        }
    }
}

impl Health {
    fn read(value: Option<Value<'_>>, findings: &mut Findings<'_>) -> Option<Self> {
        let mut keys = Keys::of(Some(value?.section(findings)?));
        let health = Self {
            every: keys.text("every", "5s", findings, some_time),
            timeout: keys.text("timeout", "2s", findings, some_time),
            rise: keys.integer("rise", CHECKS, findings),
            fall: keys.integer("fall", CHECKS, findings),
        };
        keys.finish(findings);
        Some(health)
    }
}

impl Proxy {
    fn read(value: Option<Value<'_>>, findings: &mut Findings<'_>) -> Option<Self> {
        const NOBODY: &str = "write the networks of the proxies, or leave accept and trusted out";
        let value = value?;
        let mut keys = Keys::of(Some(value.section(findings)?));
        let proxy = Self {
            span: value.span(),
            accept: keys.text("accept", "any", findings, |text| match text {
                "any" => Ok(None),
                "v1" | "v2" => version(text).map(Some),
                _ => Err(one_of(text, &["any", "v1", "v2"])),
            }),
            trusted: keys.some("trusted", "10.0.0.0/8", NOBODY, findings, address::network),
            send: keys.text("send", "v2", findings, version),
        };
        keys.finish(findings);
        Some(proxy)
    }
}

/// A version of the PROXY protocol.
pub(super) fn version(text: &str) -> Result<ProxyVersion, Refusal> {
    match text {
        "v1" => Ok(ProxyVersion::V1),
        "v2" => Ok(ProxyVersion::V2),
        _ => Err(one_of(text, &["v1", "v2"])),
    }
}
