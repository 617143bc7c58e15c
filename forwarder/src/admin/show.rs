//! Answers for people: aligned text, or the JSON object as it came.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{Answer, Reloaded, Sessions, Status};
use schemas::exit::Failure;

/// Writes an answer to stdout.
///
/// # Errors
/// Stdout takes no more. A pipe that was closed is not an error: who reads has seen enough.
pub fn print(answer: &Answer, json: bool) -> Result<(), Failure> {
    let text = if json { json_of(answer) } else { text_of(answer) };
    write_out(&text)
}

/// Writes text to stdout.
///
/// # Errors
/// Stdout takes no more. A pipe that was closed is not an error: who reads has seen enough.
pub fn write_out(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::io(&error, "cannot write to stdout"))
        }
        _ => Ok(()),
    }
}

fn json_of(answer: &Answer) -> String {
    let value = match answer {
        Answer::Status(status) => serde_json::to_string_pretty(status),
        Answer::Sessions(sessions) => serde_json::to_string_pretty(sessions),
        Answer::Reload(reloaded) => serde_json::to_string_pretty(reloaded),
        Answer::Error(complaint) => serde_json::to_string_pretty(complaint),
    };
    value.expect("answers have text keys and no fractions") + "\n"
}

/// An answer as aligned text.
pub fn text_of(answer: &Answer) -> String {
    match answer {
        Answer::Status(status) => status_text(status),
        Answer::Sessions(sessions) => sessions_text(sessions),
        Answer::Reload(reloaded) => reloaded_text(reloaded),
        Answer::Error(complaint) => complaint.message.clone() + "\n",
    }
}

fn status_text(status: &Status) -> String {
    let sessions = status.sessions;
    let facts = [
        ("forwarder", format!("{} {}, process {}", status.node, status.version, status.pid)),
        ("boot", format!("{}, up {}", status.boot, age(status.uptime_s))),
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
    for (name, fact) in facts {
        line(&mut text, format_args!("{name:<15}{}", plain(&fact)));
    }
    for (name, count) in status.counters.iter().filter(|(_, count)| **count > 0) {
        line(
            &mut text,
            format_args!("{:<15}{}", "counted", plain(&format!("{name} {}", grouped(*count)))),
        );
    }
    let head = ["service", "listeners", "now", "accepted", "refused", "live up", "live down"]
        .map(String::from);
    let rows = status.services.iter().map(|service| {
        vec![
            service.name.clone(),
            service.listeners.join(" "),
            grouped(service.sessions.current),
            grouped(service.sessions.accepted),
            grouped(service.sessions.refused),
            bytes(service.live_bytes_up),
            bytes(service.live_bytes_down),
        ]
    });
    line(&mut text, format_args!("\n{}", table(&head, 2, rows)));
    text
}

fn sessions_text(sessions: &Sessions) -> String {
    let head = [
        "session",
        "transport",
        "service",
        "rule",
        "customer",
        "client",
        "target",
        "age",
        "up",
        "down",
    ]
    .map(String::from);
    let rows = sessions.list.iter().map(|session| {
        let target = session.target.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            session.session.clone(),
            session.transport.clone(),
            session.service.clone(),
            session.rule.clone(),
            session.customer.clone().unwrap_or_else(|| "-".to_owned()),
            session.client.clone(),
            if session.connected { target } else { format!("({target})") },
            age(session.age_s),
            bytes(session.bytes_up),
            bytes(session.bytes_down),
        ]
    });
    let mut text = String::new();
    if !sessions.list.is_empty() {
        line(&mut text, format_args!("{}", table(&head, 7, rows)));
    }
    let shown = sessions.list.len() as u64;
    match (sessions.total, shown < sessions.total) {
        (0, _) => line(&mut text, format_args!("no session runs")),
        (total, true) => line(
            &mut text,
            format_args!(
                "{} of {} sessions, the oldest; --limit N shows more",
                grouped(shown),
                grouped(total)
            ),
        ),
        (1, false) => line(&mut text, format_args!("1 session")),
        (total, false) => line(&mut text, format_args!("{} sessions", grouped(total))),
    }
    text
}

fn reloaded_text(reloaded: &Reloaded) -> String {
    let mut text = reloaded.warnings.clone();
    match reloaded.changed {
        true => {
            line(&mut text, format_args!("configuration {} is in force", reloaded.config_rev));
        }
        false => line(
            &mut text,
            format_args!("configuration {} was in force already", reloaded.config_rev),
        ),
    }
    for (what, listeners) in
        [("bound", &reloaded.listeners_added), ("closed", &reloaded.listeners_removed)]
    {
        for listener in listeners {
            line(&mut text, format_args!("{what:<8}{listener}"));
        }
    }
    text
}

