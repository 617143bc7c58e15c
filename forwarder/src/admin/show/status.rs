//! How the forwarder is doing, for people.

use super::super::{Held, Status};
use super::{age, bytes, counted, grouped, limits, line, plain, table};

pub(super) fn text(status: &Status) -> String {
    let sessions = status.sessions;
    let facts = [
        ("forwarder", format!("{} {}, process {}", status.node, status.version, status.pid)),
        ("boot", format!("{}, up {}", status.boot, age(status.uptime_s))),
        ("state", state(status)),
        ("configuration", format!("{}, revision {}", status.config_file, status.config_rev)),
        (
            "sessions",
            format!(
                "{} now, {} accepted, {} refused",
                grouped(sessions.current),
                grouped(sessions.accepted),
                grouped(sessions.refused)
            ),
        ),
        (
            "counter table",
            format!(
                "{} of {} slots in use",
                grouped(status.table.used),
                grouped(status.table.size)
            ),
        ),
        ("recorder", format!("{}, {}", status.recorder.endpoint, status.recorder.state)),
        (
            "spool",
            format!(
                "{}, {} of {}, {} frames not acknowledged",
                status.spool.directory,
                bytes(status.spool.bytes),
                bytes(status.spool.max_bytes),
                grouped(status.spool.unacknowledged_frames)
            ),
        ),
    ];
    let mut text = String::new();
    let mut facts = Vec::from(facts);
    facts.extend(held(status).map(|text| ("held back", text)));
    for (name, fact) in facts {
        line(&mut text, format_args!("{name:<15}{}", plain(&fact)));
    }
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        line(
            &mut text,
            format_args!("{:<15}{}", "counted", plain(&format!("{name} {}", grouped(*count)))),
        );
    }
    line(&mut text, format_args!("\n{}", services(status)));
    if !status.rules.is_empty() {
        line(&mut text, format_args!("\n{}", rules(status)));
    }
    if !status.targets.is_empty() {
        line(&mut text, format_args!("\n{}", targets(status)));
    }
    if !status.limits.is_empty() {
        line(&mut text, format_args!("\n{}", limits::lines(&status.limits)));
    }
    text
}

/// Sessions that wait though payload is there.
fn held(status: &Status) -> Option<String> {
    let Held { by_capture, by_limit } = status.held;
    let by = [(by_capture, "by their capture"), (by_limit, "by a bandwidth limit")];
    let some = by.iter().filter(|(count, _)| *count > 0);
    let texts: Vec<_> = some.map(|(count, by)| format!("{} {by}", grouped(*count))).collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

fn state(status: &Status) -> String {
    let paused: Vec<_> =
        status.services.iter().flat_map(|s| &s.paused).map(String::as_str).collect();
    match (status.draining, paused.is_empty()) {
        (true, _) => {
            let left = counted(status.sessions.current, "session");
            format!("draining: nobody is let in, {left} left")
        }
        (false, false) => format!("serving, but paused: {}", paused.join(" ")),
        (false, true) => "serving".to_owned(),
    }
}

fn services(status: &Status) -> String {
    let head = ["service", "listeners", "now", "accepted", "refused", "up", "down"];
    let rows = status.services.iter().map(|service| {
        vec![
            service.name.clone(),
            service.listeners.join(" "),
            grouped(service.sessions.current),
            grouped(service.sessions.accepted),
            grouped(service.sessions.refused),
            bytes(service.delivered.bytes_up),
            bytes(service.delivered.bytes_down),
        ]
    });
    table(&head.map(String::from), 2, rows)
}

fn rules(status: &Status) -> String {
    let head = ["rule", "action", "now", "accepted", "refused", "up", "down"];
    let rows = status.rules.iter().map(|rule| {
        vec![
            rule.name.clone(),
            rule.action.clone(),
            grouped(rule.sessions.current),
            grouped(rule.sessions.accepted),
            grouped(rule.sessions.refused),
            bytes(rule.delivered.bytes_up),
            bytes(rule.delivered.bytes_down),
        ]
    });
    table(&head.map(String::from), 2, rows)
}

fn targets(status: &Status) -> String {
    let head = ["target", "service", "state", "now"];
    let rows = status.targets.iter().map(|target| {
        vec![
            target.target.clone(),
            target.service.clone(),
            target.state.replace('_', " "),
            grouped(target.sessions),
        ]
    });
    table(&head.map(String::from), 3, rows)
}

#[cfg(test)]
mod tests {
    use super::super::super::{
        Delivered, RecorderStatus, RuleStatus, ServiceStatus, SessionTotals, SpoolStatus,
        TableStatus, TargetStatus,
    };
    use super::*;
    use crate::limits::LimitUse;

    #[test]
    fn status_reads_well() {
        let status = Status {
            node: "edge-1".to_owned(),
            boot: "k3f9x2ab".to_owned(),
            version: "0.1.0".to_owned(),
            pid: 4711,
            uptime_s: 200_000,
            config_file: "/etc/weir/forwarder.toml".to_owned(),
            config_rev: "24799d94eebe07c8".to_owned(),
            draining: false,
            sessions: SessionTotals { current: 1042, accepted: 1_234_567, refused: 12 },
            held: Held { by_capture: 12, by_limit: 3 },
            services: ["web", "dns-for-all"]
                .map(|name| ServiceStatus {
                    name: name.to_owned(),
                    listeners: vec![format!("tcp://0.0.0.0:{}", name.len())],
                    sessions: SessionTotals { current: 521, accepted: 600_000, refused: 6 },
                    paused: match name {
                        "web" => Vec::new(),
                        _ => vec!["tcp://0.0.0.0:11".to_owned()],
                    },
                    delivered: Delivered { bytes_up: 150_000, bytes_down: 12_398_765_432_109 },
                    live_bytes_up: 1_500,
                    live_bytes_down: 98_765_432_109,
                })
                .to_vec(),
            rules: [("no-guests", "block"), ("everyone", "pass")]
                .map(|(name, action)| RuleStatus {
                    name: name.to_owned(),
                    action: action.to_owned(),
                    sessions: SessionTotals { current: 1, accepted: 22, refused: 333 },
                    delivered: Delivered { bytes_up: 4_444, bytes_down: 55_555 },
                })
                .to_vec(),
            targets: [("10.0.0.5:80", "up"), ("files.example.com:80", "backing_off")]
                .map(|(name, state)| TargetStatus {
                    service: "web".to_owned(),
                    target: name.to_owned(),
                    state: state.to_owned(),
                    sessions: 521,
                })
                .to_vec(),
            limits: vec![LimitUse {
                rule: "everyone".to_owned(),
                limit: "rule sessions".to_owned(),
                key: "all".to_owned(),
                in_use: 21,
                most: 1_000,
                unit: "sessions".to_owned(),
                ..LimitUse::default()
            }],
            table: TableStatus { used: 1050, size: 65_536 },
            spool: SpoolStatus {
                directory: "/var/lib/weir/spool".to_owned(),
                bytes: 67_108_864,
                max_bytes: 10_737_418_240,
                unacknowledged_frames: 17,
            },
            recorder: RecorderStatus {
                endpoint: "unix:/run/weir/recorder.sock".to_owned(),
                state: "connected".to_owned(),
            },
            counters: [("icmp_errors".to_owned(), 3), ("accept_pauses".to_owned(), 0)].into(),
        };
        let draining = Status { draining: true, ..status.clone() };
        insta::assert_snapshot!(text(&status) + "\n" + &text(&draining));
    }
}
