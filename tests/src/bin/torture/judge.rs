//! Holding the account against what clients and servers know.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::plan::Kind;
use crate::stage::Stage;
use crate::truth::{Session, Truth};

/// What may lie in the buffers of both connections when the forwarder dies: the kernel took it, and
/// the reset threw it away.
const IN_FLIGHT: u64 = 16 << 20;
/// Most differences of a run that are told; all are counted.
const TOLD: usize = 100;

const SESSIONS: &str = "select session, client_ip, client_port, listen_port, transport, bytes_up, \
    bytes_down, received_up, received_down, end_reason, quality from sessions";
/// Sessions of which the usage is not what their row says, or that have usage and no row.
const USAGE: &str = "select session, s.bytes_up, s.bytes_down, u.up, u.down from \
    (select session, bytes_up, bytes_down from sessions) s full join \
    (select session, sum(bytes_up)::bigint as up, sum(bytes_down)::bigint as down from usage group by all) u \
    using (session) where coalesce(s.bytes_up, -1) <> coalesce(u.up, 0) or coalesce(s.bytes_down, -1) <> coalesce(u.down, 0)";

/// A row of `sessions`.
#[derive(Debug, Clone, Deserialize)]
struct Row {
    session: String,
    client_ip: IpAddr,
    client_port: u16,
    listen_port: u16,
    transport: String,
    bytes_up: u64,
    bytes_down: u64,
    received_up: u64,
    received_down: u64,
    end_reason: String,
    quality: u8,
}

/// What came of the comparison.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// Rows of `sessions`.
    pub(crate) rows: u64,
    /// Sessions that both ends know to be whole.
    pub(crate) whole: u64,
    /// Rows that a kill cut off.
    pub(crate) cut_off: u64,
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) invented: u64,
    /// Rows whose figures are not what they must be.
    pub(crate) inexact: u64,
    /// Received less billed, of all rows, in bytes.
    pub(crate) bound: u64,
    /// What is wrong, precisely; the first ones.
    pub(crate) differences: Vec<String>,
}

impl Verdict {
    fn differ(&mut self, what: String) {
        if self.differences.len() < TOLD {
            self.differences.push(what);
        }
    }

    /// Whether nothing is wrong.
    pub(crate) fn is_fine(&self) -> bool {
        self.differences.is_empty()
    }
}

/// Compares the published tables with the truth.
pub(crate) fn judge(stage: &Stage, truth: &Truth) -> Result<Verdict> {
    let text = stage.analyze(&["sql", SESSIONS, "--format", "ndjson"], "sessions.ndjson")?;
    let mut rows: HashMap<SocketAddr, Vec<Row>> = HashMap::new();
    let mut verdict = Verdict::default();
    let mut known = HashSet::new();
    for line in text.lines() {
        let row: Row = serde_json::from_str(line).with_context(|| line.to_owned())?;
        verdict.rows += 1;
        if !known.insert(row.session.clone()) {
            verdict.twice += 1;
            verdict.differ(format!("twice: {row:?}"));
        }
        rows.entry(SocketAddr::new(row.client_ip, row.client_port)).or_default().push(row);
    }
    for session in truth.sessions() {
        let rows = rows.remove(&session.client).unwrap_or_default();
        compare(&mut verdict, &session, &rows);
    }
    for row in rows.into_values().flatten() {
        verdict.invented += 1;
        verdict.differ(format!("invented: {row:?}"));
    }
    for damage in truth.damaged() {
        verdict.inexact += 1;
        verdict.differ(damage);
    }
    for line in stage.analyze(&["sql", USAGE, "--format", "ndjson"], "usage.ndjson")?.lines() {
        verdict.inexact += 1;
        verdict.differ(format!("usage is not what the session moved: {line}"));
    }
    Ok(verdict)
}

fn compare(verdict: &mut Verdict, session: &Session, rows: &[Row]) {
    if rows.is_empty() {
        if session.is_certain() {
            verdict.lost += 1;
            verdict.differ(format!("lost: {session:?}"));
        }
        return;
    }
    // An association that a kill cut off may go on as another one; a connection cannot.
    if rows.len() > 1 && !session.is_udp() {
        verdict.twice += 1;
        verdict.differ(format!("twice: {session:?} {rows:?}"));
        return;
    }
    verdict.whole += u64::from(session.is_whole());
    verdict.cut_off += rows.iter().filter(|row| row.end_reason == "lost").count() as u64;
    let faults = faults(session, rows);
    if !faults.is_empty() {
        verdict.inexact += 1;
        verdict.differ(format!("{}: {session:?} {rows:?}", faults.join(", ")));
    }
    verdict.bound += rows
        .iter()
        .map(|row| row.received_up + row.received_down - row.bytes_up - row.bytes_down)
        .sum::<u64>();
}

/// What is wrong with the figures of one session.
fn faults(session: &Session, rows: &[Row]) -> Vec<&'static str> {
    let sum = |column: fn(&Row) -> u64| rows.iter().map(column).sum::<u64>();
    let (client, server) = (session.at_client, session.at_server.unwrap_or_default());
    let up = Way {
        sent: client.sent,
        came: server.received,
        received: sum(|row| row.received_up),
        bytes: sum(|row| row.bytes_up),
    };
    let down = Way {
        sent: server.sent,
        came: client.received,
        received: sum(|row| row.received_down),
        bytes: sum(|row| row.bytes_down),
    };
    // With one datagram or one turn under way, whatever the kernel took it has delivered.
    let in_flight = match session.plan.kind {
        Kind::Turns => 0,
        Kind::Bulk => IN_FLIGHT,
        // The reply that the client has given up waiting for.
        Kind::Datagrams => 16 + session.plan.down.max(session.plan.up),
    };
    let mut faults = up.faults(
        [
            "received more up than sent",
            "billed more up than received",
            "more came up than received",
            "billed more up than came",
        ],
        in_flight,
    );
    faults.extend(down.faults(
        [
            "received more down than sent",
            "billed more down than received",
            "more came down than received",
            "billed more down than came",
        ],
        in_flight,
    ));
    let ended_alone = |row: &Row| row.end_reason == "done";
    let cut_off = |row: &Row| row.end_reason == "lost";
    let exact = up.bytes == up.came && down.bytes == down.came;
    // A kill between the last write and its count ends streams as if in order; the row says `lost`.
    if session.is_whole() && !rows.iter().any(cut_off) && !exact {
        faults.push("whole, but not billed as it was");
    }
    if rows.iter().all(ended_alone) && !exact {
        faults.push("done, but not billed as it was");
    }
    for row in rows {
        let transport = if session.is_udp() { "udp" } else { "tcp" };
        if row.listen_port != session.listen.port() || row.transport != transport {
            faults.push("of another service");
        }
        // Spread over time, where a stop or a full disk held rows back: still to the byte.
        if row.end_reason == "done" && ![0, 2].contains(&row.quality) {
            faults.push("done, but not exact");
        }
    }
    faults
}

/// One direction of a session.
struct Way {
    /// By the end that sends.
    sent: u64,
    /// To the end that receives.
    came: u64,
    /// Read by the forwarder, says the account.
    received: u64,
    /// Delivered by the forwarder, says the account.
    bytes: u64,
}

impl Way {
    fn faults(&self, words: [&'static str; 4], in_flight: u64) -> Vec<&'static str> {
        let wrong = [
            self.received > self.sent,
            self.bytes > self.received,
            self.came > self.received,
            self.bytes > self.came + in_flight,
        ];
        words.into_iter().zip(wrong).filter_map(|(word, wrong)| wrong.then_some(word)).collect()
    }
}
