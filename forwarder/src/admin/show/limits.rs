//! Limits, for people.

use super::super::LimitsInUse;
use super::{bytes, counted, grouped, line, rate, table};
use crate::limits::LimitUse;

pub(super) fn text(limits: &LimitsInUse) -> String {
    let mut text = String::new();
    if !limits.list.is_empty() {
        line(&mut text, format_args!("{}", lines(&limits.list)));
    }
    let shown = limits.list.len() as u64;
    match (limits.total, shown < limits.total) {
        (0, _) => line(&mut text, format_args!("no limit is in use")),
        (total, true) => line(
            &mut text,
            format_args!(
                "{} of {} limits in use, the fullest; --top N shows more",
                grouped(shown),
                grouped(total)
            ),
        ),
        (1, false) => line(&mut text, format_args!("1 limit in use")),
        (total, false) => line(&mut text, format_args!("{} limits in use", grouped(total))),
    }
    text
}

/// The limits as a table.
pub(super) fn lines(limits: &[LimitUse]) -> String {
    let head =
        ["limit", "rule", "shared by", "in use", "of", "full", "refused", "held back", "dropped"];
    let rows = limits.iter().map(|limit| {
        vec![
            limit.limit.clone(),
            limit.rule.clone(),
            limit.key.clone(),
            figure(limit.in_use, &limit.unit),
            figure(limit.most, &limit.unit),
            format!("{} %", limit.fullness() / 10),
            grouped(limit.refused),
            grouped(limit.held_back),
            grouped(limit.datagrams_dropped),
        ]
    });
    table(&head.map(String::from), 3, rows)
}

fn figure(figure: u64, unit: &str) -> String {
    match unit {
        "bytes" => bytes(figure),
        "bit/s" => rate(Some(figure)),
        "sessions" => grouped(figure),
        // As in `sessions/10s`.
        other => match other.split_once('/') {
            Some(("sessions", per)) => format!("{}/{per}", counted(figure, "session")),
            _ => format!("{} {other}", grouped(figure)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_in_a_window_is_one_session() {
        assert_eq!(figure(1, "sessions/10s"), "1 session/10s");
        assert_eq!(figure(1_000, "sessions/1m"), "1,000 sessions/1m");
    }

    #[test]
    fn limits_read_well() {
        let limit = |limit: &str, unit: &str, in_use, most| LimitUse {
            rule: "office".to_owned(),
            limit: limit.to_owned(),
            key: "192.0.2.0/24".to_owned(),
            in_use,
            most,
            unit: unit.to_owned(),
            refused: 1_042,
            held_back: 3,
            datagrams_dropped: 0,
        };
        let list = vec![
            limit("client/24 sessions", "sessions", 1_000, 1_000),
            limit("client/24 new_sessions", "sessions/10s", 7, 50),
            limit("client/24 bandwidth down", "bit/s", 99_500_000, 100_000_000),
            limit("client/24 quota both a month", "bytes", 12_345_678_901, 100_000_000_000),
        ];
        let all = LimitsInUse { total: 4, list: list.clone() };
        let some = LimitsInUse { total: 4_096, list };
        insta::assert_snapshot!([all, some, LimitsInUse::default()].map(|l| text(&l)).join("\n"));
    }
}
