//! The sessions of a boot whose account was lost, closed with what is known of them.
//!
//! A boot that ends inexact has no more rows to come. What the tables then have in `usage` and not
//! in `sessions` gets its row here: ended as `lost`, quality 3, its last running totals, `seq` NULL.
//! These rows stand in parts of their own, `lost-…`, which are never merged: should the boot turn out
//! to be alive after all (its spool had been copied, or its node was away for long), they are taken
//! out again as a whole, and its own rows come in their place.
//!
//! Whatever is written is a function of the segment and of the parts before it.

use std::collections::{BTreeMap, BTreeSet};

use arrow::array::{Array, AsArray, BooleanArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use schemas::manifest::{BootMark, Part};
use schemas::table::{Event, Session, SessionView, Usage, UsageView};
use schemas::vocab::{CloseKind, EndPhase, EndReason, FirstFin, Quality, Severity};
use schemas::wire::RowViews;

use crate::compact::{InputError, Source};
use crate::files::Files;

/// What the name of a part with such rows begins with.
pub(crate) const LOST: &str = "lost-";
/// Stands for what only the lost account knew.
const UNKNOWN_IP: &str = "::";
/// Rows that are read at once.
const BATCH_ROWS: usize = 8192;

/// What a lost boot leaves.
#[derive(Debug)]
pub(super) struct LostBoot {
    pub(super) boot: String,
    pub(super) sessions: Vec<Session>,
    pub(super) event: Event,
}

/// Closes what is known to be open of the boot of `mark`, by the parts of the tables and the rows of
/// a segment. Parts that cannot be read leave it open: who knows only half might close what has
/// ended.
pub(super) fn close<'p>(
    files: &Files,
    parts: impl Iterator<Item = &'p Part>,
    rows: &RowViews<'_>,
    mark: &BootMark,
) -> LostBoot {
    let closed = known_open(files, parts, rows, mark);
    let (sessions, unread) = match closed {
        Ok(open) => (open.into_iter().map(|(no, known)| known.row(mark, no)).collect(), None),
        Err(error) => (Vec::new(), Some(error)),
    };
    let event = event(mark, &sessions, unread.as_ref());
    LostBoot { boot: mark.boot.clone(), sessions, event }
}

fn event(mark: &BootMark, closed: &[Session], unread: Option<&InputError>) -> Event {
    let (boot, last_seq) = (&mark.boot, mark.last_seq);
    let ended_at = mark.end.as_ref().map_or(0, |end| end.ended_at);
    let ts = closed.iter().map(|row| row.ts_end).max().unwrap_or(ended_at).max(ended_at);
    let message = match unread {
        None => format!(
            "the account of boot {boot} was lost behind its row {last_seq}: {} of its sessions are closed with their last known totals",
            closed.len()
        ),
        Some(error) => format!(
            "the account of boot {boot} was lost behind its row {last_seq}; which of its sessions were open cannot be told: {error}"
        ),
    };
    Event {
        node: mark.node.clone(),
        boot: boot.clone(),
        ts,
        severity: Severity::Error.as_str().to_owned(),
        kind: "boot_lost".to_owned(),
        value: u32::try_from(closed.len()).ok().map(f64::from),
        message,
        ..Event::default()
    }
}

/// What `usage` tells of a session that goes on.
#[derive(Debug, Default)]
struct Known {
    newest: Usage,
    datagrams_up: i64,
    datagrams_down: i64,
    active_us: i64,
}

impl Known {
    fn take(&mut self, row: &UsageView<'_>) {
        // What a forwarder says may be anything; a sum that is too large must not stop publishing.
        self.datagrams_up = self.datagrams_up.saturating_add(row.datagrams_up);
        self.datagrams_down = self.datagrams_down.saturating_add(row.datagrams_down);
        self.active_us = self.active_us.saturating_add(row.active_us);
        if self.newest.boot.is_empty() || row.interval_seq > self.newest.interval_seq {
            self.newest = Usage {
                boot: row.boot.to_owned(),
                interval_seq: row.interval_seq,
                slot_start: row.slot_start,
                slot_len_s: row.slot_len_s,
                service: row.service.to_owned(),
                rule: row.rule.to_owned(),
                config_rev: row.config_rev.to_owned(),
                customer: row.customer.map(str::to_owned),
                transport: row.transport.to_owned(),
                client_ip: row.client_ip.to_owned(),
                target_ip: row.target_ip.map(str::to_owned),
                total_up: row.total_up,
                total_down: row.total_down,
                ..Usage::default()
            };
        }
    }

