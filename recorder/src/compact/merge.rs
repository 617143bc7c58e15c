//! Sorted parts as one sorted stream of rows.
//!
//! An input is opened when the first of its rows can be next, by the smallest time that the manifest
//! names, and closed behind its last row: parts of one time after the other, as most are, take the
//! memory of two. Rows with equal keys come in the order of the inputs, so that the stream is a
//! function of the inputs.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::interleave_record_batch;
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::row::{Row, RowConverter, Rows, SortField};
use schemas::table::Table;

use super::input::{Batches, InputError, Source};
use super::sums::Sums;
use crate::publish::format;

/// Rows of a batch that is read or given on.
const BATCH_ROWS: usize = 8192;

/// Why rows could not be merged.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// An input.
    #[error(transparent)]
    Input(#[from] InputError),
    /// Columns cannot be put together as they are.
    #[error("cannot merge: {0}")]
    Arrow(#[from] ArrowError),
}

/// The stream.
pub(super) struct Merge<'a> {
    schema: SchemaRef,
    /// Where the columns of the order are.
    order: Vec<usize>,
    converter: RowConverter,
    /// Inputs that are not open yet, the first one last.
    waiting: Vec<(usize, Source<'a>)>,
    /// Open inputs; the first one is that with the smallest row, as in any heap.
    open: Vec<Cursor>,
    /// Rows taken and not given on yet.
    taken: Taken,
    /// What all inputs came to so far.
    sums: Sums,
}

/// An open input.
struct Cursor {
    input: usize,
    batches: Batches,
    batch: RecordBatch,
    keys: Rows,
    at: usize,
    /// Where `batch` is among the taken ones.
    taken_as: Option<usize>,
}

impl Cursor {
    fn key(&self) -> (Row<'_>, usize) {
        (self.keys.row(self.at), self.input)
    }
}

/// Ranges of rows, in their order.
#[derive(Default)]
struct Taken {
    batches: Vec<RecordBatch>,
    rows: Vec<(usize, usize)>,
}

impl<'a> Merge<'a> {
    /// Merges inputs given in the order of their smallest times.
    pub(super) fn new(table: &Table, inputs: Vec<Source<'a>>) -> Result<Self, MergeError> {
        let schema = table.schema();
        let order: Vec<usize> = format::order(table)
            .iter()
            .map(|name| schema.index_of(name))
            .collect::<Result<_, _>>()?;
        let fields = order.iter().map(|index| schema.field(*index).data_type().clone());
        let converter = RowConverter::new(fields.map(SortField::new).collect())?;
        let mut waiting: Vec<_> = inputs.into_iter().enumerate().collect();
        waiting.reverse();
        Ok(Self {
            schema,
            order,
            converter,
            waiting,
            open: Vec::new(),
            taken: Taken::default(),
            sums: Sums::default(),
        })
    }

    /// What all rows of the inputs came to, when the stream is at its end.
    pub(super) fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The next rows.
    pub(super) fn next_batch(&mut self) -> Result<Option<RecordBatch>, MergeError> {
        loop {
            self.open_due()?;
            if self.open.is_empty() {
                return self.taken.give();
            }
            self.take_run();
            self.advance()?;
            if self.taken.rows.len() >= BATCH_ROWS {
                return self.taken.give();
            }
        }
    }

    /// Opens the inputs whose first row may be next.
    fn open_due(&mut self) -> Result<(), MergeError> {
        while let Some((_, source)) = self.waiting.last() {
            let is_due = match self.open.first() {
                Some(first) => source.part.min_time_us <= self.time_of(first),
                None => true,
            };
            if !is_due {
                break;
            }
            let Some((input, source)) = self.waiting.pop() else { break };
            let mut batches = source.rows(&self.schema, BATCH_ROWS)?;
            if let Some((batch, keys)) = self.read(&mut batches)? {
                self.open.push(Cursor { input, batches, batch, keys, at: 0, taken_as: None });
                self.rise();
            }
        }
        Ok(())
    }

    /// The next rows of an input, with their keys.
    fn read(&mut self, batches: &mut Batches) -> Result<Option<(RecordBatch, Rows)>, MergeError> {
        let Some(batch) = batches.next_batch()? else { return Ok(None) };
        self.sums.add(&batch);
        let columns: Vec<ArrayRef> =
            self.order.iter().map(|index| Arc::clone(batch.column(*index))).collect();
        let keys = self.converter.convert_columns(&columns)?;
        Ok(Some((batch, keys)))
    }

    fn time_of(&self, cursor: &Cursor) -> i64 {
        // The partition time comes first in every order, and is never NULL.
        cursor
            .batch
            .column(self.order[0])
            .as_primitive::<TimestampMicrosecondType>()
            .value(cursor.at)
    }

    /// Takes the rows of the first input that come before all rows of the others.
    fn take_run(&mut self) {
        // A waiting input cannot come before them either: its times are all later than this one.
        let until = self.waiting.last().map(|(_, source)| source.part.min_time_us);
        let others = self.open.iter().skip(1).take(2).map(Cursor::key).min();
        let Some(first) = self.open.first() else { return };
        let times = first.batch.column(self.order[0]).as_primitive::<TimestampMicrosecondType>();
        let room = BATCH_ROWS - self.taken.rows.len();
        let most = first.batch.num_rows().min(first.at + room);
        let mut end = first.at + 1;
        while end < most
            && others.is_none_or(|other| (first.keys.row(end), first.input) < other)
            && until.is_none_or(|until| times.value(end) < until)
        {
            end += 1;
        }
        let Some(first) = self.open.first_mut() else { return };
        let index = *first.taken_as.get_or_insert_with(|| {
            self.taken.batches.push(first.batch.clone());
            self.taken.batches.len() - 1
        });
        self.taken.rows.extend((first.at..end).map(|row| (index, row)));
        first.at = end;
    }

    /// Goes on to the first input's next row and puts it where it belongs.
    fn advance(&mut self) -> Result<(), MergeError> {
        if self.taken.rows.len() >= BATCH_ROWS {
            // What is taken is given on now.
            for cursor in &mut self.open {
                cursor.taken_as = None;
            }
        }
        let mut first = self.open.swap_remove(0);
        if first.at == first.batch.num_rows() {
            match self.read(&mut first.batches)? {
                None => {
                    self.sink();
                    return Ok(());
                }
                Some((batch, keys)) => {
                    first = Cursor { batch, keys, at: 0, taken_as: None, ..first };
                }
            }
        }
        self.sink();
        self.open.push(first);
        self.rise();
        Ok(())
    }

    /// Puts the first of the heap where it belongs.
    fn sink(&mut self) {
        let mut at = 0;
        loop {
            let children = [2 * at + 1, 2 * at + 2].into_iter().filter(|c| *c < self.open.len());
            let Some(child) = children.min_by(|a, b| self.compare(*a, *b)) else { return };
            if self.compare(child, at) != Ordering::Less {
                return;
            }
            self.open.swap(at, child);
            at = child;
        }
    }

    /// Puts the last of the heap where it belongs.
    fn rise(&mut self) {
        let Some(mut at) = self.open.len().checked_sub(1) else { return };
        while at > 0 {
            let parent = (at - 1) / 2;
            if self.compare(at, parent) != Ordering::Less {
                return;
            }
            self.open.swap(at, parent);
            at = parent;
        }
    }

    fn compare(&self, a: usize, b: usize) -> Ordering {
        self.open[a].key().cmp(&self.open[b].key())
    }
}

impl Taken {
    /// The rows taken so far as one batch; none: nothing was.
    fn give(&mut self) -> Result<Option<RecordBatch>, MergeError> {
        let Self { batches, rows } = std::mem::take(self);
        let (Some((_, first)), Some((_, last))) = (rows.first(), rows.last()) else {
            return Ok(None);
        };
        if let [batch] = &batches[..] {
            return Ok(Some(batch.slice(*first, last + 1 - first)));
        }
        let batches: Vec<_> = batches.iter().collect();
        Ok(Some(interleave_record_batch(&batches, &rows)?))
    }
}
