//! Rows to Arrow record batches.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int32Array, Int64Array, StringArray,
    TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Schema, SchemaRef, TimeUnit};

use super::{Column, ColumnType, Table};

/// The Arrow type of a column.
fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Text | ColumnType::OptText => DataType::Utf8,
        ColumnType::Word | ColumnType::OptWord => {
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
        }
        ColumnType::Time | ColumnType::OptTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        ColumnType::Int64 | ColumnType::OptInt64 => DataType::Int64,
        ColumnType::Int32 | ColumnType::OptInt32 => DataType::Int32,
        ColumnType::OptFloat64 => DataType::Float64,
        ColumnType::Bool => DataType::Boolean,
    }
}

impl Table {
    /// The Arrow schema: the columns in order.
    pub fn schema(&self) -> SchemaRef {
        let field = |c: &Column| Field::new(c.name, data_type(c.kind), c.nullable());
        Arc::new(Schema::new(self.columns.iter().map(field).collect::<Vec<_>>()))
    }
}

/// One column of `rows`, of the type that `kind` names.
macro_rules! column {
    (Text, $rows:ident, $name:ident) => {
        $crate::table::batch::text($rows.iter().map(|r| Some(r.$name.as_str())))
    };
    (OptText, $rows:ident, $name:ident) => {
        $crate::table::batch::text($rows.iter().map(|r| r.$name.as_deref()))
    };
    (Word, $rows:ident, $name:ident) => {
        $crate::table::batch::word($rows.iter().map(|r| Some(r.$name.as_str())))
    };
    (OptWord, $rows:ident, $name:ident) => {
        $crate::table::batch::word($rows.iter().map(|r| r.$name.as_deref()))
    };
    (Time, $rows:ident, $name:ident) => {
        $crate::table::batch::time($rows.iter().map(|r| Some(r.$name)))
    };
    (OptTime, $rows:ident, $name:ident) => {
        $crate::table::batch::time($rows.iter().map(|r| r.$name))
    };
    (Int64, $rows:ident, $name:ident) => {
        $crate::table::batch::int64($rows.iter().map(|r| Some(r.$name)))
    };
    (OptInt64, $rows:ident, $name:ident) => {
        $crate::table::batch::int64($rows.iter().map(|r| r.$name))
    };
    (Int32, $rows:ident, $name:ident) => {
        $crate::table::batch::int32($rows.iter().map(|r| Some(r.$name)))
    };
    (OptInt32, $rows:ident, $name:ident) => {
        $crate::table::batch::int32($rows.iter().map(|r| r.$name))
    };
    (OptFloat64, $rows:ident, $name:ident) => {
        $crate::table::batch::float64($rows.iter().map(|r| r.$name))
    };
    (Bool, $rows:ident, $name:ident) => {
        $crate::table::batch::boolean($rows.iter().map(|r| Some(r.$name)))
    };
}

/// The conversion of a row type.
macro_rules! batch {
    ($row:ident $($(#[$doc:meta])+ $tag:literal $name:ident: $kind:ident $([$unit:literal])?,)+) => {
        impl $row {
            /// The Arrow schema of the table.
            pub fn schema() -> ::arrow::datatypes::SchemaRef {
                TABLE.schema()
            }

            /// The rows as one record batch.
            ///
            /// # Errors
            /// None is known: every column is made from the rows themselves.
            pub fn to_batch(rows: &[Self]) -> Result<::arrow::array::RecordBatch, ::arrow::error::ArrowError> {
                let columns = vec![$($crate::table::batch::column!($kind, rows, $name),)+];
                ::arrow::array::RecordBatch::try_new(Self::schema(), columns)
            }
        }
    };
}

pub(super) use {batch, column};

pub(super) fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

pub(super) fn word<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<DictionaryArray<Int32Type>>())
}

pub(super) fn time(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMicrosecondArray>())
}

pub(super) fn int64(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

pub(super) fn int32(values: impl Iterator<Item = Option<i32>>) -> ArrayRef {
    Arc::new(values.collect::<Int32Array>())
}

pub(super) fn float64(values: impl Iterator<Item = Option<f64>>) -> ArrayRef {
    Arc::new(values.collect::<Float64Array>())
}

pub(super) fn boolean(values: impl Iterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(values.collect::<BooleanArray>())
}
