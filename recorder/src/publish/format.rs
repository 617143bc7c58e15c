//! What all parts have in common, whoever makes them: order, settings, partition.
//!
//! Settings (measured with DuckDB as the reader): row groups of 122,880 rows, by which it
//! parallelises and prunes; ZSTD 3; dictionaries for text and small numbers; times, counters and
//! ports, of which nearly every one is another, are delta encoded, because a dictionary of them costs
//! more than all the rest of writing and makes larger files; no bloom filters, because sessions are
//! found by boot and number, and those prune by their ranges. Nobody prunes by the ranges of
//! addresses or of a page, which are left out.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use schemas::table::{Column, ColumnType, SCHEMA_VERSION, Table};
use sha2::{Digest, Sha256};

/// In the footer: the version of the tables.
pub(crate) const SCHEMA: &str = "weir.schema";
/// In the footer: the first and the last frame of the log that the part was made from.
pub(crate) const SEGMENT: &str = "weir.segment";
/// In the footer of a compacted part: the file names of the parts that it and its sisters were made
/// from, all of the same directory, with a space between them. [`SEGMENT`] spans theirs.
pub(crate) const REPLACES: &str = "weir.replaces";
/// In the footer: how far spools and boots were in the tables with the segment, as JSON. With it the
/// manifest can be made again.
pub(crate) const MARKS: &str = "weir.marks";

const ROWS_PER_GROUP: usize = 122_880;
const ZSTD_LEVEL: i32 = 3;
const DAY_US: i64 = 86_400_000_000;

/// The columns that the rows of a part are ordered by, NULL before every value.
pub(crate) fn order(table: &Table) -> Vec<&'static str> {
    let then: &[&str] = match table.name {
        "usage" => &["session_no", "interval_seq"],
        "sessions" => &["session_no"],
        "captures" => &["session_no", "extent"],
        "slots" => &["clock_pass"],
        _ => &["seq"],
    };
    [&[table.partition_time, "node", "boot"], then].concat()
}

/// The settings of a part; `made_from` goes into its footer.
pub(crate) fn properties(table: &Table, made_from: Vec<KeyValue>) -> WriterProperties {
    let mut metadata = vec![KeyValue::new(SCHEMA.to_owned(), SCHEMA_VERSION.to_owned())];
    metadata.extend(made_from);
    let level = ZstdLevel::try_new(ZSTD_LEVEL).expect("3 is a level of ZSTD");
    let properties = WriterProperties::builder()
        .set_created_by(concat!("weir ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_sorting_columns(Some(sorting_columns(table)))
        .set_key_value_metadata(Some(metadata));
    table
        .columns
        .iter()
        .fold(properties, |properties, column| {
            let path = ColumnPath::from(column.name);
            match column.kind {
                _ if has_many_values(column) => properties
                    .set_column_dictionary_enabled(path.clone(), false)
                    .set_column_encoding(path, Encoding::DELTA_BINARY_PACKED),
                ColumnType::Text | ColumnType::OptText => {
                    properties.set_column_statistics_enabled(path, EnabledStatistics::None)
                }
                _ => properties,
            }
        })
        .build()
}

/// Whether nearly every value of a column is another one.
fn has_many_values(column: &Column) -> bool {
    match column.kind {
        ColumnType::Time | ColumnType::OptTime | ColumnType::Int64 | ColumnType::OptInt64 => true,
        ColumnType::Int32 | ColumnType::OptInt32 => column.name.ends_with("_port"),
        ColumnType::Text
        | ColumnType::OptText
        | ColumnType::Word
        | ColumnType::OptWord
        | ColumnType::OptFloat64
        | ColumnType::Bool => false,
    }
}

fn sorting_columns(table: &Table) -> Vec<SortingColumn> {
    let index = |name| table.columns.iter().position(|column| column.name == name);
    let indexes = order(table).into_iter().filter_map(|name| i32::try_from(index(name)?).ok());
    indexes
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: true })
        .collect()
}

/// The number of a time's UTC day. All times beyond the calendar share its first or last, as they
/// share their [`date`].
pub(crate) fn day(time_us: i64) -> i64 {
    time_us.clamp(0, jiff::Timestamp::MAX.as_microsecond()).div_euclid(DAY_US)
}

/// The UTC day of a time. A time beyond the calendar counts to its first or last day.
pub(crate) fn date(time_us: i64) -> jiff::civil::Date {
    let beyond = if time_us < 0 { jiff::Timestamp::UNIX_EPOCH } else { jiff::Timestamp::MAX };
    let time = jiff::Timestamp::from_microsecond(time_us).unwrap_or(beyond);
    TimeZone::UTC.to_datetime(time.max(jiff::Timestamp::UNIX_EPOCH)).date()
}

/// A file whose hash is known when it is written.
#[derive(Debug)]
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, hash: Sha256::new() }
    }

    /// The file, and the hash of everything written, hexadecimal.
    pub(crate) fn finish(self) -> (W, String) {
        let hash = self.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        (self.inner, hash)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hash.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use schemas::table::TABLES;

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

    #[test]
    fn every_table_is_ordered_by_columns_that_it_has() {
        for table in TABLES {
            assert_eq!(sorting_columns(table).len(), order(table).len(), "{}", table.name);
        }
    }
}
