//! Running sessions, for people.

use super::super::{SessionDetail, SessionLine, Sessions, Sort, TcpSide};
use super::{age, bytes, counted, grouped, line, plain, rate, table};

/// Where figures begin among the columns.
const FIRST_FIGURE: usize = 7;

pub(super) fn list(sessions: &Sessions) -> String {
    let head = [
        "session",
        "transport",
        "service",
        "rule",
        "customer",
        "client",
        "target",
        "age",
        "idle",
        "up",
        "down",
        "rate up",
        "rate down",
    ];
    let rows = sessions.list.iter().map(row);
    let mut text = String::new();
    if !sessions.list.is_empty() {
        line(&mut text, format_args!("{}", table(&head.map(String::from), FIRST_FIGURE, rows)));
    }
    let shown = sessions.list.len() as u64;
    let which = match sessions.sort {
        Sort::Age => "the oldest",
        Sort::Idle => "those silent for longest",
        Sort::Rate => "the fastest",
        Sort::Bytes => "those that delivered most",
    };
    match (sessions.total, shown < sessions.total) {
        (0, _) => line(&mut text, format_args!("no session runs")),
        (total, true) => line(
            &mut text,
            format_args!(
                "{} of {} sessions, {which}; --top N shows more",
                grouped(shown),
                grouped(total)
            ),
        ),
        (total, false) => line(&mut text, format_args!("{}", counted(total, "session"))),
    }
    text
}

fn row(session: &SessionLine) -> Vec<String> {
    vec![
        session.session.clone(),
        session.transport.clone(),
        session.service.clone(),
        session.rule.clone(),
        or_none(session.customer.as_ref()),
        client(session),
        target(session),
        age(session.age_s),
        idle(session),
        bytes(session.bytes_up),
        bytes(session.bytes_down),
        rate(session.rate_up_bps),
        rate(session.rate_down_bps),
    ]
}

fn client(session: &SessionLine) -> String {
    match &session.proxied_client {
        Some(proxied) => format!("{proxied} by {}", session.client),
        None => session.client.clone(),
    }
}

/// For how long it has been silent, and for want of what.
fn idle(session: &SessionLine) -> String {
    match &session.held_by {
        Some(by) => format!("{}, by {by}", age(session.idle_s)),
        None => age(session.idle_s),
    }
}

/// In parentheses while it is dialled.
fn target(session: &SessionLine) -> String {
    let target = or_none(session.target.as_ref());
    if session.connected { target } else { format!("({target})") }
}

fn or_none(text: Option<&String>) -> String {
    text.cloned().unwrap_or_else(|| "-".to_owned())
}

pub(super) fn one(session: &SessionDetail) -> String {
    let SessionDetail { line: first, .. } = session;
    let named = session.target_name.as_ref().map(|name| format!(", by the name {name}"));
    let took = session.connect_us.map(|took| format!("after {}", milliseconds(took)));
    let direction = |received: i64, delivered: u64, datagrams: i64, rate_bps| {
        let received = u64::try_from(received).unwrap_or(0);
        let datagrams = match datagrams {
            0 => String::new(),
            some => format!(", {}", counted(u64::try_from(some).unwrap_or(0), "datagram")),
        };
        format!(
            "{} delivered, {} held{datagrams}, {}",
            bytes(delivered),
            bytes(received.saturating_sub(delivered)),
            rate(rate_bps)
        )
    };
    let facts = [
        ("session", format!("{}, {}", first.session, first.transport)),
        ("service", format!("{}, rule {}", first.service, first.rule)),
        ("customer", or_none(first.customer.as_ref())),
        ("client", format!("{} to {}", client(first), first.listen)),
        (
            "target",
            format!(
                "{} from {}{}",
                target(first),
                or_none(session.egress.as_ref()),
                named.unwrap_or_default()
            ),
        ),
        (
            "began",
            format!("{} ago, connected {}", age(first.age_s), took.as_deref().unwrap_or("not yet")),
        ),
        ("silent for", idle(first)),
        (
            "up",
            direction(session.received_up, first.bytes_up, session.datagrams_up, first.rate_up_bps),
        ),
        (
            "down",
            direction(
                session.received_down,
                first.bytes_down,
                session.datagrams_down,
                first.rate_down_bps,
            ),
        ),
        ("captured", captured(session)),
        ("client's TCP", side(session.client_tcp)),
        ("target's TCP", side(session.target_tcp)),
        ("configuration", session.config_rev.clone()),
    ];
    let mut text = String::new();
    for (name, fact) in facts {
        line(&mut text, format_args!("{name:<15}{}", plain(&fact)));
    }
    text
}

