//! The six tables. One module each defines the row type and, with it, the columns: their order,
//! type, unit and meaning stand in one place, and the wire message, the Arrow schema and the
//! reference text are made from it.
//!
//! Contract of every table: times are UTC microseconds without a zone; counters are `Int64` and
//! never negative; addresses are RFC 5952 text and IPv4 is never mapped; enums are dictionary text,
//! and readers accept terms they do not know. Columns are only ever added, at the end and nullable.
//!
//! A row is also the wire message (protobuf), so field numbers are as frozen as column names. `node`
//! and `boot` travel once per frame and are empty in a row on the wire (see [`crate::wire`]).

#[cfg(feature = "arrow")]
mod batch;
mod captures;
mod column;
mod denied;
mod events;
mod sessions;
mod slots;
mod usage;
mod view;

pub use captures::{Capture, View as CaptureView};
pub use column::{Column, ColumnType, Table};
pub use denied::{Denied, View as DeniedView};
pub use events::{Event, View as EventView};
pub use sessions::{Session, View as SessionView};
pub use slots::{Slot, View as SlotView};
pub use usage::{Usage, View as UsageView};

/// The version of all tables together, written as `weir.schema` into every Parquet footer. The
/// part before the point changes when an old reader would misread, which additions never do.
pub const SCHEMA_VERSION: &str = "1.0";

/// The tables in the order of the reference.
pub const TABLES: [&Table; 6] = [
    &sessions::TABLE,
    &usage::TABLE,
    &slots::TABLE,
    &denied::TABLE,
    &captures::TABLE,
    &events::TABLE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_what_was_reviewed() {
        insta::with_settings!({ snapshot_path => "../../golden", prepend_module_to_snapshot => false, omit_expression => true }, {
            for table in TABLES {
                insta::assert_snapshot!(table.name, table.to_string());
            }
        });
    }

    #[test]
    fn every_nullable_column_says_what_null_means() {
        for table in TABLES {
            for column in table.columns {
                let says = column.doc.contains("NULL");
                assert_eq!(
                    says,
                    column.nullable(),
                    "{}.{}: {}",
                    table.name,
                    column.name,
                    column.doc
                );
            }
        }
    }

    #[test]
    fn every_table_is_partitioned_by_one_of_its_times() {
        for table in TABLES {
            let column = table.columns.iter().find(|c| c.name == table.partition_time);
            assert_eq!(column.map(|c| c.kind), Some(ColumnType::Time), "{}", table.name);
        }
    }

    #[cfg(feature = "arrow")]
    #[test]
    fn rows_become_a_batch_of_the_declared_schema() {
        let rows = [Session { session_no: 7, ..Session::default() }, Session::default()];
        let batch = Session::to_batch(&rows).unwrap();
        assert_eq!(batch.num_rows(), 2);
        assert_eq!(batch.num_columns(), Session::TABLE.columns.len());
        assert_eq!(batch.schema(), Session::schema());
    }
}
