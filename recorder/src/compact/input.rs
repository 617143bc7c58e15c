//! A part that is merged: held against what the manifest says of it, then read batch by batch.

use std::collections::BTreeSet;
use std::io::{self, BufReader, Read};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use journal::fs::{Access, OpenFile};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;
use parquet::file::metadata::FileMetaData;
use parquet::file::reader::{ChunkReader, Length};
use schemas::manifest::{BootMark, Part, UNCOMMITTED};
use sha2::{Digest, Sha256};

use crate::files::Files;
use crate::publish::format;
use crate::recover::PartMarks;

/// What is read at once to digest a file, and ahead of the reader of a column.
const READ_BYTES: usize = 256 << 10;

/// Why a part cannot be merged.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    /// The operating system refused; another attempt may succeed.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The part's file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// It is not what the manifest says it is.
    #[error("{path} is damaged: {reason}")]
    Damaged {
        /// The part's file.
        path: PathBuf,
        /// How it shows.
        reason: String,
    },
    /// A later version of Weir wrote it, and what it says there would be lost.
    #[error("{path} has what this version does not know: {what}")]
    Newer {
        /// The part's file.
        path: PathBuf,
        /// What is unknown.
        what: String,
    },
}

/// Where an input lies, and what the manifest says of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    pub(crate) files: &'a Files,
    pub(crate) part: &'a Part,
}

/// The frames of the log that parts were made from, first and last.
pub(super) type Frames = (u64, u64);

/// What the footer of a part tells of where it came from.
#[derive(Debug, Default)]
pub(super) struct Footer {
    pub(super) frames: Option<Frames>,
    pub(super) marks: PartMarks,
}

impl Footer {
    fn of(footer: &FileMetaData) -> Self {
        let value = |key: &str| {
            let mut pairs = footer.key_value_metadata().into_iter().flatten();
            pairs.find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref())
        };
        let marks = value(format::MARKS).and_then(|text| serde_json::from_str(text).ok());
        Self { frames: value(format::SEGMENT).and_then(frames), marks: marks.unwrap_or_default() }
    }

    /// Takes over what the footer of a part says that becomes one with this.
    pub(super) fn join(&mut self, other: Self) {
        let both = self.frames.into_iter().chain(other.frames);
        self.frames = both.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)));
        self.marks.join(other.marks);
    }
}

