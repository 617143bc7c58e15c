//! What is measured, for whoever scrapes it: OpenMetrics text over HTTP (`admin.metrics`).
//!
//! Nothing is counted here: a scrape reads what others count anyway and adds it up, on a thread
//! where that holds up nobody. No label ever names a client.

mod families;
mod page;
pub(crate) mod server;

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry as Encoded;
use schemas::vocab::{Direction, EndReason, PerDirection};

pub use families::{FAMILIES, Family};
use page::Page;

use crate::admin::inside::Inside;
use crate::alerts::Board;
use crate::health::TargetState;
use crate::relay::FlowTotals;

/// Where the figures are.
#[derive(Debug, Clone)]
pub(crate) struct Measured {
    pub(crate) inside: Inside,
    pub(crate) alerts: Board,
}

impl Measured {
    /// What a scrape gets.
    pub(crate) fn render(&self) -> String {
        let (mut registry, mut text) = (Encoded::default(), String::new());
        registry.register_collector(Box::new(self.clone()));
        encode(&mut text, &registry).expect("a String takes any text");
        text
    }

    fn process(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let (node, boot) =
            (self.inside.live.config().node.to_string(), self.inside.account.boot().to_string());
        let version = env!("CARGO_PKG_VERSION");
        let labels = [("version", version), ("node", &node), ("boot", &boot)];
        page.info("forwarder_build_info", &labels)?;
        let started = self.inside.clock.wall(self.inside.started).0 / 1_000_000;
        page.one_gauge("forwarder_start_time_seconds", started.max(0).cast_unsigned())
    }

    fn sessions(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let rules = self.inside.counters.figures.rules();
        let names = |rule: &crate::relay::RuleCounts| {
            (rule.service_name.to_string(), rule.name().to_owned())
        };
        let (mut opened, mut active) = (Vec::new(), Vec::new());
        let (mut closed, mut denied, mut limits) = (Vec::new(), Vec::new(), Vec::new());
        let mut failures = Vec::new();
        for rule in &rules {
            let (service, name) = names(rule);
            // Those that are over are read before those that began: never more are over.
            let mut over = 0;
            for (reason, count) in rule.closed.read() {
                over += count;
                closed.push((vec![service.clone(), name.clone(), reason.to_string()], count));
                if is_connect_failure(reason) {
                    failures.push((vec![service.clone(), name.clone(), reason.to_string()], count));
                }
            }
            let began = rule.opened.load(Ordering::Acquire);
            for (reason, count) in rule.denied.read() {
                let labels = vec![service.clone(), name.clone(), reason.to_string()];
                denied.push((labels, count));
            }
            for (limit, count) in rule.limits() {
                limits.push((vec![service.clone(), name.clone(), limit], count));
            }
            if began == 0 && rule.rule_name.is_none() {
                continue;
            }
            active.push((vec![service.clone(), name.clone()], began.saturating_sub(over)));
            opened.push((vec![service, name], began));
        }
        let services = self.inside.counters.figures.services();
        let by_rule = ["service", "rule"];
        let by_reason = ["service", "rule", "reason"];
        page.counters("forwarder_sessions_opened_total", &by_rule, opened)?;
        page.gauges("forwarder_sessions_active", &by_rule, active)?;
        page.counters("forwarder_sessions_closed_total", &by_reason, closed)?;
        page.counters("forwarder_connect_failures_total", &by_reason, failures)?;
        page.counters("forwarder_denied_total", &by_reason, denied)?;
        let by_limit = ["service", "rule", "limit"];
        page.counters("forwarder_limit_rejections_total", &by_limit, limits)?;
        let histograms = |of: fn(&crate::relay::ServiceCounts) -> &crate::relay::Histogram| {
            services.iter().map(move |(name, counts)| (name.to_string(), of(counts).read()))
        };
        page.histograms("forwarder_session_duration_seconds", histograms(|of| &of.durations))?;
        page.histograms("forwarder_connect_seconds", histograms(|of| &of.connects))?;
        let captured = services.iter().map(|(name, counts)| {
            (vec![name.to_string()], counts.captured.load(Ordering::Relaxed))
        });
        page.counters("forwarder_capture_bytes_total", &["service"], captured.collect())?;
        let udp = services
            .iter()
            .map(|(name, of)| (vec![name.to_string()], of.udp_sessions.load(Ordering::Relaxed)));
        page.gauges("forwarder_udp_sessions", &["service"], udp.collect())
    }

    fn flows(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let (mut bytes, mut datagrams, mut spliced) = (Vec::new(), Vec::new(), Vec::new());
        for flow in self.inside.counters.figures.flows() {
            let totals = flow.totals();
            let target = flow.target.as_ref().map(ToString::to_string);
            if target.is_none() && totals == FlowTotals::default() {
                continue;
            }
            let rule = flow.rule.as_ref().map(ToString::to_string);
            let names = vec![
                flow.service.to_string(),
                rule.unwrap_or_default(),
                target.unwrap_or_default(),
            ];
            let both = |of: PerDirection<u64>| {
                Direction::BOTH.map(|direction| {
                    let direction_name = direction.as_str().to_owned();
                    ([names.clone(), vec![direction_name]].concat(), of[direction])
                })
            };
            bytes.extend(both(totals.bytes));
            if totals.datagrams.sum() > 0 {
                datagrams.extend(both(totals.datagrams));
            }
            if totals.spliced > 0 {
                spliced.push((names, totals.spliced));
            }
        }
        let labels = ["service", "rule", "target", "direction"];
        page.counters("forwarder_bytes_total", &labels, bytes)?;
        page.counters("forwarder_datagrams_total", &labels, datagrams)?;
        page.counters("forwarder_splice_bytes_total", &labels[..3], spliced)?;
        let (mut up, mut sessions) = (Vec::new(), Vec::new());
        for target in self.inside.targets.snapshot(self.inside.clock.now()) {
            let names = vec![target.service.to_string(), target.target];
            up.push((names.clone(), u64::from(target.state == TargetState::Up)));
            sessions.push((names, target.sessions));
        }
        page.gauges("forwarder_target_up", &["service", "target"], up)?;
        page.gauges("forwarder_target_sessions", &["service", "target"], sessions)
    }

