//! One part, looked at from its first to its last byte.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use schemas::manifest::{BootEndMark, BootMark, Part, SpoolMark};
use schemas::table::Table;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::publish::format;

/// What a part's footer says of the forwarders: how far their accounts were when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PartMarks {
    #[serde(default)]
    pub(crate) spools: Vec<SpoolMark>,
    #[serde(default)]
    pub(crate) boots: Vec<BootMark>,
}

impl PartMarks {
    /// Takes over what another part says: of each spool and boot what is furthest stands.
    pub(crate) fn join(&mut self, other: Self) {
        for mark in other.spools {
            match self.spools.iter_mut().find(|known| known.spool_id == mark.spool_id) {
                Some(known) if known.last_frame < mark.last_frame => *known = mark,
                Some(_) => {}
                None => self.spools.push(mark),
            }
        }
        for mark in other.boots {
            let is_it =
                |known: &&mut BootMark| (&known.node, &known.boot) == (&mark.node, &mark.boot);
            match self.boots.iter_mut().find(is_it) {
                Some(known) => join_boot(known, mark),
                None => self.boots.push(mark),
            }
        }
    }
}

/// Takes over what another part or version says of a boot, in whatever order they are read: what is
/// furthest stands, and the end that the boot told itself before one that was guessed.
pub(super) fn join_boot(known: &mut BootMark, mark: BootMark) {
    known.last_seq = known.last_seq.max(mark.last_seq);
    if mark.elsewhere.len() > known.elsewhere.len() {
        known.elsewhere = mark.elsewhere;
    }
    let knows = |end: &Option<BootEndMark>| end.as_ref().map(|end| (end.exact, end.last_seq));
    if knows(&mark.end) > knows(&known.end) {
        known.end = mark.end;
    }
    if !mark.closed.is_empty() {
        known.closed = mark.closed;
    }
}

/// What a whole part says.
#[derive(Debug)]
pub(super) struct Examined {
    pub(super) part: Part,
    /// The first and the last frame of the log that it was made from.
    pub(super) frames: Option<(u64, u64)>,
    /// File names of the parts that it took the place of.
    pub(super) replaces: Vec<String>,
    pub(super) marks: PartMarks,
    /// By node and boot: the largest `seq` in it.
    pub(super) seqs: BTreeMap<(String, String), i64>,
}

/// Reads every row.
///
/// # Errors
/// Why it is no whole part of the table.
pub(super) fn examine(table: &Table, path: &str, content: Vec<u8>) -> Result<Examined, String> {
    let bytes = u64::try_from(content.len()).unwrap_or(u64::MAX);
    let sha256 = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
    let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(content))
        .map_err(|error| error.to_string())?;
    let footer = reader.metadata().file_metadata();
    let pairs = footer.key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let value =
        |key: &str| pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.clone());
    let frames = value(format::SEGMENT).and_then(|frames| {
        let (first, last) = frames.split_once('-')?;
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    let replaces = value(format::REPLACES).unwrap_or_default();
    let marks = value(format::MARKS).and_then(|text| serde_json::from_str(&text).ok());
    let mut found = Examined {
        part: Part {
            table: table.name.to_owned(),
            path: path.to_owned(),
            rows: 0,
            bytes,
            min_time_us: i64::MAX,
            max_time_us: i64::MIN,
            sha256,
        },
        frames,
        replaces: replaces.split_whitespace().map(str::to_owned).collect(),
        marks: marks.unwrap_or_default(),
        seqs: BTreeMap::new(),
    };
    for batch in reader.build().map_err(|error| error.to_string())? {
        found.take(table, &batch.map_err(|error| error.to_string())?)?;
    }
    if found.part.rows == 0 {
        return Err("it has no rows".to_owned());
    }
    Ok(found)
}

impl Examined {
    fn take(&mut self, table: &Table, batch: &RecordBatch) -> Result<(), String> {
        self.part.rows += u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| format!("it has no column {name}"))
        };
        let times = column(table.partition_time)?;
        let times = times
            .as_primitive_opt::<TimestampMicrosecondType>()
            .ok_or_else(|| format!("{} is no time", table.partition_time))?;
        for time in times.iter().flatten() {
            self.part.min_time_us = self.part.min_time_us.min(time);
            self.part.max_time_us = self.part.max_time_us.max(time);
        }
        let Some(seqs) = batch.column_by_name("seq") else { return Ok(()) };
        let seqs = seqs.as_primitive_opt::<Int64Type>().ok_or("seq is no number")?;
        let text = |name: &str| -> Result<_, String> {
            cast(column(name)?, &DataType::Utf8).map_err(|error| error.to_string())
        };
        let (nodes, boots) = (text("node")?, text("boot")?);
        let (nodes, boots) = (nodes.as_string::<i32>(), boots.as_string::<i32>());
        for row in (0..batch.num_rows()).filter(|row| seqs.is_valid(*row)) {
            let seq = seqs.value(row);
            let key = (nodes.value(row).to_owned(), boots.value(row).to_owned());
            self.seqs.entry(key).and_modify(|max| *max = seq.max(*max)).or_insert(seq);
        }
        Ok(())
    }
}
