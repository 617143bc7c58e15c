//! Parquet for other programs: the columns as DuckDB gives them, the footer as metadata.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, ZstdLevel};
use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::KeyValue;
use ::parquet::file::properties::WriterProperties;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::failure::Failure;

/// The key under which the lines of the footer stand in the file's metadata.
const FOOTER_KEY: &str = "weir.report";
/// Level of zstd: as the parts of the account.
const ZSTD_LEVEL: i32 = 3;

/// A Parquet file being written.
pub(super) struct Writer {
    writer: ArrowWriter<Written>,
    written: Written,
}

/// What the Parquet writer has written and we have not handed on: the destination is lent to us for
/// one call at a time.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    fn take(&self) -> Vec<u8> {
        mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Writer {
    /// # Errors
    /// 64 when Parquet has no type for a column.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, Failure> {
        let of_the_reader = |error: ParquetError| {
            Failure::Usage(format!("cannot write these columns as parquet: {error}; cast them"))
        };
        let level = ZstdLevel::try_new(ZSTD_LEVEL).map_err(of_the_reader)?;
        let properties =
            WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
        let written = Written::default();
        let writer =
            ArrowWriter::try_new(written.clone(), SchemaRef::clone(schema), Some(properties))
                .map_err(of_the_reader)?;
        Ok(Self { writer, written })
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        self.writer.write(batch).map_err(io::Error::other)?;
        out.write_all(&self.written.take())
    }

    pub(super) fn end(mut self, footer: &[String], out: &mut impl Write) -> io::Result<()> {
        let footer = KeyValue::new(FOOTER_KEY.to_owned(), footer.join("\n"));
        self.writer.append_key_value_metadata(footer);
        self.writer.close().map_err(io::Error::other)?;
        out.write_all(&self.written.take())
    }
}