fn captured(session: &SessionDetail) -> String {
    let figure = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
    match (figure(session.captured_bytes), figure(session.capture_dropped_bytes)) {
        (0, 0) => "-".to_owned(),
        (kept, dropped) => format!("{}, {} dropped", bytes(kept), bytes(dropped)),
    }
}

fn side(side: Option<TcpSide>) -> String {
    let Some(side) = side else { return "-".to_owned() };
    format!(
        "round trip {}, {} sent again, window {} of {} B, {} not read yet",
        milliseconds(side.rtt_us.into()),
        counted(side.retransmits.into(), "segment"),
        grouped(side.cwnd.into()),
        grouped(side.mss.into()),
        bytes(side.unread_bytes)
    )
}

/// Microseconds in milliseconds.
fn milliseconds(us: i64) -> String {
    format!("{}.{:03} ms", us / 1000, us % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(number: u64, service: &str, customer: Option<&str>, connected: bool) -> SessionLine {
        SessionLine {
            session: format!("k3f9x2ab-{number}"),
            transport: "tcp".to_owned(),
            service: service.to_owned(),
            rule: "office".to_owned(),
            customer: customer.map(str::to_owned),
            client: "192.0.2.7:50123".to_owned(),
            proxied_client: (number > 1000).then(|| "198.51.100.9:4711".to_owned()),
            listen: "192.0.2.1:80".to_owned(),
            target: Some("10.0.0.5:80".to_owned()),
            connected,
            age_s: 75 * number,
            idle_s: number % 60,
            bytes_up: 999 * number,
            bytes_down: 1_234_567 * number * number,
            held_by: (number == 1).then(|| "limit".to_owned()),
            rate_up_bps: None,
            rate_down_bps: Some(12_345 * number),
        }
    }

    #[test]
    fn sessions_read_well_and_say_when_there_are_more() {
        let list = vec![session(1, "web", Some("acme"), true), session(1042, "dns", None, false)];
        let all = Sessions { total: 2, sort: Sort::Age, list: list.clone() };
        let some = Sessions { total: 4_096, sort: Sort::Rate, list };
        insta::assert_snapshot!(
            [all, some, Sessions::default()].map(|s| super::list(&s)).join("\n")
        );
    }

    #[test]
    fn a_session_tells_all_of_itself() {
        let side =
            |rtt_us| TcpSide { rtt_us, retransmits: 3, cwnd: 10, mss: 1448, unread_bytes: 65_536 };
        let tcp = SessionDetail {
            line: session(1042, "web", Some("acme"), true),
            config_rev: "24799d94eebe07c8".to_owned(),
            egress: Some("10.0.0.1:40000".to_owned()),
            target_name: Some("files.example.com".to_owned()),
            connect_us: Some(12_345),
            received_up: 1_050_000,
            received_down: 1_341_000_000_000,
            captured_bytes: 1_000,
            client_tcp: Some(side(98_765)),
            target_tcp: Some(side(87)),
            ..SessionDetail::default()
        };
        let udp = SessionDetail {
            line: SessionLine { transport: "udp".to_owned(), ..session(7, "dns", None, false) },
            config_rev: "24799d94eebe07c8".to_owned(),
            datagrams_up: 1_234,
            datagrams_down: 1,
            ..SessionDetail::default()
        };
        insta::assert_snapshot!([tcp, udp].map(|session| one(&session)).join("\n"));
    }
    #[test]
    fn one_segment_is_not_some_segments() {
        let text = side(Some(TcpSide { retransmits: 1, ..TcpSide::default() }));
        assert!(text.contains(", 1 segment sent again,"), "{text}");
    }
}
