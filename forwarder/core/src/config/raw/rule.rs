//! `[[rule]]` as typed.

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use schemas::config::{Findings, Refusal, Value, size};
use schemas::vocab::{CustomerName, RuleName, ServiceName, Transport};
use toml::Spanned;

use super::client::{self, RawOrigin};
use super::limit::{RawLimit, RawQuota};
use super::service::{NO_TARGET, version};
use super::{Timeouts, name, one_of};
use crate::config::address::{self, Listen};
use crate::config::leaf::{Keys, Leaf, List};
use crate::config::{
    CaptureMode, LogChoice, Per, ProxySend, Refuse, ServerName, Source, Target, UdpReplies,
    UnknownName, WhenBehind,
};

/// What `udp_reply_ratio` may be.
const REPLY_RATIO: RangeInclusive<u64> = 1..=1_000_000;

/// `[[rule]]`.
#[derive(Debug)]
pub(in crate::config) struct Rule {
    /// Its header.
    pub(in crate::config) span: Range<usize>,
    pub(in crate::config) name: Leaf<RuleName>,
    pub(in crate::config) services: Leaf<List<ServiceName>>,
    pub(in crate::config) listeners: Leaf<List<Vec<Listen>>>,
    pub(in crate::config) transport: Leaf<Transport>,
    pub(in crate::config) from: Leaf<List<RawOrigin>>,
    pub(in crate::config) not_from: Leaf<List<RawOrigin>>,
    pub(in crate::config) client_port: Leaf<List<Vec<RangeInclusive<u16>>>>,
    pub(in crate::config) server_name: Leaf<List<ServerName>>,
    pub(in crate::config) unknown_name: Leaf<UnknownName>,
    pub(in crate::config) action: Leaf<Action>,
    pub(in crate::config) refuse: Leaf<Refuse>,
    pub(in crate::config) target: Leaf<List<Target>>,
    pub(in crate::config) source: Leaf<Source>,
    pub(in crate::config) proxy_protocol: Leaf<ProxySend>,
    pub(in crate::config) udp_replies: Leaf<UdpReplies>,
    pub(in crate::config) udp_reply_ratio: Leaf<u64>,
    pub(in crate::config) customer: Leaf<RawCustomer>,
    pub(in crate::config) capture: Leaf<CaptureMode>,
    pub(in crate::config) capture_when_behind: Leaf<WhenBehind>,
    pub(in crate::config) log: Leaf<LogChoice>,
    pub(in crate::config) limits: Vec<RawLimit>,
    pub(in crate::config) quota: Option<RawQuota>,
    /// Where its timeouts stand, if it has some.
    pub(in crate::config) timeouts_span: Option<Range<usize>>,
    pub(in crate::config) timeouts: Timeouts,
}

/// `action`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::config) enum Action {
    Pass,
    Block,
}

/// `customer`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::config) enum RawCustomer {
    Fixed(CustomerName),
    /// As this file says.
    File(PathBuf),
}

impl Rule {
    pub(super) fn read(keys: Spanned<Keys<'_>>, findings: &mut Findings<'_>) -> Self {
        const NO_SERVICE: &str = "leave the key out to mean every service";
        const NO_LISTENER: &str = "leave the key out to mean every listener";
        const EVERYONE: &str = "leave the key out to mean everyone";
        const NOBODY: &str = "leave the key out to take nobody out";
        const ANY_PORT: &str = "leave the key out to mean any port";
        const ANY_NAME: &str = "leave the key out to mean any name, and none";
        const LISTENER: &str = "tcp://0.0.0.0:8080";
        let span = keys.span();
        let mut keys = keys.into_inner();
        let timeouts = keys.get("timeouts");
        let limit_help = "begin every limit with [[rule.limit]]";
        let rule = Self {
            span,
            name: keys.text("name", "everyone", findings, name),
            services: keys.some("services", "web", NO_SERVICE, findings, name),
            listeners: keys.some("listeners", LISTENER, NO_LISTENER, findings, address::listen),
            transport: keys.text("transport", "tcp", findings, transport),
            from: keys.some("from", "192.0.2.0/24", EVERYONE, findings, client::origin),
            not_from: keys.some("not_from", "192.0.2.0/24", NOBODY, findings, client::origin),
            client_port: keys.some(
                "client_port",
                "1024-65535",
                ANY_PORT,
                findings,
                client::client_port,
            ),
            server_name: keys.some(
                "server_name",
                "*.example.com",
                ANY_NAME,
                findings,
                client::server_name,
            ),
            unknown_name: keys.text("unknown_name", "skip", findings, unknown_name),
            action: keys.text("action", "pass", findings, action),
            refuse: keys.text("refuse", "reset", findings, refuse),
            target: keys.some("target", "10.0.0.5:80", NO_TARGET, findings, address::target),
            source: keys.text("source", "same", findings, address::source),
            proxy_protocol: keys.text("proxy_protocol", "v2", findings, |text| match text {
                "off" => Ok(ProxySend::Off),
                "v1" | "v2" => version(text).map(ProxySend::On),
                _ => Err(one_of(text, &["v1", "v2", "off"])),
            }),
            udp_replies: keys.text("udp_replies", "any", findings, udp_replies),
            udp_reply_ratio: keys.integer("udp_reply_ratio", REPLY_RATIO, findings),
            customer: keys.text("customer", "acme", findings, customer),
            capture: keys.text("capture", "full", findings, capture),
            capture_when_behind: keys.text("capture_when_behind", "drop", findings, when_behind),
            log: log(&mut keys, findings),
            limits: keys
                .tables("limit", limit_help, findings)
                .into_iter()
                .map(|keys| RawLimit::read(keys, findings))
                .collect(),
            quota: RawQuota::read(keys.get("quota"), findings),
            timeouts_span: timeouts.as_ref().map(Value::span),
            timeouts: Timeouts::read(
                Keys::of(timeouts.and_then(|value| value.section(findings))),
                false,
                findings,
            ),
        };
        keys.finish(findings);
        rule
    }