/// Columns from `first_number` on are figures and stand at the right.
pub(crate) fn table(
    head: &[String],
    first_number: usize,
    rows: impl Iterator<Item = Vec<String>>,
) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(head);
    for row in rows {
        table.add_row(row.iter().map(|cell| plain(cell)));
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index >= first_number {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.join("\n")
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a String takes any text");
}

/// Text without control characters, which a terminal would obey.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number with a comma between every three digits.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Bytes with three significant digits, in powers of 1000.
fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 5] = [
        ("PB", 1_000_000_000_000_000),
        ("TB", 1_000_000_000_000),
        ("GB", 1_000_000_000),
        ("MB", 1_000_000),
        ("kB", 1_000),
    ];
    let Some((unit, factor)) = UNITS.into_iter().find(|(_, factor)| bytes >= *factor) else {
        return format!("{bytes} B");
    };
    let (whole, hundredths) = (bytes / factor, bytes % factor * 100 / factor);
    match whole {
        0..10 => format!("{whole}.{hundredths:02} {unit}"),
        10..100 => format!("{whole}.{} {unit}", hundredths / 10),
        _ => format!("{} {unit}", grouped(whole)),
    }
}

/// Seconds in the two largest units.
fn age(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {:02}s", seconds % 60),
        (0, ..) => format!("{hours}h {minutes:02}m"),
        _ => format!("{days}d {hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        RecorderStatus, ServiceStatus, SessionLine, SessionTotals, SpoolStatus, TableStatus,
    };
    use super::*;

    fn session(number: u64, service: &str, customer: Option<&str>, connected: bool) -> SessionLine {
        SessionLine {
            session: format!("k3f9x2ab-{number}"),
            transport: "tcp".to_owned(),
            service: service.to_owned(),
            rule: "office".to_owned(),
            customer: customer.map(str::to_owned),
            client: "192.0.2.7:50123".to_owned(),
            listen: "192.0.2.1:80".to_owned(),
            target: Some("10.0.0.5:80".to_owned()),
            connected,
            age_s: 75 * number,
            bytes_up: 999 * number,
            bytes_down: 1_234_567 * number * number,
        }
    }

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
            sessions: SessionTotals { current: 1042, accepted: 1_234_567, refused: 12 },
            services: ["web", "dns-for-all"]
                .map(|name| ServiceStatus {
                    name: name.to_owned(),
                    listeners: vec![format!("tcp://0.0.0.0:{}", name.len())],
                    sessions: SessionTotals { current: 521, accepted: 600_000, refused: 6 },
                    live_bytes_up: 1_500,
                    live_bytes_down: 98_765_432_109,
                })
                .to_vec(),
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
        insta::assert_snapshot!(text_of(&Answer::Status(Box::new(status))));
    }

    #[test]
    fn sessions_read_well_and_say_when_there_are_more() {
        let list = vec![session(1, "web", Some("acme"), true), session(1042, "dns", None, false)];
        let all = Sessions { total: 2, list: list.clone() };
        let some = Sessions { total: 4_096, list };
        let texts = [all, some, Sessions::default()].map(|s| text_of(&Answer::Sessions(s)));
        insta::assert_snapshot!(texts.join("\n"));
    }

    #[test]
    fn a_reload_says_what_it_did() {
        let changed = Reloaded {
            config_rev: "24799d94eebe07c8".to_owned(),
            changed: true,
            listeners_added: vec!["tcp://0.0.0.0:81".to_owned()],
            listeners_removed: vec!["udp://0.0.0.0:53".to_owned(), "tcp://[::]:53".to_owned()],
            warnings: "f.toml:1:1: warning: this is doubtful\n".to_owned(),
        };
        insta::assert_snapshot!(text_of(&Answer::Reload(changed)));
    }

    #[test]
    fn figures_are_readable() {
        let shown = [0, 999, 1000, 12_345, 999_999_999, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 B", "999 B", "1.00 kB", "12.3 kB", "999 MB", "18,446 PB"]);
        let shown = [0, 59, 60, 3_599, 3_600, 86_399, 86_400, 200_000].map(age);
        let expected = ["0s", "59s", "1m 00s", "59m 59s", "1h 00m", "23h 59m", "1d 00h", "2d 07h"];
        assert_eq!(shown, expected);
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