    /// The row of a session that was last heard of at the end of its newest slot.
    fn row(self, mark: &BootMark, session_no: i64) -> Session {
        let Self { newest, datagrams_up, datagrams_down, active_us } = self;
        let ts_end = newest.slot_start.saturating_add(i64::from(newest.slot_len_s) * 1_000_000);
        Session {
            node: mark.node.clone(),
            boot: mark.boot.clone(),
            session_no,
            service: newest.service,
            rule: newest.rule,
            config_rev: newest.config_rev,
            customer: newest.customer,
            transport: newest.transport,
            client_ip: newest.client_ip,
            listen_ip: UNKNOWN_IP.to_owned(),
            target_ip: newest.target_ip,
            ts_start: ts_end.saturating_sub(active_us),
            ts_end,
            duration_us: active_us,
            bytes_up: newest.total_up,
            bytes_down: newest.total_down,
            received_up: newest.total_up,
            received_down: newest.total_down,
            datagrams_up,
            datagrams_down,
            end_reason: EndReason::Lost.as_str().to_owned(),
            end_phase: EndPhase::Data.as_str().to_owned(),
            first_fin: FirstFin::None.as_str().to_owned(),
            client_close: CloseKind::None.as_str().to_owned(),
            target_close: CloseKind::None.as_str().to_owned(),
            intervals: newest.interval_seq + 1,
            quality: Quality::PartlyLost as i32,
            ..Session::default()
        }
    }
}

/// The sessions of a boot that have usage and no row, by number. Sessions of one interval, which
/// most are, are never kept in memory.
fn known_open<'p>(
    files: &Files,
    parts: impl Iterator<Item = &'p Part>,
    rows: &RowViews<'_>,
    mark: &BootMark,
) -> Result<BTreeMap<i64, Known>, InputError> {
    let mut search = Search { mark, open: BTreeMap::new(), ended: BTreeSet::new() };
    let mut of_sessions = Vec::new();
    for part in parts {
        let source = Source { files, part };
        match part.table.as_str() {
            "usage" if source.may_have(&mark.node, &mark.boot)? => {
                let mut batches = source.rows(&Usage::TABLE.schema(), BATCH_ROWS)?;
                while let Some(batch) = batches.next_batch()? {
                    search.usage(&batch).map_err(|reason| source.damaged(reason))?;
                }
            }
            "sessions" => of_sessions.push(source),
            _ => {}
        }
    }
    rows.usage.iter().for_each(|row| search.take_usage(row));
    for source in of_sessions {
        if search.open.is_empty() {
            break;
        }
        if source.may_have(&mark.node, &mark.boot)? {
            let mut batches = source.rows(&Session::TABLE.schema(), BATCH_ROWS)?;
            while let Some(batch) = batches.next_batch()? {
                search.sessions(&batch).map_err(|reason| source.damaged(reason))?;
            }
        }
    }
    rows.sessions.iter().for_each(|row| search.take_session(row));
    Ok(search.open)
}

struct Search<'m> {
    mark: &'m BootMark,
    open: BTreeMap<i64, Known>,
    /// Sessions of more than one interval whose last one was seen.
    ended: BTreeSet<i64>,
}

