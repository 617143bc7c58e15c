//! The parts that a step makes: written under uncommitted names, durable, and read back.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use journal::fs::Sequential;
use parquet::arrow::ArrowWriter;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use schemas::manifest::Part;

use super::input::{Footer, Source};
use super::merge::MergeError;
use super::plan::Step;
use super::step::{StepError, uncommitted};
use super::sums::Sums;
use crate::files::Files;
use crate::publish::format::{self, Hashing};

/// A part ends when this share is left to its largest size: what a batch may add, and the footer.
const MARGIN: u64 = 16;
/// A row group ends early when it takes this much memory.
const GROUP_BYTES: usize = 64 << 20;
/// Rows of a batch that is read back.
const BATCH_ROWS: usize = 8192;

/// Writes the rows of a step.
pub(super) struct Output<'a> {
    files: &'a Files,
    step: &'a Step,
    schema: SchemaRef,
    made_from: Vec<KeyValue>,
    /// Parts that are whole, and what their rows came to as they were written.
    made: Vec<(Part, Sums)>,
    writing: Option<Writing>,
}

/// A part that is being written.
struct Writing {
    /// Path below the data directory, without `.new`.
    path: String,
    file: PathBuf,
    writer: ArrowWriter<Hashing<Sequential>>,
    sums: Sums,
    min_time_us: i64,
    max_time_us: i64,
}

impl<'a> Output<'a> {
    pub(super) fn new(files: &'a Files, step: &'a Step, footer: &Footer) -> Self {
        let names = step.inputs.iter().filter_map(|part| part.path.rsplit('/').next());
        let replaces = names.collect::<Vec<_>>().join(" ");
        let mut made_from = vec![KeyValue::new(format::REPLACES.to_owned(), replaces)];
        if let Some((first, last)) = footer.frames {
            made_from.push(KeyValue::new(format::SEGMENT.to_owned(), format!("{first}-{last}")));
        }
        let marks = serde_json::to_string(&footer.marks).expect("marks are numbers and texts");
        made_from.push(KeyValue::new(format::MARKS.to_owned(), marks));
        let schema = step.table.schema();
        Self { files, step, schema, made_from, made: Vec::new(), writing: None }
    }

    /// Adds rows behind those before.
    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<(), StepError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let mut writing = match self.writing.take() {
            Some(writing) => writing,
            None => self.begin()?,
        };
        writing.add(batch, self.step.table.partition_time)?;
        if writing.is_full(self.step.max_part_bytes) {
            let made = writing.finish(self.files, self.step)?;
            self.made.push(made);
        } else {
            self.writing = Some(writing);
        }
        Ok(())
    }

    fn begin(&self) -> Result<Writing, StepError> {
        let path = self.step.output(self.made.len());
        let file = uncommitted(self.files, &path);
        let sink = self.files.create(&file).map_err(StepError::io("create", &file))?;
        let properties = format::properties(self.step.table, self.made_from.clone());
        let sink = Hashing::new(sink);
        let writer = ArrowWriter::try_new(sink, Arc::clone(&self.schema), Some(properties))
            .map_err(StepError::parquet(&file))?;
        let (min_time_us, max_time_us) = (i64::MAX, i64::MIN);
        Ok(Writing { path, file, writer, sums: Sums::default(), min_time_us, max_time_us })
    }

    /// Ends the last part and reads everything back.
    pub(super) fn finish(mut self) -> Result<(Vec<Part>, Sums), StepError> {
        if let Some(writing) = self.writing.take() {
            let made = writing.finish(self.files, self.step)?;
            self.made.push(made);
        }
        let mut all = Sums::default();
        for (part, written) in &self.made {
            let read = self.read_back(part).map_err(StepError::Merge)?;
            if read != *written {
                let path = uncommitted(self.files, &part.path);
                return Err(StepError::Unfaithful { path, column: self.differing(&read, written) });
            }
            all.add_sums(&read);
        }
        Ok((self.made.into_iter().map(|(part, _)| part).collect(), all))
    }

    fn differing(&self, a: &Sums, b: &Sums) -> String {
        a.first_difference(b).map_or("rows", |index| self.step.table.columns[index].name).to_owned()
    }

    fn read_back(&self, part: &Part) -> Result<Sums, MergeError> {
        let source = Source { files: self.files, part };
        let mut rows = source.rows(&self.schema, BATCH_ROWS)?;
        let mut sums = Sums::default();
        while let Some(batch) = rows.next_batch()? {
            sums.add(&batch);
        }
        Ok(sums)
    }
}

impl Writing {
    fn add(&mut self, batch: &RecordBatch, time: &str) -> Result<(), StepError> {
        self.sums.add(batch);
        if let Some(times) = batch.column_by_name(time) {
            let times = times.as_primitive::<TimestampMicrosecondType>().values();
            for time_us in times {
                self.min_time_us = self.min_time_us.min(*time_us);
                self.max_time_us = self.max_time_us.max(*time_us);
            }
        }
        let write = |writer: &mut ArrowWriter<_>| -> Result<(), ParquetError> {
            writer.write(batch)?;
            if writer.memory_size() >= GROUP_BYTES { writer.flush() } else { Ok(()) }
        };
        write(&mut self.writer).map_err(StepError::parquet(&self.file))
    }

    fn is_full(&self, max_bytes: u64) -> bool {
        let size = self.writer.bytes_written() + self.writer.in_progress_size();
        u64::try_from(size).unwrap_or(u64::MAX) >= max_bytes - max_bytes / MARGIN
    }

    fn finish(self, files: &Files, step: &Step) -> Result<(Part, Sums), StepError> {
        let Self { path, file, writer, sums, min_time_us, max_time_us } = self;
        let sink = writer.into_inner().map_err(StepError::parquet(&file))?;
        let (sink, sha256) = sink.finish();
        let bytes = sink.written();
        files.finish(&file, &*sink.into_inner()).map_err(StepError::io("fsync", &file))?;
        let table = step.table.name.to_owned();
        let part = Part { table, path, rows: sums.rows, bytes, min_time_us, max_time_us, sha256 };
        Ok((part, sums))
    }
}