impl Source<'_> {
    fn path(&self) -> PathBuf {
        let named = self.files.at(&self.part.path);
        // Its name may still be ahead of it.
        let new = self.files.at(format!("{}{UNCOMMITTED}", self.part.path));
        let fs = self.files.fs();
        if !fs.exists(&named) && fs.exists(&new) { new } else { named }
    }

    fn io(&self) -> impl FnOnce(io::Error) -> InputError {
        let path = self.path();
        move |source| match source.kind() {
            io::ErrorKind::NotFound => InputError::Damaged { path, reason: "it is missing".into() },
            _ => InputError::Io { path, source },
        }
    }

    /// The part is not what it should be.
    pub(crate) fn damaged(&self, reason: impl ToString) -> InputError {
        InputError::Damaged { path: self.path(), reason: reason.to_string() }
    }

    fn open_file(&self) -> Result<PartFile, InputError> {
        let file = self.files.fs().open(&self.path(), Access::Read).map_err(self.io())?;
        let len = file.len().map_err(self.io())?;
        Ok(PartFile { file: file.into(), len })
    }

    /// Reads the whole file and holds its size and hash against the manifest.
    pub(super) fn check_hash(&self) -> Result<(), InputError> {
        let file = self.open_file()?;
        let Part { bytes, sha256, .. } = self.part;
        if file.len != *bytes {
            return Err(self.damaged(format!("it has {} bytes instead of {bytes}", file.len)));
        }
        let mut hash = Sha256::new();
        let mut reader = FileReader { file: Arc::clone(&file.file), at: 0 };
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let read = reader.read(&mut buffer).map_err(self.io())?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
        }
        let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        if found == *sha256 {
            return Ok(());
        }
        Err(self.damaged("its SHA-256 is not the one in the manifest"))
    }

    /// Reads the footer and holds rows and columns against the manifest and `schema`.
    pub(super) fn check_footer(&self, schema: &SchemaRef) -> Result<Footer, InputError> {
        let builder = self.builder()?;
        let footer = builder.metadata().file_metadata();
        if u64::try_from(footer.num_rows()).ok() != Some(self.part.rows) {
            let (found, rows) = (footer.num_rows(), self.part.rows);
            return Err(self.damaged(format!("it has {found} rows instead of {rows}")));
        }
        for field in builder.schema().fields() {
            let known = schema.field_with_name(field.name());
            if !known.is_ok_and(|known| known.data_type() == field.data_type()) {
                let what = format!("column {}", field.name());
                return Err(InputError::Newer { path: self.path(), what });
            }
        }
        Ok(Footer::of(footer))
    }

    /// Whether it has rows of a boot, as far as its footer tells.
    pub(crate) fn may_have(&self, node: &str, boot: &str) -> Result<bool, InputError> {
        let marks = Footer::of(self.builder()?.metadata().file_metadata()).marks;
        let is_it = |mark: &BootMark| mark.node == node && mark.boot == boot;
        Ok(marks.boots.is_empty() || marks.boots.iter().any(is_it))
    }

    /// Its rows, in batches of at most `batch_rows`, with the columns of `schema`.
    pub(crate) fn rows(
        &self,
        schema: &SchemaRef,
        batch_rows: usize,
    ) -> Result<Batches, InputError> {
        let reader = self.builder()?.with_batch_size(batch_rows).build();
        let reader = reader.map_err(|error| self.damaged(error))?;
        Ok(Batches { reader, schema: Arc::clone(schema), path: self.path() })
    }

    fn builder(&self) -> Result<ParquetRecordBatchReaderBuilder<PartFile>, InputError> {
        ParquetRecordBatchReaderBuilder::try_new(self.open_file()?)
            .map_err(|error| self.damaged(error))
    }
}

fn frames(segment: &str) -> Option<Frames> {
    let (first, last) = segment.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

/// The rows of an input.
#[derive(Debug)]
pub(crate) struct Batches {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    path: PathBuf,
}

impl Batches {
    pub(crate) fn next_batch(&mut self) -> Result<Option<RecordBatch>, InputError> {
        let damaged = |reason: String| InputError::Damaged { path: self.path.clone(), reason };
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let batch = batch.map_err(|error| damaged(error.to_string()))?;
        conform(&batch, &self.schema).map(Some).map_err(damaged)
    }
}

/// Rows with the columns of `schema`: those that an older version did not write are NULL.
pub(super) fn conform(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let known: BTreeSet<_> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if let Some(field) = batch.schema().fields().iter().find(|f| !known.contains(f.name().as_str()))
    {
        return Err(format!("column {} appeared", field.name()));
    }
    let column = |field: &arrow::datatypes::FieldRef| match batch.column_by_name(field.name()) {
        Some(column) => Arc::clone(column),
        None => new_null_array(field.data_type(), batch.num_rows()),
    };
    let columns = schema.fields().iter().map(column).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).map_err(|error| error.to_string())
}

/// A part as the Parquet reader wants it. Nothing of it is kept in memory.
#[derive(Debug)]
struct PartFile {
    file: Arc<dyn OpenFile>,
    len: u64,
}

impl Length for PartFile {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for PartFile {
    type T = BufReader<FileReader>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        let reader = FileReader { file: Arc::clone(&self.file), at: start };
        Ok(BufReader::new(reader))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let mut bytes = vec![0; length];
        FileReader { file: Arc::clone(&self.file), at: start }.read_exact(&mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads on from a place in a file.
#[derive(Debug)]
struct FileReader {
    file: Arc<dyn OpenFile>,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += u64::try_from(read).unwrap_or(u64::MAX);
        Ok(read)
    }
}
