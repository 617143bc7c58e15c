//! Every key of the configuration file, by its path.
//!
//! The reference documentation and the reader of the file are both checked against this list. Keys of `[[service]]` and `[[rule]]` have the paths `service.x` and `rule.x`.

/// Keys that this version reads.
pub const KEYS: &[&str] = &[
    "node",
    "threads",
    "recorder",
    "recorder.endpoint",
    "recorder.spool",
    "recorder.spool_max",
    "recorder.when_full",
    "accounting",
    "accounting.slot",
    "accounting.table",
    "admin",
    "admin.socket",
    "timeouts",
    "timeouts.preread",
    "timeouts.resolve",
    "timeouts.connect",
    "timeouts.half_closed",
    "timeouts.tcp_idle",
    "timeouts.udp_idle",
    "timeouts.max_duration",
    "timeouts.drain",
    "tcp",
    "tcp.congestion_client",
    "tcp.congestion_target",
    "tcp.keepalive",
    "tcp.user_timeout",
    "tcp.buffer",
    "tcp.pipe",
    "service",
    "service.name",
    "service.listen",
    "service.target",
    "rule",
    "rule.name",
    "rule.services",
    "rule.from",
    "rule.action",
    "rule.target",
    "rule.customer",
    "rule.capture",
    "rule.capture_when_behind",
    "rule.log",
    "rule.limit",
    "rule.limit.per",
    "rule.limit.sessions",
    "rule.limit.new_sessions",
    "rule.limit.bandwidth",
    "rule.limit.bandwidth.up",
    "rule.limit.bandwidth.down",
    "rule.limit.bandwidth.both",
    "rule.limit.bandwidth.burst",
    "rule.limit.quota",
    "rule.limit.quota.up",
    "rule.limit.quota.down",
    "rule.limit.quota.both",
    "rule.limit.quota.every",
    "rule.limit.quota.tz",
    "rule.quota",
    "rule.quota.up",
    "rule.quota.down",
    "rule.quota.both",
    "rule.quota.every",
    "rule.quota.tz",
    "rule.timeouts",
    "rule.timeouts.preread",
    "rule.timeouts.resolve",
    "rule.timeouts.connect",
    "rule.timeouts.half_closed",
    "rule.timeouts.tcp_idle",
    "rule.timeouts.udp_idle",
    "rule.timeouts.max_duration",
];

/// Keys that the design names and a later version reads. They are refused by name, so that nobody
/// believes a limit to be in force that is not.
pub const LATER: &[&str] = &[
    "log",
    "dns",
    "alert",
    "admin.metrics",
    "recorder.tls",
    "service.balance",
    "service.health",
    "service.proxy_protocol",
    "service.source",
    "service.max_udp_sessions",
    "rule.transport",
    "rule.not_from",
    "rule.client_port",
    "rule.server_name",
    "rule.source",
    "rule.proxy_protocol",
    "rule.udp_replies",
    "rule.refuse",
    "rule.unknown_name",
    "rule.timeouts.drain",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_is_in_both_lists() {
        assert!(LATER.iter().all(|key| !KEYS.contains(key)));
    }
}