    fn data_path(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let (counters, limits) = (&self.inside.counters, self.inside.limits.counters());
        let value = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let dropped = [
            ("unsent", value(&counters.datagrams_unsent)),
            ("undeliverable", value(&counters.datagrams_undeliverable)),
            ("paused", value(&counters.datagrams_paused)),
            ("sessions_full", value(&counters.udp_sessions_refused)),
            ("withheld", value(&counters.udp_replies_withheld)),
            ("limit", value(&limits.datagrams_dropped)),
            ("receive_queue", self.inside.account.datagrams_lost()),
        ];
        page.each("forwarder_datagrams_dropped_total", "reason", &dropped)?;
        let fallback = [
            ("no_pipe", value(&counters.pipes_refused)),
            ("no_capture_pipe", self.inside.capture.counts().pipes_refused),
        ];
        page.each("forwarder_splice_fallback_total", "why", &fallback)?;
        page.one_gauge("forwarder_splice_denied", value(&counters.splice_denied))?;
        page.one_gauge("forwarder_pipes_in_use", value(&counters.pipes_in_use))?;
        let paused = [("resource", value(&counters.accept_pauses))];
        page.each("forwarder_accept_paused_total", "why", &paused)?;
        let held_back = Duration::from_micros(value(&limits.held_back_us));
        page.seconds("forwarder_throttled_seconds_total", &[("scope", "bandwidth")], held_back)?;
        let names = &self.inside.names;
        let (asked, negative) = (value(&names.lookups), value(&names.negative));
        let failed = value(&names.failures);
        let lookups = [
            ("cached", value(&names.hits)),
            ("found", asked.saturating_sub(negative).saturating_sub(failed)),
            ("negative", negative),
            ("failed", failed),
            ("refused", value(&names.refused)),
        ];
        page.each("forwarder_name_lookups_total", "result", &lookups)?;
        let reloads =
            [("in_force", value(&counters.reloads)), ("refused", value(&counters.reloads_refused))];
        page.each("forwarder_config_reloads_total", "result", &reloads)?;
        page.one_counter("forwarder_series_dropped_total", counters.figures.unseen())
    }

    fn account(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let (used, size) = self.inside.account.table_use();
        page.one_counter("forwarder_records_emitted_total", self.inside.account.rows())?;
        page.one_counter("forwarder_records_dropped_total", self.inside.account.reports_lost())?;
        page.one_gauge("forwarder_account_slots_used", used as u64)?;
        page.one_gauge("forwarder_account_slots", size as u64)?;
        page.one_gauge("forwarder_spool_bytes", self.inside.spool.bytes())?;
        page.one_gauge("forwarder_spool_max_bytes", self.inside.spool.max_bytes)?;
        page.one_gauge("forwarder_spool_level", self.inside.spool.level())?;
        let frames = self.inside.spool.unacknowledged();
        page.one_gauge("forwarder_spool_unacknowledged_frames", frames)?;
        let (connected, connections) = {
            let link = self.inside.link.borrow();
            (link.connected_since_us.is_some(), link.connections)
        };
        page.one_gauge("forwarder_recorder_connected", connected.into())?;
        page.one_counter("forwarder_recorder_connections_total", connections)?;
        let dropped = self.inside.capture.counts().dropped_bytes;
        page.one_counter("forwarder_capture_dropped_bytes_total", dropped)?;
        let too_many = self.inside.counters.log_lines_dropped.load(Ordering::Relaxed);
        let lines = [("too_many", too_many), ("unwritten", self.inside.log_lines_lost.count())];
        page.each("forwarder_log_lines_dropped_total", "reason", &lines)
    }

    fn alerts(&self, page: &mut Page<'_>) -> std::fmt::Result {
        let alerts = self.alerts.read();
        let on = alerts.iter().map(|(name, one)| (vec![name.clone()], one.is_on.into()));
        page.gauges("forwarder_alert_on", &["alert"], on.collect())?;
        let times = alerts.iter().map(|(name, one)| (vec![name.clone()], one.times));
        page.counters("forwarder_alerts_total", &["alert"], times.collect())
    }
}

impl Collector for Measured {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> std::fmt::Result {
        let page = &mut Page::new(encoder);
        self.process(page)?;
        self.sessions(page)?;
        self.flows(page)?;
        self.data_path(page)?;
        self.account(page)?;
        self.alerts(page)
    }
}

/// Whether a session with this end never reached a target.
fn is_connect_failure(reason: EndReason) -> bool {
    matches!(
        reason,
        EndReason::TargetRefused
            | EndReason::TargetUnreachable
            | EndReason::ConnectTimeout
            | EndReason::ResolveFailed
            | EndReason::NoTarget
            | EndReason::Loop
    )
}
