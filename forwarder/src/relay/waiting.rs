//! Datagrams that wait while their target's name is looked up, or for their client's turn.
//!
//! One association may hold a handful, and all associations of a thread together no more than the
//! thread's room for them: a name server that hangs while clients come from forged addresses must
//! not take the machine's memory.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use forwarder_sys::datagram::BATCH;

/// Datagrams that wait in one association: as many as go on in one volley.
const DATAGRAMS: usize = BATCH;

/// Bytes that wait in one association.
const BYTES: usize = 256 * 1024;

/// Bytes that wait in all associations of one thread.
const BYTES_PER_THREAD: usize = 16 * 1024 * 1024;

/// What a thread has room for. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    left: Rc<Cell<usize>>,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: Rc::new(Cell::new(BYTES_PER_THREAD)) }
    }
}

/// The datagrams of one association, in order. Dropped, it gives its room back.
#[derive(Debug)]
pub(crate) struct Waiting {
    room: Room,
    bytes: Cell<usize>,
    datagrams: RefCell<Vec<Vec<u8>>>,
}

impl Waiting {
    /// None yet.
    pub(crate) fn new(room: &Room) -> Self {
        Self { room: room.clone(), bytes: Cell::new(0), datagrams: RefCell::default() }
    }

    /// Keeps a copy of a datagram; `false`: there is no room for it.
    pub(crate) fn keep(&self, payload: &[u8]) -> bool {
        let mut datagrams = self.datagrams.borrow_mut();
        // An empty datagram takes memory, too.
        let cost = payload.len() + size_of::<Vec<u8>>();
        let bytes = self.bytes.get() + cost;
        let left = self.room.left.get();
        if datagrams.len() == DATAGRAMS || bytes > BYTES || cost > left {
            return false;
        }
        datagrams.push(payload.to_vec());
        self.bytes.set(bytes);
        self.room.left.set(left - cost);
        true
    }

    /// Those kept so far; their room is free again.
    pub(crate) fn take(&self) -> Vec<Vec<u8>> {
        let room = &self.room.left;
        room.set(room.get() + self.bytes.take());
        self.datagrams.take()
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static LARGE: [u8; 60_000] = [0; 60_000];

    #[test]
    fn one_association_keeps_a_handful_in_order() {
        let waiting = Waiting::new(&Room::default());
        let kept = (0..100).filter(|&number| waiting.keep(&[number])).count();
        assert_eq!(kept, DATAGRAMS);
        assert_eq!(waiting.take()[..3], [[0], [1], [2]]);
        assert_eq!((0..100).filter(|_| waiting.keep(&LARGE)).count(), 4);
    }

    #[test]
    fn all_associations_of_a_thread_share_its_room_and_give_it_back() {
        let room = Room::default();
        let mut crowd: Vec<_> = (0..16_384).map(|_| Waiting::new(&room)).collect();
        let fill = |crowd: &[Waiting]| {
            let each = |waiting: &Waiting| (0..64).filter(|_| waiting.keep(&LARGE)).count();
            crowd.iter().map(each).sum::<usize>()
        };
        let kept = fill(&crowd);
        assert_eq!(kept, BYTES_PER_THREAD / (LARGE.len() + size_of::<Vec<u8>>()));
        assert_eq!(fill(&crowd), 0, "another thread's worth is not there");

        // One resolved, one ended.
        assert_eq!(crowd[0].take().len(), 4);
        drop(crowd.remove(1));
        assert_eq!(fill(&crowd), 8);
        drop(crowd);
        assert_eq!(room.left.get(), BYTES_PER_THREAD);
    }
}
