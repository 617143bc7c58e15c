//! What must be the same before and after a merge, whatever the order of the rows.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
};

/// Rows, and for each column how many values it has and what they come to: the sum of numbers,
/// times and truths, the bytes of texts, the bits of fractions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) rows: u64,
    columns: Vec<Column>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Column {
    values: u64,
    sum: i128,
}

impl Sums {
    /// Adds rows of the one schema that all rows have.
    pub(super) fn add(&mut self, batch: &RecordBatch) {
        self.columns.resize(batch.num_columns(), Column::default());
        self.rows += as_u64(batch.num_rows());
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.values += as_u64(array.len() - array.logical_null_count());
            column.sum = column.sum.wrapping_add(sum(array));
        }
    }

    /// Adds what was summed up elsewhere.
    pub(super) fn add_sums(&mut self, other: &Self) {
        self.columns.resize(self.columns.len().max(other.columns.len()), Column::default());
        self.rows += other.rows;
        for (column, more) in self.columns.iter_mut().zip(&other.columns) {
            column.values += more.values;
            column.sum = column.sum.wrapping_add(more.sum);
        }
    }

    /// The first column in which the two differ.
    pub(super) fn first_difference(&self, other: &Self) -> Option<usize> {
        self.columns.iter().zip(&other.columns).position(|(a, b)| a != b)
    }
}

/// What the values of a column come to. A type that no table has counts by its values alone.
fn sum(array: &ArrayRef) -> i128 {
    match array.data_type() {
        DataType::Int64 => total(array.as_primitive::<Int64Type>().iter()),
        DataType::Int32 => total(array.as_primitive::<Int32Type>().iter()),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            total(array.as_primitive::<TimestampMicrosecondType>().iter())
        }
        DataType::Float64 => {
            total(array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)))
        }
        DataType::Boolean => total(array.as_boolean().iter()),
        DataType::Utf8 => {
            total(array.as_string::<i32>().iter().map(|text| text.map(|text| as_u64(text.len()))))
        }
        DataType::Dictionary(_, _) => array.as_dictionary_opt::<Int32Type>().map_or(0, |words| {
            words.downcast_dict::<arrow::array::StringArray>().map_or(0, |words| {
                total(words.into_iter().map(|word| word.map(|word| as_u64(word.len()))))
            })
        }),
        _ => 0,
    }
}

fn total<V: Into<i128>>(values: impl Iterator<Item = Option<V>>) -> i128 {
    values.flatten().fold(0, |sum, value| sum.wrapping_add(value.into()))
}

fn as_u64(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use schemas::table::{Event, Usage};

    use super::*;

    fn of(rows: &[Usage]) -> Sums {
        let mut sums = Sums::default();
        for rows in rows.chunks(2) {
            sums.add(&Usage::to_batch(rows).unwrap());
        }
        sums
    }

    fn rows() -> Vec<Usage> {
        let row = |n: i64| Usage {
            session_no: n,
            node: "edge-1".into(),
            customer: (n % 2 == 0).then(|| "acme".into()),
            bytes_up: n * 1000,
            is_final: n == 3,
            ..Usage::default()
        };
        (1..6).map(row).collect()
    }

    #[test]
    fn the_order_of_rows_makes_no_difference() {
        let mut turned = rows();
        turned.reverse();
        assert_eq!(of(&rows()), of(&turned));
    }

    #[test]
    fn every_kind_of_value_makes_a_difference() {
        let changes: [fn(&mut Usage); 6] = [
            |row| row.bytes_up += 1,
            |row| row.interval_seq += 1,
            |row| row.slot_start += 1,
            |row| row.is_final ^= true,
            |row| row.node.push('2'),
            |row| row.customer = Some(String::new()),
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut changed = rows();
            change(&mut changed[2]);
            assert!(of(&changed).first_difference(&of(&rows())).is_some(), "change {index}");
        }
        let event = |value| {
            let mut sums = Sums::default();
            sums.add(&Event::to_batch(&[Event { value, ..Event::default() }]).unwrap());
            sums
        };
        assert_ne!(event(Some(1.5)), event(Some(1.25)));
        assert_ne!(of(&rows()[1..]), of(&rows()));
    }

    #[test]
    fn sums_made_apart_add_up() {
        let mut sums = of(&rows()[..2]);
        sums.add_sums(&of(&rows()[2..]));
        assert_eq!(sums, of(&rows()));
    }
}
