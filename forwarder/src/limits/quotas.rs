//! What was used of every quota, in cells that outlive the process.
//!
//! The cells are on tmpfs, where a store costs no disk and survives a kill, and from time to time
//! they are saved to a file beside the spool, which survives the machine. A start goes on with
//! whatever of the two knows more of each cell.
//!
//! - Killed: nothing is lost. Payload is charged before it is sent on.
//! - The machine stops: what was used since the file was last saved is lost, some seconds' worth.
//! - No tmpfs: the same holds for a kill.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use forwarder_core::config::Every;
use forwarder_core::limit::{CELL_WORDS, Identity, MAX_CELLS, Period, QuotaCell};
use jiff::tz::TimeZone;
use schemas::vocab::Timestamp;

use super::store::{self, Memory};

/// What one sharer has used of one quota.
pub(super) type Cell = QuotaCell<'static>;

/// Days after the end of a period until its cell may be another's: a clock may step back that far.
const KEPT_DAYS: i64 = 2;

/// Microseconds of a day.
const DAY_US: i64 = 86_400_000_000;

/// Time between two searches for cells that can be another's, in microseconds: each looks at all of
/// them, which a flood of newcomers must not have done for every one.
const SEARCH_AGAIN_US: u64 = 1_000_000;

/// Every quota's cells.
#[derive(Debug)]
pub(super) struct Quotas {
    spool: PathBuf,
    open: OnceLock<Open>,
}

#[derive(Debug)]
struct Open {
    memory: Memory,
    book: Mutex<Book>,
    /// What the file holds.
    saved: Mutex<Vec<[u64; CELL_WORDS]>>,
}

#[derive(Debug, Default)]
struct Book {
    cells: HashMap<Identity, (Every, Arc<Cell>)>,
    free: Vec<&'static [AtomicU64; CELL_WORDS]>,
    /// When cells that can be another's were looked for last.
    searched: Option<Timestamp>,
    /// Whether none was found then.
    is_full: bool,
}

impl Quotas {
    /// The quotas of the forwarder with this spool. Nothing is read before [`Quotas::open`].
    pub(super) fn of(spool: &Path) -> Self {
        Self { spool: spool.to_owned(), open: OnceLock::new() }
    }

    /// Reads what is known. Called when a configuration has quotas; the first time counts.
    pub(super) fn open(&self) {
        self.open.get_or_init(|| {
            let memory = Memory::open(&self.spool);
            let mut book = Book::default();
            for words in memory.cells() {
                let cell = Cell::at(words);
                match cell.identity() {
                    Some(identity) => book.take(identity, cell),
                    None => book.free.push(words),
                }
            }
            book.merge_saved(&self.spool);
            Open { memory, book: Mutex::new(book), saved: Mutex::default() }
        });
    }

    /// Whether a configuration has had quotas.
    pub(super) fn is_open(&self) -> bool {
        self.open.get().is_some()
    }

    /// The cell of a sharer, who has used nothing if it is not known. `None`: there are too many.
    pub(super) fn cell(
        &self,
        identity: Identity,
        every: Every,
        wall: Timestamp,
    ) -> Option<Arc<Cell>> {
        self.open();
        let open = self.open.get()?;
        let mut book = open.book.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known_every, cell)) = book.cells.get_mut(&identity) {
            *known_every = every;
            return Some(Arc::clone(cell));
        }
        if book.free.is_empty() && book.may_search(wall) {
            book.forget_old(wall);
        }
        let cell = Cell::at(book.free.pop()?);
        cell.claim(identity);
        let cell = Arc::new(cell);
        book.cells.insert(identity, (every, Arc::clone(&cell)));
        Some(cell)
    }

    /// Saves every cell that is used beside the spool, if anything was used since the last time. The
    /// file is there whole or not at all.
    ///
    /// # Errors
    /// The disk is full, or failed.
    pub(super) fn save(&self) -> std::io::Result<()> {
        let Some(open) = self.open.get() else { return Ok(()) };
        let mut cells: Vec<_> = {
            let book = open.book.lock().unwrap_or_else(PoisonError::into_inner);
            let used = book.cells.values().filter(|(_, cell)| cell.newest() != 0);
            used.map(|(_, cell)| cell.copy()).collect()
        };
        cells.sort_unstable();
        let mut saved = open.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved != cells {
            store::save(&self.spool, &cells)?;
            *saved = cells;
        }
        Ok(())
    }

    /// The file is all that is needed from here on.
    pub(super) fn remove_memory(&self) {
        if let Some(open) = self.open.get() {
            open.memory.remove();
        }
    }
}

impl Book {
    fn take(&mut self, identity: Identity, cell: Cell) {
        // Whose calendar it follows shows when its quota is asked for; until then the longer one.
        self.cells.insert(identity, (Every::Month, Arc::new(cell)));
    }

    fn merge_saved(&mut self, spool: &Path) {
        for words in store::load(spool) {
            let saved = QuotaCell::at(&words);
            let Some(identity) = saved.identity() else { continue };
            if !self.cells.contains_key(&identity) {
                let Some(words) = self.free.pop() else { return };
                let cell = Cell::at(words);
                cell.claim(identity);
                self.take(identity, cell);
            }
            if let Some((_, cell)) = self.cells.get(&identity) {
                cell.merge(&saved);
            }
        }
    }

    fn may_search(&self, wall: Timestamp) -> bool {
        // In both directions, since clocks are set back.
        self.searched.is_none_or(|at| wall.0.abs_diff(at.0) >= SEARCH_AGAIN_US)
    }

    /// Frees the cells of sharers whom nobody asks about and whose periods are long over, or who
    /// have used nothing.
    fn forget_old(&mut self, wall: Timestamp) {
        let then = Timestamp(wall.0.saturating_sub(KEPT_DAYS * DAY_US));
        let label = |every| u64::from(Period::of(every, &TimeZone::UTC, then).label);
        let oldest = |every| match every {
            Every::Day => label(Every::Day),
            Every::Month => label(Every::Month),
        };
        let free = &mut self.free;
        self.cells.retain(|_, (every, cell)| {
            let keep = Arc::strong_count(cell) > 1 || cell.newest() >= oldest(*every);
            if !keep {
                cell.clear();
                free.push(cell.words());
            }
            keep
        });
        self.searched = Some(wall);
        let was_full = std::mem::replace(&mut self.is_full, self.free.is_empty());
        if self.is_full && !was_full {
            tracing::warn!(
                cells = MAX_CELLS,
                "every quota's cell is in use: new sharers are refused"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;

    #[test]
    fn a_flood_of_newcomers_has_the_cells_searched_once_a_second() {
        let spool = tempfile::tempdir().unwrap();
        let quotas = Quotas::of(spool.path());
        let cell = |sharer: usize, wall| {
            let identity = Identity::of("r", "client", Every::Day, &sharer.to_string());
            quotas.cell(identity, Every::Day, wall)
        };
        let now = Timestamp(1_800_000_000 * SECOND);
        let held: Vec<_> = (0..MAX_CELLS).map(|sharer| cell(sharer, now).unwrap()).collect();
        assert!(cell(MAX_CELLS, now).is_none(), "all are in use");
        drop(held);
        let soon = Timestamp(now.0 + SECOND - 1);
        assert!(cell(MAX_CELLS, soon).is_none(), "nobody looked again");
        assert!(cell(MAX_CELLS, Timestamp(now.0 + SECOND)).is_some());
        quotas.remove_memory();
    }
}
