//! A configuration as one JSON object, with the keys of the file and every default in place.

use forwarder_core::config::{
    Action, Alert, Config, CongestionControl, Limit, LogChoice, Pass, ProxyVersion, Rule, Service,
    Source, Tcp, Timeouts, Watch,
};
use serde_json::{Value, json};

use super::text::{ports_text, proxy_word, texts};
use super::when_full;

/// The configuration as one JSON object, with the keys of the file and every default in place.
pub(super) fn json_of(config: &Config) -> Value {
    json!({
        "node": config.node.as_str(),
        "threads": config.threads,
        "revision": config.revision,
        "recorder": {
            "endpoint": format!("unix:{}", config.recorder.socket.display()),
            "spool": config.recorder.spool,
            "spool_max": config.recorder.spool_max_bytes,
            "when_full": when_full(config.recorder.when_full),
        },
        "accounting": {
            "slot": config.accounting.slot_len_s,
            "table": config.accounting.table_slots,
        },
        "admin": {
            "socket": config.admin_socket,
            "metrics": config.metrics.map(|at| at.to_string()),
        },
        "log": {
            "to": config.log.to.to_string(),
            "format": config.log.format.to_string(),
            "level": config.log.level.to_string(),
        },
        "dns": {
            "servers": texts(&config.dns.servers),
            "require_ptr": config.dns.require_ptr,
            "require_confirmed": config.dns.require_confirmed,
        },
        "timeouts": timeouts_json(&config.timeouts, true),
        "tcp": tcp_json(&config.tcp),
        "service": config.services.iter().map(service_json).collect::<Vec<_>>(),
        "rule": config.rules.iter().map(|rule| rule_json(config, rule)).collect::<Vec<_>>(),
        "alert": config.alerts.iter().map(alert_json).collect::<Vec<_>>(),
    })
}

fn tcp_json(tcp: &Tcp) -> Value {
    json!({
        "congestion_client": tcp.congestion_client.as_ref().map(CongestionControl::as_str),
        "congestion_target": tcp.congestion_target.as_ref().map(CongestionControl::as_str),
        "keepalive": tcp.keepalive.after.as_secs_f64(),
        "user_timeout": tcp.user_timeout.as_secs_f64(),
        "buffer": tcp.buffer_bytes,
        "pipe": tcp.pipe_bytes,
    })
}

fn service_json(service: &Service) -> Value {
    let health = service.health.map(|health| {
        json!({
            "every": health.every.as_secs_f64(),
            "timeout": health.timeout.as_secs_f64(),
            "rise": health.rise,
            "fall": health.fall,
        })
    });
    let accept = service.proxy_accept.as_ref();
    let any =
        |version: Option<_>| version.map_or("any".to_owned(), |v: ProxyVersion| v.to_string());
    let listen = [texts(&service.listeners), texts(&service.interfaces)].concat();
    json!({
        "name": service.name.as_str(),
        "listen": listen,
        "target": texts(&service.targets),
        "balance": service.balance.to_string(),
        "health": health,
        "source": source_json(service.source),
        "proxy_protocol": {
            "accept": accept.map(|accept| any(accept.version)),
            "trusted": accept.map(|accept| texts(&accept.trusted)).unwrap_or_default(),
            "send": service.proxy_send.map(|version| version.to_string()),
        },
        "max_udp_sessions": service.max_udp_sessions,
    })
}

/// The kernel's choice has no word in the file.
fn source_json(source: Source) -> Value {
    match source {
        Source::Kernel => Value::Null,
        Source::Same | Source::Address(_) => json!(source.to_string()),
    }
}

