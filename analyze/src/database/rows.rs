//! What DuckDB answers, row by row or at once.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::vec;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use duckdb::Statement;

use super::explain;
use crate::cell::Cell;
use crate::failure::Failure;

/// Rows that are still being computed, or stand ready.
pub struct Rows<'db> {
    /// The columns.
    pub schema: SchemaRef,
    pub(super) question: String,
    pub(super) source: Source<'db>,
}

pub(super) enum Source<'db> {
    Running(Box<Statement<'db>>),
    Ready(vec::IntoIter<RecordBatch>),
}

impl fmt::Debug for Rows<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rows").field("question", &self.question).finish_non_exhaustive()
    }
}

impl Iterator for Rows<'_> {
    type Item = Result<RecordBatch, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let statement = match &mut self.source {
            Source::Ready(batches) => return batches.next().map(Ok),
            Source::Running(statement) => statement,
        };
        // The iterator of the crate panics on an error in mid stream; a step returns it.
        match catch_unwind(AssertUnwindSafe(|| statement.step())) {
            Ok(Ok(rows)) => rows.as_ref().map(|rows| Ok(RecordBatch::from(rows))),
            Ok(Err(error)) => Some(Err(explain(&self.question, &error))),
            Err(panic) => Some(Err(contained(&self.question, panic.as_ref()))),
        }
    }
}

impl From<Answer> for Rows<'static> {
    fn from(answer: Answer) -> Self {
        let source = Source::Ready(answer.batches.into_iter());
        Self { schema: answer.schema, question: String::new(), source }
    }
}

/// All rows of a query.
#[derive(Debug)]
pub struct Answer {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows in order.
    pub batches: Vec<RecordBatch>,
}

impl Answer {
    /// The rows one by one, as their values.
    pub fn cells(&self) -> impl Iterator<Item = Vec<Cell<'_>>> {
        self.batches.iter().flat_map(|batch| {
            (0..batch.num_rows()).map(|row| {
                batch.columns().iter().map(|column| Cell::at(column.as_ref(), row)).collect()
            })
        })
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

pub(super) fn contained(question: &str, panic: &(dyn Any + Send)) -> Failure {
    let cause = panic.downcast_ref::<String>().map_or("an unknown cause", String::as_str);
    Failure::Internal(format!("cannot {question}: {cause}"))
}
