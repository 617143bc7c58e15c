//! Buffers that sessions borrow while payload is in their hands.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};

/// Size of a buffer: a full UDP datagram fits, and larger reads gain little.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;

/// Buffers a thread keeps for the next borrower; more are freed when they come back.
const SPARE_BUFFERS: usize = 16;

/// One thread's buffers. A session holds one only between a read and the end of the write that
/// follows, so idle sessions hold none.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    spare: RefCell<Vec<Box<[u8]>>>,
}

impl Buffers {
    /// A buffer until the loan is dropped. What it holds is of no meaning.
    pub(crate) fn lend(&self) -> Loan<'_> {
        let spare = self.spare.borrow_mut().pop();
        let buffer = spare.unwrap_or_else(|| vec![0; BUFFER_BYTES].into_boxed_slice());
        Loan { buffers: self, buffer }
    }
}

/// A borrowed buffer.
#[derive(Debug)]
pub(crate) struct Loan<'a> {
    buffers: &'a Buffers,
    buffer: Box<[u8]>,
}

impl Deref for Loan<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.buffer
    }
}

impl DerefMut for Loan<'_> {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.buffer
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let mut spare = self.buffers.spare.borrow_mut();
        if spare.len() < SPARE_BUFFERS {
            spare.push(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_back_beyond_the_spare_ones_is_freed() {
        let buffers = Buffers::default();
        let loans: Vec<_> = (0..SPARE_BUFFERS + 5).map(|_| buffers.lend()).collect();
        drop(loans);
        assert_eq!(buffers.spare.borrow().len(), SPARE_BUFFERS);
        assert_eq!(buffers.lend().len(), BUFFER_BYTES);
    }
}
