//! Rows to Arrow record batches.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Int32Array, PrimitiveArray, StringArray,
};
use arrow::datatypes::{ArrowPrimitiveType, DataType, Field, Schema, SchemaRef, TimeUnit};

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
        $crate::table::batch::text($rows.iter().map(|r| Some(r.$name)))
    };
    (OptText, $rows:ident, $name:ident) => {
        $crate::table::batch::text($rows.iter().map(|r| r.$name))
    };
    (Word, $rows:ident, $name:ident) => {
        $crate::table::batch::word($rows.iter().map(|r| Some(r.$name)))
    };
    (OptWord, $rows:ident, $name:ident) => {
        $crate::table::batch::word($rows.iter().map(|r| r.$name))
    };
    (Time, $rows:ident, $name:ident) => {
        $crate::table::batch::numbers::<::arrow::datatypes::TimestampMicrosecondType>(
            $rows.iter().map(|r| r.$name),
        )
    };
    (OptTime, $rows:ident, $name:ident) => {
        $crate::table::batch::optional::<::arrow::datatypes::TimestampMicrosecondType>(
            $rows.iter().map(|r| r.$name),
        )
    };
    (Int64, $rows:ident, $name:ident) => {
        $crate::table::batch::numbers::<::arrow::datatypes::Int64Type>(
            $rows.iter().map(|r| r.$name),
        )
    };
    (OptInt64, $rows:ident, $name:ident) => {
        $crate::table::batch::optional::<::arrow::datatypes::Int64Type>(
            $rows.iter().map(|r| r.$name),
        )
    };
    (Int32, $rows:ident, $name:ident) => {
        $crate::table::batch::numbers::<::arrow::datatypes::Int32Type>(
            $rows.iter().map(|r| r.$name),
        )
    };
    (OptInt32, $rows:ident, $name:ident) => {
        $crate::table::batch::optional::<::arrow::datatypes::Int32Type>(
            $rows.iter().map(|r| r.$name),
        )
    };
    (OptFloat64, $rows:ident, $name:ident) => {
        $crate::table::batch::optional::<::arrow::datatypes::Float64Type>(
            $rows.iter().map(|r| r.$name),
        )
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
                let views: Vec<View<'_>> = rows.iter().map(View::from).collect();
                View::to_batch(&views.iter().collect::<Vec<_>>(), Self::schema())
            }
        }

        impl View<'_> {
            /// The rows as one record batch. `schema`: the table's.
            ///
            /// # Errors
            /// None is known: every column is made from the rows themselves.
            pub fn to_batch(
                rows: &[&Self],
                schema: ::arrow::datatypes::SchemaRef,
            ) -> Result<::arrow::array::RecordBatch, ::arrow::error::ArrowError> {
                let columns = vec![$($crate::table::batch::column!($kind, rows, $name),)+];
                ::arrow::array::RecordBatch::try_new(schema, columns)
            }
        }
    };
}

pub(super) use {batch, column};

pub(super) fn text<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Words come from a small set, mostly the same one again: a look at the few there are costs less
/// than a digest of each.
pub(super) fn word<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    let mut words = Words::default();
    let keys: Int32Array = values.map(|word| word.map(|word| words.key(word))).collect();
    let words = StringArray::from_iter_values(words.all);
    Arc::new(DictionaryArray::new(keys, Arc::new(words)))
}

/// The different words of a column, in the order in which they came.
#[derive(Default)]
struct Words<'a> {
    all: Vec<&'a str>,
    /// Where those are that come after the first few.
    more: HashMap<&'a str, usize>,
    /// Where the word is that came last.
    last: usize,
}

impl<'a> Words<'a> {
    /// Words that are looked through one by one.
    const FEW: usize = 8;

    fn key(&mut self, word: &'a str) -> i32 {
        let at = match self.all.get(self.last) {
            Some(last) if *last == word => self.last,
            _ => self.find(word),
        };
        self.last = at;
        i32::try_from(at).expect("a batch has fewer rows than a key has values")
    }

    fn find(&mut self, word: &'a str) -> usize {
        let few = self.all.iter().take(Self::FEW).position(|known| *known == word);
        if let Some(at) = few {
            return at;
        }
        let next = self.all.len();
        let at = if next < Self::FEW { next } else { *self.more.entry(word).or_insert(next) };
        if at == next {
            self.all.push(word);
        }
        at
    }
}

pub(super) fn numbers<T: ArrowPrimitiveType>(values: impl Iterator<Item = T::Native>) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter_values(values))
}

pub(super) fn optional<T: ArrowPrimitiveType>(
    values: impl Iterator<Item = Option<T::Native>>,
) -> ArrayRef {
    Arc::new(PrimitiveArray::<T>::from_iter(values))
}

pub(super) fn boolean(values: impl Iterator<Item = Option<bool>>) -> ArrayRef {
    Arc::new(values.collect::<BooleanArray>())
}
