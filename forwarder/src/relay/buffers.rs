//! Buffers that streams borrow while payload is in their hands.

use std::cell::RefCell;

/// Buffers a thread keeps for the next borrower; more are freed when they come back.
const SPARE_BUFFERS: usize = 16;

/// One thread's buffers. A session holds one only between a read and the end of the write that
/// follows, so idle sessions hold none.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// A buffer of so many bytes for good, or until [`Buffers::put`]. What it holds is of no
    /// meaning.
    pub(crate) fn take(&self, bytes: usize) -> Box<[u8]> {
        // Another size is that of an earlier configuration.
        let spare = self.spare.borrow_mut().pop().filter(|spare| spare.len() == bytes);
        spare.unwrap_or_else(|| vec![0; bytes].into_boxed_slice())
    }

    /// Takes a buffer back.
    pub(crate) fn put(&self, buffer: Box<[u8]>) {
        let mut spare = self.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_beyond_the_spare_ones_is_freed() {
        let buffers = Buffers::default();
        let taken: Vec<_> = (0..SPARE_BUFFERS + 5).map(|_| buffers.take(1024)).collect();
        taken.into_iter().for_each(|buffer| buffers.put(buffer));
        assert_eq!(buffers.spare.borrow().len(), SPARE_BUFFERS);
        assert_eq!(buffers.take(2048).len(), 2048, "whatever size the spare ones have");
    }
}
