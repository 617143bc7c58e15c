//! Clients that are new, and the order in which they are let in.
//!
//! To begin an association takes many times what it takes to relay a datagram. A storm from new
//! addresses would hold up everyone who has one already, if each newcomer were let in as it comes: so
//! a few are between two batches, and the others wait in line with what they sent.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use super::udp::Key;

/// Clients that are let in between two batches.
const PER_TURN: usize = 4;

/// Clients that are looked at between two batches: to refuse one costs little.
const LOOKED_AT_PER_TURN: usize = 64;

/// Clients in line: as many as a thread keeps. What comes from more is dropped.
const IN_LINE: usize = 16_384;

/// The line of one listener's newcomers.
#[derive(Debug, Default)]
pub(crate) struct Newcomers {
    line: RefCell<VecDeque<Key>>,
    let_in: Cell<usize>,
    looked_at: Cell<usize>,
}

impl Newcomers {
    /// Begins a turn.
    pub(crate) fn begin_turn(&self) {
        self.let_in.set(0);
        self.looked_at.set(0);
    }

    /// Whether a client that has just come need not get in line.
    pub(crate) fn may_enter(&self) -> bool {
        self.is_empty() && self.may_look()
    }

    /// Gets in line. `false`: it is too long.
    pub(crate) fn join(&self, key: Key) -> bool {
        let mut line = self.line.borrow_mut();
        let room = line.len() < IN_LINE;
        if room {
            line.push_back(key);
        }
        room
    }

    /// The next in line, while this turn lasts.
    pub(crate) fn next(&self) -> Option<Key> {
        if self.may_look() { self.any() } else { None }
    }

    /// The next in line.
    pub(crate) fn any(&self) -> Option<Key> {
        self.line.borrow_mut().pop_front()
    }

    /// A client was looked at, and let in or not.
    pub(crate) fn looked_at(&self, let_in: bool) {
        self.looked_at.set(self.looked_at.get() + 1);
        self.let_in.set(self.let_in.get() + usize::from(let_in));
    }

    /// Whether nobody is in line.
    pub(crate) fn is_empty(&self) -> bool {
        self.line.borrow().is_empty()
    }

    fn may_look(&self) -> bool {
        self.let_in.get() < PER_TURN && self.looked_at.get() < LOOKED_AT_PER_TURN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: usize) -> Key {
        let port = u16::try_from(port).unwrap();
        Key { peer: ([127, 0, 0, 1], port).into(), local: None }
    }

    #[test]
    fn a_few_are_let_in_per_turn_and_the_refused_do_not_count() {
        let newcomers = Newcomers::default();
        for port in 0..100 {
            assert!(newcomers.join(key(port)));
        }
        assert!(!newcomers.may_enter(), "whoever comes now is behind the others");
        for turn in 0..2 {
            newcomers.begin_turn();
            for place in 0..PER_TURN * 2 {
                assert_eq!(newcomers.next(), Some(key(turn * PER_TURN * 2 + place)));
                newcomers.looked_at(place % 2 == 1);
            }
            assert_eq!(newcomers.next(), None);
        }
        newcomers.begin_turn();
        let looked =
            std::iter::from_fn(|| newcomers.next().inspect(|_| newcomers.looked_at(false)));
        assert_eq!(looked.count(), LOOKED_AT_PER_TURN);
        while newcomers.any().is_some() {}
        newcomers.begin_turn();
        assert!(newcomers.may_enter());
    }

    #[test]
    fn the_line_is_bounded() {
        let newcomers = Newcomers::default();
        assert_eq!((0..IN_LINE + 10).filter(|&port| newcomers.join(key(port))).count(), IN_LINE);
    }
}
