//! One value of a result, as every output format sees it.

use std::borrow::Cow;

use arrow::array::{Array, AsArray as _};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell<'a> {
    /// NULL.
    Null,
    /// An integer of any width.
    Int(i128),
    /// A floating point number.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// Microseconds since 1970 UTC.
    Time(i64),
    /// Text; of types that our tables do not have, their rendering.
    Text(Cow<'a, str>),
}

impl<'a> Cell<'a> {
    /// The value of `array` at `row`.
    pub fn at(array: &'a dyn Array, row: usize) -> Self {
        if array.is_null(row) {
            return Self::Null;
        }
        macro_rules! int {
            ($type:ty) => {
                Self::Int(i128::from(array.as_primitive::<$type>().value(row)))
            };
        }
        match array.data_type() {
            DataType::Int8 => int!(Int8Type),
            DataType::Int16 => int!(Int16Type),
            DataType::Int32 => int!(Int32Type),
            DataType::Int64 => int!(Int64Type),
            DataType::UInt8 => int!(UInt8Type),
            DataType::UInt16 => int!(UInt16Type),
            DataType::UInt32 => int!(UInt32Type),
            DataType::UInt64 => int!(UInt64Type),
            // DuckDB's sum of integers.
            DataType::Decimal128(_, 0) => int!(Decimal128Type),
            DataType::Float32 => Self::Float(array.as_primitive::<Float32Type>().value(row).into()),
            DataType::Float64 => Self::Float(array.as_primitive::<Float64Type>().value(row)),
            DataType::Boolean => Self::Bool(array.as_boolean().value(row)),
            DataType::Timestamp(TimeUnit::Microsecond, _) => {
                Self::Time(array.as_primitive::<TimestampMicrosecondType>().value(row))
            }
            DataType::Utf8 => Self::Text(array.as_string::<i32>().value(row).into()),
            DataType::LargeUtf8 => Self::Text(array.as_string::<i64>().value(row).into()),
            DataType::Utf8View => Self::Text(array.as_string_view().value(row).into()),
            _ => Self::Text(rendered(array, row).into()),
        }
    }
}

fn rendered(array: &dyn Array, row: usize) -> String {
    let options = FormatOptions::default();
    match ArrayFormatter::try_new(array, &options) {
        Ok(formatter) => formatter.value(row).try_to_string().unwrap_or_default(),
        Err(error) => error.to_string(),
    }
}
