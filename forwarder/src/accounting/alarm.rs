//! What the journal thread tells people: the spool fills up, takes no rows, takes them again; sessions
//! share a slot because the table is full. Once when it begins and once when it is over, as a line
//! of the log and a row of `events`.

use std::time::Instant;

use forwarder_core::accounting::{CounterTable, LiveSession};
use schemas::table::Event;
use schemas::vocab::Severity;

use super::spool::{BoundedSpool, SpoolError};

/// What has been told, and is not over.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    is_high: bool,
    /// Since when nothing can be written.
    trouble: Option<Instant>,
    /// Overflow slots.
    shared_slots: usize,
}

impl Alarm {
    /// Whether nothing could be written the last time.
    pub(super) fn is_in_trouble(&self) -> bool {
        self.trouble.is_some()
    }

    /// Looks how full the spool is. It is over at 70 % of the bound only, so that the spool does not
    /// sit on the edge and tell of it again and again.
    pub(super) fn fill(&mut self, spool: &BoundedSpool) -> Option<Event> {
        let (bytes, high, max) = (spool.journal.bytes(), spool.interims_until(), spool.max_bytes);
        let is_high = if self.is_high { bytes >= high / 8 * 7 } else { bytes >= high };
        if is_high == self.is_high {
            return None;
        }
        self.is_high = is_high;
        let (severity, kind, message) = if is_high {
            let message = format!(
                "the spool holds {bytes} bytes, 80 % of its bound of {max} or more: running \
                 sessions are told when they end, and slots until then as SKIPDATA"
            );
            (Severity::Warning, "spool_80", message)
        } else {
            let message = format!("the spool holds {bytes} bytes and has room for every row again");
            (Severity::Info, "spool_eased", message)
        };
        tracing::warn!("{message}");
        Some(event(severity, kind, bytes, high, message))
    }

    /// Looks at how writing went.
    pub(super) fn judge(
        &mut self,
        outcome: &Result<(), SpoolError>,
        spool: &BoundedSpool,
        now: Instant,
    ) -> Option<Event> {
        let (bytes, max) = (spool.journal.bytes(), spool.max_bytes);
        match (outcome, self.trouble) {
            (Ok(()), Some(since)) => {
                self.trouble = None;
                let seconds = now.saturating_duration_since(since).as_secs();
                let message = format!("the spool is written again, after {seconds} s");
                tracing::warn!("{message}; every row was kept meanwhile");
                Some(event(Severity::Warning, "spool_back", bytes, max, message))
            }
            (Err(error), None) => {
                self.trouble = Some(now);
                tracing::error!(%error, "the spool cannot be written; ended sessions wait in the counter table");
                let kind = if error.is_full() { "spool_full" } else { "spool_failed" };
                let message = format!("the spool cannot be written: {error}");
                Some(event(Severity::Error, kind, bytes, max, message))
            }
            _ => None,
        }
    }

    /// Looks whether sessions share slots that were not shared before.
    pub(super) fn overflow(&mut self, table: &CounterTable) -> Vec<Event> {
        let fresh: Vec<_> = table.overflowing().skip(self.shared_slots).collect();
        self.shared_slots += fresh.len();
        let size = table.capacity();
        fresh.into_iter().map(|session| overflow_event(session, table.used(), size)).collect()
    }
}

fn overflow_event(session: LiveSession, used: usize, size: usize) -> Event {
    let message = format!(
        "the counter table is full ({used} of {size}): sessions of service {} by rule {} that begin \
         now are one account, number {}",
        session.service, session.rule, session.number
    );
    tracing::warn!("{message}");
    Event {
        service: Some(session.service),
        rule: Some(session.rule),
        customer: session.customer,
        session_no: i64::try_from(session.number).ok(),
        ..event(Severity::Warning, "table_full", used as u64, size as u64, message)
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes and slots, for people")]
fn event(severity: Severity, kind: &str, value: u64, threshold: u64, message: String) -> Event {
    Event {
        severity: severity.as_str().to_owned(),
        kind: kind.to_owned(),
        value: Some(value as f64),
        threshold: Some(threshold as f64),
        message,
        ..Event::default()
    }
}
