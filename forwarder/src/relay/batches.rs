//! Batches that are borrowed while datagrams are in a thread's hands.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

use forwarder_sys::datagram::Batch;

/// Batches a thread keeps for the next borrower; more are freed when they come back. Almost always
/// one is out, and one more for each listener that has no room to send.
const SPARE_BATCHES: usize = 2;

/// One thread's batches. No session holds one while it is idle.
#[derive(Debug, Default)]
pub(crate) struct Batches {
    spare: RefCell<Vec<Batch>>,
}

impl Batches {
    /// A batch until the loan is dropped. What it holds is of no meaning.
    pub(crate) fn lend(&self) -> BatchLoan<'_> {
        let spare = self.spare.borrow_mut().pop();
        BatchLoan { batches: self, batch: Some(spare.unwrap_or_default()) }
    }
}

/// A borrowed batch.
#[derive(Debug)]
pub(crate) struct BatchLoan<'a> {
    batches: &'a Batches,
    /// `None` only while it is given back.
    batch: Option<Batch>,
}

/// Why a loan always has its batch.
const HELD: &str = "a loan holds its batch until it is dropped";

impl Deref for BatchLoan<'_> {
    type Target = Batch;

    fn deref(&self) -> &Batch {
        self.batch.as_ref().expect(HELD)
    }
}

impl DerefMut for BatchLoan<'_> {
    fn deref_mut(&mut self) -> &mut Batch {
        self.batch.as_mut().expect(HELD)
    }
}

impl Drop for BatchLoan<'_> {
    fn drop(&mut self) {
        let mut spare = self.batches.spare.borrow_mut();
        if spare.len() < SPARE_BATCHES {
            spare.extend(self.batch.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_beyond_the_spare_ones_is_freed() {
        let batches = Batches::default();
        let loans: Vec<_> = (0..SPARE_BATCHES + 3).map(|_| batches.lend()).collect();
        drop(loans);
        assert_eq!(batches.spare.borrow().len(), SPARE_BATCHES);
        assert!(batches.lend().is_empty());
    }
}
