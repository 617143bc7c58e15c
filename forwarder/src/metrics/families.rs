//! Every metric there is, by name. The documentation is checked against this list, and so is what a
//! scrape gives.

use prometheus_client::metrics::MetricType;

/// One metric.
#[derive(Debug, Clone, Copy)]
pub struct Family {
    /// Its name, as queries have it: counters end in `_total`.
    pub name: &'static str,
    /// What kind it is.
    pub(crate) kind: MetricType,
    /// What it says.
    pub help: &'static str,
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricType::Counter, help }
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricType::Gauge, help }
}

const fn histogram(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: MetricType::Histogram, help }
}

/// Every metric.
pub const FAMILIES: &[Family] = &[
    Family { name: "forwarder_build_info", kind: MetricType::Info, help: "Version, node and boot" },
    gauge("forwarder_start_time_seconds", "When this run began, in seconds since 1970 UTC"),
    counter("forwarder_sessions_opened_total", "Sessions that were given a number"),
    gauge("forwarder_sessions_active", "Sessions that run now"),
    counter("forwarder_sessions_closed_total", "Sessions that are over, by end reason"),
    histogram("forwarder_session_duration_seconds", "How long sessions lasted that are over"),
    counter(
        "forwarder_denied_total",
        "Clients and datagrams refused; rule is empty where no rule did",
    ),
    counter("forwarder_limit_rejections_total", "Clients refused by a limit or a quota"),
    counter("forwarder_bytes_total", "Payload delivered, in bytes, running sessions included"),
    counter("forwarder_datagrams_total", "Datagrams delivered"),
    counter("forwarder_datagrams_dropped_total", "Datagrams dropped, by reason"),
    counter("forwarder_splice_bytes_total", "Payload that went through pipes, in bytes"),
    counter(
        "forwarder_splice_fallback_total",
        "Times a flow that would have spliced went on copying",
    ),
    gauge("forwarder_splice_denied", "1 once the kernel has refused splice(2) to this process"),
    gauge("forwarder_pipes_in_use", "Pipes that flows hold at the moment"),
    histogram("forwarder_connect_seconds", "From the verdict to the target's connection"),
    counter("forwarder_connect_failures_total", "Sessions that reached no target, by end reason"),
    gauge("forwarder_target_up", "1: new sessions go to the target; 0: checks or dials failed"),
    gauge("forwarder_target_sessions", "Sessions at the target, those that still dial included"),
    counter(
        "forwarder_throttled_seconds_total",
        "How long sessions were held back by bandwidths, together",
    ),
    gauge("forwarder_udp_sessions", "UDP sessions that run now"),
    counter("forwarder_accept_paused_total", "Times a listener stopped accepting, by what lacked"),
    counter("forwarder_name_lookups_total", "Names and addresses looked up, by result"),
    counter("forwarder_config_reloads_total", "Reloads, by result"),
    counter("forwarder_records_emitted_total", "Rows of the account that were made"),
    counter(
        "forwarder_records_dropped_total",
        "Refusals and events that came too fast and have no row",
    ),
    gauge("forwarder_account_slots_used", "Slots of the counter table in use"),
    gauge("forwarder_account_slots", "Slots of the counter table"),
    gauge("forwarder_spool_bytes", "Bytes of the spool on disk"),
    gauge("forwarder_spool_max_bytes", "Bytes that the spool may have"),
    gauge(
        "forwarder_spool_level",
        "0: the spool takes every row; 1: it takes no interim rows; 2: it takes none",
    ),
    gauge("forwarder_spool_unacknowledged_frames", "Frames that the recorder has not acknowledged"),
    gauge("forwarder_recorder_connected", "1 while the recorder takes the account"),
    counter("forwarder_recorder_connections_total", "Connections made to the recorder"),
    counter(
        "forwarder_capture_bytes_total",
        "Payload of ended sessions handed to captures, in bytes",
    ),
    counter("forwarder_capture_dropped_bytes_total", "Payload dropped from captures, in bytes"),
    counter("forwarder_log_lines_dropped_total", "Log lines that were not written, by reason"),
    counter(
        "forwarder_series_dropped_total",
        "Rules and targets that are not shown: there are too many",
    ),
    gauge("forwarder_alert_on", "1 while the alert is on"),
    counter("forwarder_alerts_total", "Times the alert began"),
];