    /// Who shares the rule's own quota: a customer's clients, or else each by itself.
    pub(in crate::config) fn quota_per(&self) -> Per {
        if self.customer.is_absent() { Per::CLIENT } else { Per::Customer }
    }
}

fn action(text: &str) -> Result<Action, Refusal> {
    match text {
        "pass" => Ok(Action::Pass),
        "block" => Ok(Action::Block),
        _ => Err(one_of(text, &["pass", "block"])),
    }
}

fn transport(text: &str) -> Result<Transport, Refusal> {
    match text {
        "tcp" => Ok(Transport::Tcp),
        "udp" => Ok(Transport::Udp),
        "both" | "any" | "*" => {
            Err(Refusal::new(format!("{text:?} is the default"), "leave the key out to mean both"))
        }
        _ => Err(one_of(text, &["tcp", "udp"])),
    }
}

fn unknown_name(text: &str) -> Result<UnknownName, Refusal> {
    match text {
        "match" => Ok(UnknownName::Match),
        "skip" => Ok(UnknownName::Skip),
        _ => Err(one_of(text, &["match", "skip"])),
    }
}

fn refuse(text: &str) -> Result<Refuse, Refusal> {
    match text {
        "reset" => Ok(Refuse::Reset),
        "close" => Ok(Refuse::Close),
        _ => Err(one_of(text, &["reset", "close"])),
    }
}

fn udp_replies(text: &str) -> Result<UdpReplies, Refusal> {
    match text {
        "target" => Ok(UdpReplies::Target),
        "any" => Ok(UdpReplies::Any),
        _ => Err(one_of(text, &["target", "any"])),
    }
}

fn customer(text: &str) -> Result<RawCustomer, Refusal> {
    match text.strip_prefix('@') {
        Some(path) => client::file(path, "@customers.toml").map(RawCustomer::File),
        None => name(text).map(RawCustomer::Fixed),
    }
}

fn capture(text: &str) -> Result<CaptureMode, Refusal> {
    match text {
        "off" => Ok(CaptureMode::Off),
        "headers" => Ok(CaptureMode::Headers),
        "full" => Ok(CaptureMode::Full),
        "prefix" => {
            Err(Refusal::new("\"prefix\" does not say how much", "write \"prefix 64 KiB\""))
        }
        _ => match text.strip_prefix("prefix ").map(size).transpose()? {
            Some(0) => Err(Refusal::new("this is a prefix of nothing", "write \"headers\"")),
            Some(bytes) => Ok(CaptureMode::Prefix(bytes)),
            None => Err(one_of(text, &["off", "headers", "prefix 64 KiB", "full"])),
        },
    }
}

fn when_behind(text: &str) -> Result<WhenBehind, Refusal> {
    match text {
        "drop" => Ok(WhenBehind::Drop),
        "slow" => Ok(WhenBehind::Slow),
        _ => Err(one_of(text, &["drop", "slow"])),
    }
}

/// `log`, the one list that may be empty: nothing is logged then.
fn log(keys: &mut Keys<'_>, findings: &mut Findings<'_>) -> Leaf<LogChoice> {
    let nothing = LogChoice::default();
    let moments = keys.list("log", "error", findings, |text| match text {
        "connect" => Ok(LogChoice { connect: true, ..nothing }),
        "disconnect" => Ok(LogChoice { disconnect: true, ..nothing }),
        "error" => Ok(LogChoice { error: true, ..nothing }),
        "data" => Ok(LogChoice { data: true, ..nothing }),
        "tcpinfo" => Ok(LogChoice { tcpinfo: true, ..nothing }),
        _ => Err(one_of(text, &["connect", "disconnect", "error", "data", "tcpinfo"])),
    });
    match &moments {
        Leaf::Absent => Leaf::Absent,
        Leaf::Faulty => Leaf::Faulty,
        Leaf::Given(list) => {
            let all = list.get_ref().iter().fold(nothing, |all, one| all.plus(*one.get_ref()));
            Leaf::Given(Spanned::new(list.span(), all))
        }
    }
}
