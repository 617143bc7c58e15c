//! One Parquet file: its rows, its order, its name, its settings.
//!
//! Settings (measured with DuckDB as the reader): row groups of 122,880 rows, by which it
//! parallelises and prunes; ZSTD 3; dictionaries everywhere but in identities and sequence numbers,
//! which are delta encoded; no bloom filters, because sessions are found by boot and number, and
//! those prune by their ranges.

use std::cmp::Ordering;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use jiff::tz::TimeZone;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use schemas::manifest::Part;
use schemas::table::{Capture, Denied, Event, SCHEMA_VERSION, Session, Slot, Table, Usage};
use schemas::wire::Rows;
use sha2::{Digest, Sha256};

use super::{PublishError, UNCOMMITTED};
use crate::data_dir::{self, ACCOUNTING, Group};

const ROWS_PER_GROUP: usize = 122_880;
const ZSTD_LEVEL: i32 = 3;
/// Columns without a dictionary: nearly every value is another one, near the last.
const DELTA_ENCODED: [&str; 4] = ["session_no", "seq", "first_seq", "last_seq"];

/// A row as its part needs it.
trait PartRow: Sized {
    const TABLE: &'static Table;
    /// The partition time, in microseconds since 1970 UTC.
    fn time(&self) -> i64;
    /// The order of the rows in a part.
    fn order(&self, other: &Self) -> Ordering;
    fn to_batch(rows: &[Self]) -> Result<RecordBatch, ArrowError>;
}

/// `row by time, then columns`: the order is by node and boot after the partition time.
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
        let batch = R::to_batch(rows).map_err(|error| failed(error.into()))?;
        let mut writer =
            ArrowWriter::try_new(sink, batch.schema(), Some(self.properties(R::TABLE)))
                .map_err(failed)?;
        writer.write(&batch).map_err(failed)?;
        let sink = writer.into_inner().map_err(failed)?;
        let sync = || {
            self.group.admit_file(&file)?;
            sink.file.sync_all()
        };
        sync().map_err(PublishError::io("fsync", &file))?;
        Ok(Part {
            table: table.to_owned(),
            path,
            rows: u64::try_from(rows.len()).unwrap_or(u64::MAX),
            bytes: sink.bytes,
            min_time_us,
            max_time_us,
            sha256: sink.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect(),
        })
    }

    fn properties(&self, table: &Table) -> WriterProperties {
        let segment = format!("{}-{}", self.first_frame, self.last_frame);
        let metadata = vec![
            KeyValue::new("weir.schema".to_owned(), SCHEMA_VERSION.to_owned()),
            KeyValue::new("weir.segment".to_owned(), segment),
        ];
        let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("3 is a level of ZSTD");
        let mut properties = WriterProperties::builder()
            .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
            .set_sorting_columns(sorted_by(table))
            .set_key_value_metadata(Some(metadata));
        for column in table.columns.iter().filter(|c| DELTA_ENCODED.contains(&c.name)) {
            let path = ColumnPath::from(column.name);
            properties = properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
        }
        properties.build()
    }
}

fn sorted_by(table: &Table) -> Option<Vec<SortingColumn>> {
    let index = table.columns.iter().position(|column| column.name == table.partition_time)?;
    let column_idx = i32::try_from(index).ok()?;
    Some(vec![SortingColumn { column_idx, descending: false, nulls_first: false }])
}

/// The UTC day of a time. A time beyond the calendar counts to its first or last day.
fn date(time_us: i64) -> jiff::civil::Date {
    let beyond = if time_us < 0 { jiff::Timestamp::UNIX_EPOCH } else { jiff::Timestamp::MAX };
    let time = jiff::Timestamp::from_microsecond(time_us).unwrap_or(beyond);
    TimeZone::UTC.to_datetime(time.max(jiff::Timestamp::UNIX_EPOCH)).date()
}

fn create_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// A file whose hash and size are known when it is written.
struct Hashing {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Hashing {
    fn new(file: File) -> Self {
        Self { file, hash: Sha256::new(), bytes: 0 }
    }
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += u64::try_from(written).unwrap_or_default();
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_of_a_time_is_utc_and_always_in_the_calendar() {
        let day = |time_us| date(time_us).to_string();
        assert_eq!(day(0), "1970-01-01");
        assert_eq!(day(86_400_000_000 - 1), "1970-01-01");
        assert_eq!(day(1_793_361_600_000_000), "2026-10-30");
        assert_eq!(day(-1), "1970-01-01");
        assert_eq!(day(i64::MIN), "1970-01-01");
        assert_eq!(day(i64::MAX), "9999-12-30");
    }
}
