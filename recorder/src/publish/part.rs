//! The Parquet files of one segment: their rows and names.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use schemas::manifest::Part;
use schemas::table::{Capture, Denied, Event, Session, Slot, Table, Usage};
use schemas::wire::Rows;

use super::format::{self, Hashing, date};
use super::{PublishError, UNCOMMITTED};
use crate::data_dir::{self, ACCOUNTING, Group};

/// A row as its part needs it.
trait PartRow: Sized {
    const TABLE: &'static Table;
    /// The partition time, in microseconds since 1970 UTC.
    fn time(&self) -> i64;
    /// The order of the rows in a part.
    fn order(&self, other: &Self) -> Ordering;
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError>;
}

/// `row by time, then columns`: the order is by node and boot after the partition time, as
/// [`format::order`] tells it to those who have no rows but columns.
macro_rules! part_row {
    ($($row:ident by $time:ident, $($then:ident)+;)+) => {$(
        impl PartRow for $row {
            const TABLE: &'static Table = $row::TABLE;

            fn time(&self) -> i64 {
                self.$time
            }

            fn order(&self, other: &Self) -> Ordering {
                (self.$time, &self.node, &self.boot, $(self.$then),+)
                    .cmp(&(other.$time, &other.node, &other.boot, $(other.$then),+))
            }

            fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError> {
                $row::to_batch(rows)
            }
        }
    )+};
}

part_row! {
    Session by ts_end, session_no;
    Usage by slot_start, session_no interval_seq;
    Slot by slot_start, clock_pass;
    Denied by ts_last, seq;
    Capture by ts_first, session_no extent;
    Event by ts, seq;
}

/// Writes the parts of one segment.
pub(super) struct Writer<'d> {
    pub(super) data: &'d Path,
    pub(super) group: Group,
    pub(super) first_frame: u64,
    pub(super) last_frame: u64,
}

impl Writer<'_> {
    /// Writes the rows of all tables under uncommitted names, each file fsynced, and tells `made`
    /// of each.
    pub(super) fn write_tables(
        &self,
        rows: Rows,
        mut made: impl FnMut(Part) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        self.write_table(rows.sessions, &mut made)?;
        self.write_table(rows.usage, &mut made)?;
        self.write_table(rows.slots, &mut made)?;
        self.write_table(rows.denied, &mut made)?;
        self.write_table(rows.captures, &mut made)?;
        self.write_table(rows.events, &mut made)
    }

    fn write_table<R: PartRow>(
        &self,
        mut rows: Vec<R>,
        made: &mut impl FnMut(Part) -> Result<(), PublishError>,
    ) -> Result<(), PublishError> {
        rows.sort_by(R::order);
        for day in rows.chunk_by(|a, b| date(a.time()) == date(b.time())) {
            made(self.write_part(day)?)?;
        }
        Ok(())
    }

    /// Writes rows of one day, sorted; there must be one at least.
    fn write_part<R: PartRow>(&self, rows: &[R]) -> Result<Part, PublishError> {
        let (min_time_us, max_time_us) = (rows[0].time(), rows[rows.len() - 1].time());
        let table = R::TABLE.name;
        let path = format!(
            "{ACCOUNTING}/{table}/date={}/log-{:020}.parquet",
            date(min_time_us),
            self.first_frame
        );
        let file = self.data.join(format!("{path}{UNCOMMITTED}"));
        if let Some(directory) = file.parent() {
            data_dir::make_directory(directory, &self.group)
                .map_err(PublishError::io("create", directory))?;
        }
        let failed = |source| PublishError::Parquet { path: file.clone(), source };
        let create = PublishError::io("create", &file);
        let sink = Hashing::new(create_file(&file).map_err(create)?);
        let segment = format!("{}-{}", self.first_frame, self.last_frame);
        let made_from = vec![KeyValue::new(format::SEGMENT.to_owned(), segment)];
        let properties = format::properties(R::TABLE, made_from);
        let batch = R::to_batch(rows).map_err(|error| failed(error.into()))?;
        let mut writer =
            ArrowWriter::try_new(sink, batch.schema(), Some(properties)).map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
        let sink = writer.into_inner().map_err(failed)?;
        let sync = || {
            self.group.admit_file(&file)?;
            sink.inner().sync_all()
        };
        sync().map_err(PublishError::io("fsync", &file))?;
        Ok(Part {
            table: table.to_owned(),
            path,
            rows: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            bytes: sink.bytes(),
            min_time_us,
            max_time_us,
            sha256: sink.digest(),
        })
    }
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}
