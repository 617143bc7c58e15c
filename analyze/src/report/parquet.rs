//! Parquet for other programs: the columns as DuckDB gives them, the footer as metadata.

use std::io::{self, Write};
use std::mem;

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

/// A Parquet file being written. The destination is lent to us for one call at a time, so that what
/// the writer has written waits in its memory to be handed on.
pub(super) struct Writer(ArrowWriter<Vec<u8>>);

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
        let schema = SchemaRef::clone(schema);
        let writer = ArrowWriter::try_new(Vec::new(), schema, Some(properties));
        writer.map(Self).map_err(of_the_reader)
    }

    pub(super) fn rows(&mut self, batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
        self.0.write(batch).map_err(io::Error::other)?;
        out.write_all(&mem::take(self.0.inner_mut()))
    }

    pub(super) fn end(mut self, footer: &[String], out: &mut impl Write) -> io::Result<()> {
        let footer = KeyValue::new(FOOTER_KEY.to_owned(), footer.join("\n"));
        self.0.append_key_value_metadata(footer);
        out.write_all(&self.0.into_inner().map_err(io::Error::other)?)
    }
}