fn rule_json(config: &Config, rule: &Rule) -> Value {
    let mut value = json!({
        "name": rule.name.as_str(),
        "services": texts(&rule.services),
        "listeners": texts(&rule.listeners),
        "transport": rule.transport.map(|transport| transport.as_str()),
        "from": texts(&rule.from),
        "not_from": texts(&rule.not_from),
        "client_port": rule.client_port.iter().map(ports_text).collect::<Vec<_>>(),
        "server_name": texts(&rule.server_name),
        "unknown_name": rule.unknown_name.to_string(),
        "refuse": rule.refuse.to_string(),
        "customer": rule.customer.as_ref().map(ToString::to_string),
        "log": log_json(rule.log),
        "limit": rule.limits.iter().map(limit_json).collect::<Vec<_>>(),
        "needs": needs_json(config, rule),
    });
    match &rule.action {
        Action::Block => value["action"] = json!("block"),
        Action::Pass(pass) => {
            value["action"] = json!("pass");
            pass_json(pass, &mut value);
        }
    }
    value
}

fn pass_json(pass: &Pass, value: &mut Value) {
    value["target"] = json!(texts(&pass.targets));
    value["source"] = pass.source.map_or(Value::Null, source_json);
    value["proxy_protocol"] = json!(proxy_word(pass.proxy_send));
    value["udp_replies"] = json!(pass.udp_replies.to_string());
    value["udp_reply_ratio"] = json!(pass.udp_reply_ratio);
    value["capture"] = json!(pass.capture.to_string());
    value["capture_when_behind"] = json!(pass.capture_when_behind.to_string());
    value["timeouts"] = timeouts_json(&pass.timeouts, false);
}

/// What a rule waits for or follows: no key of the file.
fn needs_json(config: &Config, rule: &Rule) -> Value {
    let needs = config.needs(rule);
    json!({
        "reverse_name": needs.reverse_name,
        "server_name": needs.server_name,
        "names": needs.names,
        "interfaces": needs.interfaces,
    })
}

/// A limit, bandwidths in bits per second, sizes in bytes, times in seconds.
fn limit_json(limit: &Limit) -> Value {
    let rate = limit
        .new_sessions
        .map(|rate| json!({ "count": rate.count, "per": rate.per.as_secs_f64() }));
    let bandwidth = limit.bandwidth.map(|bandwidth| {
        json!({
            "up": bandwidth.up_bps,
            "down": bandwidth.down_bps,
            "both": bandwidth.both_bps,
            "burst": bandwidth.burst_bytes,
        })
    });
    let quota = limit.quota.as_ref().map(|quota| {
        json!({
            "up": quota.up_bytes,
            "down": quota.down_bytes,
            "both": quota.both_bytes,
            "every": quota.every.to_string(),
            "tz": quota.tz,
        })
    });
    json!({
        "per": limit.per.to_string(),
        "sessions": limit.sessions,
        "new_sessions": rate,
        "bandwidth": bandwidth,
        "quota": quota,
    })
}

fn alert_json(alert: &Alert) -> Value {
    let mut value = json!({
        "name": alert.name.as_str(),
        "services": texts(&alert.services),
        "rules": texts(&alert.rules),
        "targets": texts(&alert.targets),
        "every": alert.every.as_secs_f64(),
    });
    match alert.watch {
        Watch::Traffic { below, above } => {
            value["below"] = json!(below);
            value["above"] = json!(above);
        }
        Watch::Ends { by, above, share_permille } => {
            value["ends_by"] = json!(by.to_string());
            value["above"] = json!(above);
            value["share"] = json!(f64::from(share_permille) / 1000.0);
        }
    }
    value
}

fn log_json(log: LogChoice) -> Vec<String> {
    log.to_string().split(", ").filter(|moment| !moment.is_empty()).map(str::to_owned).collect()
}

/// Timeouts in seconds.
fn timeouts_json(timeouts: &Timeouts, with_drain: bool) -> Value {
    let mut value = json!({
        "preread": timeouts.preread.as_secs_f64(),
        "resolve": timeouts.resolve.as_secs_f64(),
        "connect": timeouts.connect.as_secs_f64(),
        "half_closed": timeouts.half_closed.as_secs_f64(),
        "tcp_idle": timeouts.tcp_idle.as_secs_f64(),
        "udp_idle": timeouts.udp_idle.as_secs_f64(),
        "max_duration": timeouts.max_duration.as_secs_f64(),
    });
    if with_drain {
        value["drain"] = json!(timeouts.drain.as_secs_f64());
    }
    value
}
