//! The Parquet files of one segment: their rows and names.
//!
//! Rows are wide, so they are sorted by reference and turned into columns a block at a time: a block
//! stays in the processor's cache while its columns are made.

use std::cmp::Ordering;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use schemas::manifest::{Part, UNCOMMITTED};
use schemas::table::{
    Capture, CaptureView, Denied, DeniedView, Event, EventView, Session, SessionView, Slot,
    SlotView, Table, Usage, UsageView,
};
use schemas::wire::RowViews;

use super::PublishError;
use super::format::{self, Hashing, date, day};
use super::lost::LostBoot;
use crate::data_dir::ACCOUNTING;
use crate::files::Files;

/// Rows that are turned into columns together.
const ROWS_PER_BLOCK: usize = 1024;

/// A row as its part needs it.
trait PartRow: Sized {
    const TABLE: &'static Table;
    /// The partition time, in microseconds since 1970 UTC.
    fn time(&self) -> i64;
    /// The order of the rows in a part.
    fn order(&self, other: &Self) -> Ordering;
    fn to_batch(rows: &[&Self], schema: SchemaRef) -> Result<RecordBatch, ArrowError>;
}

/// `row by time, then columns`: the order is by node and boot after the partition time, as
/// [`format::order`] tells it to those who have no rows but columns.
macro_rules! part_row {
    ($($view:ident of $row:ident by $time:ident, $($then:ident)+;)+) => {$(
        impl PartRow for $view<'_> {
            const TABLE: &'static Table = $row::TABLE;

            fn time(&self) -> i64 {
                self.$time
            }

            fn order(&self, other: &Self) -> Ordering {
                (self.$time, self.node, self.boot, $(self.$then),+)
                    .cmp(&(other.$time, other.node, other.boot, $(other.$then),+))
            }

            fn to_batch(rows: &[&Self], schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
                Self::to_batch(rows, schema)
            }
        }
    )+};
}

part_row! {
    SessionView of Session by ts_end, session_no;
    UsageView of Usage by slot_start, session_no interval_seq;
    SlotView of Slot by slot_start, clock_pass;
    DeniedView of Denied by ts_last, seq;
    CaptureView of Capture by ts_first, session_no extent;
    EventView of Event by ts, seq;
}

/// Writes the parts of one segment.
pub(super) struct Writer<'f> {
    pub(super) files: &'f Files,
    pub(super) first_frame: u64,
    pub(super) last_frame: u64,
    /// How far the forwarders' accounts are behind the segment.
    pub(super) marks: String,
    /// Name of its parts, without `.parquet`.
    pub(super) name: String,
}

impl Writer<'_> {
    /// Writes the rows of all tables under uncommitted names, each file fsynced.
    pub(super) fn write_tables(&self, rows: &RowViews<'_>) -> Result<Vec<Part>, PublishError> {
        let mut parts = Vec::new();
        self.write_table(&rows.sessions, &mut parts)?;
        self.write_table(&rows.usage, &mut parts)?;
        self.write_table(&rows.slots, &mut parts)?;
        self.write_table(&rows.denied, &mut parts)?;
        self.write_table(&rows.captures, &mut parts)?;
        self.write_table(&rows.events, &mut parts)?;
        Ok(parts)
    }

    /// Writes the rows that were made for a lost boot: those of its sessions, then the event.
    pub(super) fn write_lost(
        &self,
        lost: &LostBoot,
    ) -> Result<(Vec<Part>, Vec<Part>), PublishError> {
        let views: Vec<_> = lost.sessions.iter().map(SessionView::from).collect();
        let (mut sessions, mut events) = (Vec::new(), Vec::new());
        self.write_table(&views, &mut sessions)?;
        self.write_table(&[EventView::from(&lost.event)], &mut events)?;
        Ok((sessions, events))
    }

    fn write_table<R: PartRow>(
        &self,
        rows: &[R],
        parts: &mut Vec<Part>,
    ) -> Result<(), PublishError> {
        // The time beside the reference decides nearly always, and saves a look at the row.
        let mut timed: Vec<(i64, &R)> = rows.iter().map(|row| (row.time(), row)).collect();
        timed.sort_by(|(a_time, a), (b_time, b)| a_time.cmp(b_time).then_with(|| a.order(b)));
        let sorted: Vec<&R> = timed.into_iter().map(|(_, row)| row).collect();
        for day in sorted.chunk_by(|a, b| day(a.time()) == day(b.time())) {
            parts.push(self.write_part(day)?);
        }
        Ok(())
    }

    /// Writes rows of one day, sorted; there must be one at least.
    fn write_part<R: PartRow>(&self, rows: &[&R]) -> Result<Part, PublishError> {
        let (min_time_us, max_time_us) = (rows[0].time(), rows[rows.len() - 1].time());
        let table = R::TABLE.name;
        let path = format!("{ACCOUNTING}/{table}/date={}/{}.parquet", date(min_time_us), self.name);
        let file = self.files.at(format!("{path}{UNCOMMITTED}"));
        if let Some(directory) = file.parent() {
            self.files.make_directory(directory).map_err(PublishError::io("create", directory))?;
        }
        let failed = |source| PublishError::Parquet { path: file.clone(), source };
        let create = PublishError::io("create", &file);
        let mut sink = Hashing::new(self.files.create(&file).map_err(create)?);
        let segment = format!("{}-{}", self.first_frame, self.last_frame);
        let made_from = vec![
            KeyValue::new(format::SEGMENT.to_owned(), segment),
            KeyValue::new(format::MARKS.to_owned(), self.marks.clone()),
        ];
        let (schema, properties) = (R::TABLE.schema(), format::properties(R::TABLE, made_from));
        let writer = ArrowWriter::try_new(&mut sink, SchemaRef::clone(&schema), Some(properties));
        let mut writer = writer.map_err(failed)?;
        for block in rows.chunks(ROWS_PER_BLOCK) {
            let batch = R::to_batch(block, SchemaRef::clone(&schema));
            batch
                .map_err(ParquetError::from)
                .and_then(|batch| writer.write(&batch))
                .map_err(failed)?;
        }
        // Not into_inner, whose error does not tell a full disk.
        writer.close().map_err(failed)?;
        let (sink, sha256) = sink.finish();
        let bytes = sink.written();
        let finished = self.files.finish(&file, &*sink.into_inner());
        finished.map_err(PublishError::io("fsync", &file))?;
        Ok(Part {
            table: table.to_owned(),
            path,
            rows: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            bytes,
            min_time_us,
            max_time_us,
            sha256,
        })
    }
}
