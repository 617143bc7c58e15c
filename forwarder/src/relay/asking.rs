//! How many UDP clients of a thread may have their names looked up before the rules decide about
//! them. Who comes when all places are taken is judged as one whose name is not known: datagrams from
//! forged addresses must not become as many lookups.

use std::cell::Cell;
use std::rc::Rc;

/// Clients of one thread whose names are looked up at once.
const PLACES: usize = 1024;

/// The places of one thread.
#[derive(Debug)]
pub(crate) struct Asking {
    free: Rc<Cell<usize>>,
}

/// One client's place, until dropped.
#[derive(Debug)]
pub(crate) struct Asker(Rc<Cell<usize>>);

impl Default for Asking {
    fn default() -> Self {
        Self { free: Rc::new(Cell::new(PLACES)) }
    }
}

impl Asking {
    /// `None`: they are all taken.
    pub(crate) fn take(&self) -> Option<Asker> {
        self.free.set(self.free.get().checked_sub(1)?);
        Some(Asker(Rc::clone(&self.free)))
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_come_back() {
        let asking = Asking::default();
        let askers: Vec<_> = std::iter::from_fn(|| asking.take()).collect();
        assert_eq!(askers.len(), PLACES);
        drop(askers);
        assert!(asking.take().is_some());
    }
}