impl Search<'_> {
    fn take_usage(&mut self, row: &UsageView<'_>) {
        if (row.node, row.boot) != (self.mark.node.as_str(), self.mark.boot.as_str()) {
            return;
        }
        if row.is_final {
            self.open.remove(&row.session_no);
            if !row.is_first {
                self.ended.insert(row.session_no);
            }
        } else if !self.ended.contains(&row.session_no) {
            self.open.entry(row.session_no).or_default().take(row);
        }
    }

    fn take_session(&mut self, row: &SessionView<'_>) {
        if (row.node, row.boot) == (self.mark.node.as_str(), self.mark.boot.as_str()) {
            self.open.remove(&row.session_no);
        }
    }

    fn usage(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let columns = Columns(batch);
        let [node, boot, service, rule] =
            ["node", "boot", "service", "rule"].map(|name| columns.text(name));
        let (node, boot, service, rule) = (node?, boot?, service?, rule?);
        let [config_rev, customer, transport, client_ip, target_ip] =
            ["config_rev", "customer", "transport", "client_ip", "target_ip"]
                .map(|name| columns.text(name));
        let (config_rev, customer) = (config_rev?, customer?);
        let (transport, client_ip, target_ip) = (transport?, client_ip?, target_ip?);
        let (session_no, active_us) = (columns.int64("session_no")?, columns.int64("active_us")?);
        let (datagrams_up, datagrams_down) =
            (columns.int64("datagrams_up")?, columns.int64("datagrams_down")?);
        let (total_up, total_down) = (columns.int64("total_up")?, columns.int64("total_down")?);
        let (interval_seq, slot_len_s) =
            (columns.int32("interval_seq")?, columns.int32("slot_len_s")?);
        let (is_first, is_final) = (columns.bool("is_first")?, columns.bool("is_final")?);
        let slot_start = columns.time("slot_start")?;
        let some = |texts: &StringArray, at| texts.is_valid(at).then(|| texts.value(at).to_owned());
        for at in 0..batch.num_rows() {
            let (customer, target_ip) = (some(&customer, at), some(&target_ip, at));
            self.take_usage(&UsageView {
                node: node.value(at),
                boot: boot.value(at),
                session_no: session_no[at],
                interval_seq: interval_seq.value(at),
                slot_start: slot_start[at],
                slot_len_s: slot_len_s.value(at),
                service: service.value(at),
                rule: rule.value(at),
                config_rev: config_rev.value(at),
                customer: customer.as_deref(),
                transport: transport.value(at),
                client_ip: client_ip.value(at),
                target_ip: target_ip.as_deref(),
                datagrams_up: datagrams_up[at],
                datagrams_down: datagrams_down[at],
                total_up: total_up[at],
                total_down: total_down[at],
                is_first: is_first.value(at),
                is_final: is_final.value(at),
                active_us: active_us[at],
                ..UsageView::default()
            });
        }
        Ok(())
    }

    fn sessions(&mut self, batch: &RecordBatch) -> Result<(), String> {
        let columns = Columns(batch);
        let (node, boot) = (columns.text("node")?, columns.text("boot")?);
        for (at, session_no) in columns.int64("session_no")?.iter().enumerate() {
            let (node, boot) = (node.value(at), boot.value(at));
            let session_no = *session_no;
            self.take_session(&SessionView { node, boot, session_no, ..SessionView::default() });
        }
        Ok(())
    }
}

/// The columns of a batch by name and type.
struct Columns<'b>(&'b RecordBatch);

impl<'b> Columns<'b> {
    fn column(&self, name: &str) -> Result<&'b dyn Array, String> {
        let column = self.0.column_by_name(name);
        column.map(AsRef::as_ref).ok_or_else(|| format!("it has no column {name}"))
    }

    /// Words lie in dictionaries.
    fn text(&self, name: &str) -> Result<StringArray, String> {
        let texts = cast(self.column(name)?, &DataType::Utf8).map_err(|error| error.to_string())?;
        Ok(texts.as_string::<i32>().clone())
    }

    fn int64(&self, name: &str) -> Result<&'b [i64], String> {
        let numbers = self.column(name)?.as_primitive_opt::<Int64Type>();
        Ok(numbers.ok_or_else(|| format!("{name} is no number"))?.values())
    }

    fn int32(&self, name: &str) -> Result<&'b Int32Array, String> {
        let numbers = self.column(name)?.as_primitive_opt::<Int32Type>();
        numbers.ok_or_else(|| format!("{name} is no number"))
    }

    fn time(&self, name: &str) -> Result<&'b [i64], String> {
        let times = self.column(name)?.as_primitive_opt::<TimestampMicrosecondType>();
        Ok(times.ok_or_else(|| format!("{name} is no time"))?.values())
    }

    fn bool(&self, name: &str) -> Result<&'b BooleanArray, String> {
        self.column(name)?
            .as_boolean_opt()
            .ok_or_else(|| format!("{name} is neither true nor false"))
    }
}

#[cfg(test)]
mod tests;
