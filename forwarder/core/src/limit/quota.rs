//! Payload in a calendar day or month.
//!
//! What a sharer has used is kept in a cell of a few words, which the shell maps from a file that
//! outlives the process. A cell holds two periods, so that the old one is still there while a clock
//! is not sure which one it is: a clock that steps forward over a border and back again finds what
//! was used before, and one that steps back further goes on with the oldest period that is known.
//! So no step of a clock makes anything unused, with one exception: what was used in the oldest of
//! three periods is forgotten. A clock that is in November, then in January, then in December, and
//! then in November again finds what was used in December, and November counts together with it.
//!
//! ```text
//! word  0, 1  identity of the sharer and its quota
//!       2, 5  first day of a period, as 20261101; 0: none
//!       3, 6  used up, in bytes
//!       4, 7  used down, in bytes
//! ```

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};

use schemas::vocab::{Direction, PerDirection};
use sha2::{Digest, Sha256};

use crate::config::{Every, Quota};

/// Words of a cell.
pub const CELL_WORDS: usize = 8;

/// Where the two periods are.
const PERIODS: [usize; 2] = [2, 5];

/// Whose quota it is and which, in 128 bits. It does not depend on how much may be used, nor on the
/// zone, so that a changed quota goes on with what was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u64; 2]);

impl Identity {
    /// That of the sharer `key` of the limit `per` of a rule.
    pub fn of(rule: &str, per: &str, every: Every, key: &str) -> Self {
        let digest = Sha256::digest(format!("{rule}\0{per}\0{every}\0{key}"));
        let half = |at: usize| {
            let bytes = digest[at..at + 8].try_into();
            u64::from_le_bytes(bytes.expect("a SHA-256 digest has 32 bytes"))
        };
        // Zero stands for an empty cell.
        Self([half(0).max(1), half(8)])
    }
}

/// What one sharer has used of one quota.
#[derive(Debug)]
pub struct QuotaCell<'a> {
    words: &'a [AtomicU64; CELL_WORDS],
    /// Held while a period gives way to another.
    turning: Mutex<()>,
}

impl<'a> QuotaCell<'a> {
    /// The cell in these words.
    pub fn at(words: &'a [AtomicU64; CELL_WORDS]) -> Self {
        Self { words, turning: Mutex::new(()) }
    }

    /// The words it is kept in.
    pub fn words(&self) -> &'a [AtomicU64; CELL_WORDS] {
        self.words
    }

    /// Whose it is; `None`: it is empty.
    pub fn identity(&self) -> Option<Identity> {
        let first = self.load(0);
        (first != 0).then(|| Identity([first, self.load(1)]))
    }

    /// Makes it somebody's who has used nothing.
    pub fn claim(&self, identity: Identity) {
        self.clear();
        let Identity([first, second]) = identity;
        self.words[1].store(second, Ordering::Relaxed);
        self.words[0].store(first, Ordering::Release);
    }

    /// Makes it empty.
    pub fn clear(&self) {
        self.words.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The newest period that something was used in, by its label; 0: nothing was.
    pub fn newest(&self) -> u64 {
        PERIODS.map(|at| self.load(at)).into_iter().max().unwrap_or(0)
    }

    /// What was used in the period with this label.
    pub fn used(&self, label: u32) -> PerDirection<u64> {
        let at = self.find(label);
        at.map_or(PerDirection { up: 0, down: 0 }, |at| self.used_at(at))
    }

    /// So many bytes are used in the period with this label.
    pub fn charge(&self, label: u32, direction: Direction, bytes: u64) {
        let at = self.find(label).unwrap_or_else(|| self.begin(label));
        let word = match direction {
            Direction::Up => at + 1,
            Direction::Down => at + 2,
        };
        self.words[word].fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes over what a copy of the same cell knows: of each period, whichever is more.
    pub fn merge(&self, copy: &QuotaCell<'_>) {
        for from in PERIODS {
            let label = u32::try_from(copy.load(from)).unwrap_or(0);
            let forgotten = label < u32::try_from(self.load(self.oldest())).unwrap_or(0);
            if label == 0 || forgotten && self.find_exactly(label).is_none() {
                continue;
            }
            let at = self.find_exactly(label).unwrap_or_else(|| self.begin(label));
            for word in 1..=2 {
                self.words[at + word].fetch_max(copy.load(from + word), Ordering::Relaxed);
            }
        }
    }

    /// The cell as plain numbers.
    pub fn copy(&self) -> [u64; CELL_WORDS] {
        let _still = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        std::array::from_fn(|word| self.load(word))
    }

    fn load(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    fn used_at(&self, at: usize) -> PerDirection<u64> {
        PerDirection { up: self.load(at + 1), down: self.load(at + 2) }
    }

    /// Where the period is; one that is before all that are known is counted with the oldest.
    fn find(&self, label: u32) -> Option<usize> {
        let before_all = PERIODS.iter().all(|&at| self.load(at) > u64::from(label));
        self.find_exactly(label).or_else(|| before_all.then(|| self.oldest()))
    }

    fn find_exactly(&self, label: u32) -> Option<usize> {
        PERIODS.into_iter().find(|&at| self.load(at) == u64::from(label))
    }

    fn oldest(&self) -> usize {
        let [first, second] = PERIODS;
        if self.load(first) <= self.load(second) { first } else { second }
    }

    /// Gives the room of the oldest period to a new one. A kill at any point leaves a period without
    /// a label, or a new one in which nothing was used yet.
    fn begin(&self, label: u32) -> usize {
        let _turning = self.turning.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = self.find_exactly(label) {
            return at;
        }
        let at = self.oldest();
        self.words[at].store(0, Ordering::Release);
        self.words[at + 1].store(0, Ordering::Release);
        self.words[at + 2].store(0, Ordering::Release);
        self.words[at].store(label.into(), Ordering::Release);
        at
    }
}

/// What may still be sent in a direction, in bytes, when so much is used.
pub fn left(quota: &Quota, used: PerDirection<u64>, direction: Direction) -> u64 {
    let own = match direction {
        Direction::Up => quota.up_bytes,
        Direction::Down => quota.down_bytes,
    };
    let both = quota.both_bytes.map(|most| most.saturating_sub(used.up.saturating_add(used.down)));
    let own = own.map(|most| most.saturating_sub(used[direction]));
    own.into_iter().chain(both).min().unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOVEMBER: u32 = 20_261_101;
    const DECEMBER: u32 = 20_261_201;
    const JANUARY: u32 = 20_270_101;

    fn words() -> [AtomicU64; CELL_WORDS] {
        std::array::from_fn(|_| AtomicU64::new(0))
    }

    fn up(cell: &QuotaCell<'_>, label: u32) -> u64 {
        cell.used(label).up
    }

    #[test]
    fn a_new_period_begins_with_nothing_used() {
        let words = words();
        let cell = QuotaCell::at(&words);
        cell.charge(NOVEMBER, Direction::Up, 5);
        cell.charge(NOVEMBER, Direction::Down, 7);
        assert_eq!(cell.used(NOVEMBER), PerDirection { up: 5, down: 7 });
        assert_eq!(cell.used(DECEMBER), PerDirection { up: 0, down: 0 });
        cell.charge(DECEMBER, Direction::Up, 1);
        cell.charge(JANUARY, Direction::Up, 2);
        assert_eq!((up(&cell, DECEMBER), up(&cell, JANUARY)), (1, 2));
        assert_eq!(cell.newest(), u64::from(JANUARY));
    }

    #[test]
    fn no_step_of_a_clock_between_two_periods_makes_anything_unused() {
        let words = words();
        let cell = QuotaCell::at(&words);
        cell.charge(NOVEMBER, Direction::Up, 5);
        cell.charge(JANUARY, Direction::Up, 1);
        assert_eq!(up(&cell, NOVEMBER), 5, "forward and back");
        cell.charge(20_260_101, Direction::Up, 1);
        assert_eq!(up(&cell, NOVEMBER), 6, "further back: the oldest one goes on");
        assert_eq!(up(&cell, 20_260_101), 6);
    }

    #[test]
    fn of_three_periods_the_oldest_counts_together_with_the_next() {
        let words = words();
        let cell = QuotaCell::at(&words);
        cell.charge(NOVEMBER, Direction::Up, 5);
        cell.charge(JANUARY, Direction::Up, 1);
        cell.charge(DECEMBER, Direction::Up, 2);
        assert_eq!(up(&cell, NOVEMBER), 2, "what was used in November is forgotten");
        cell.charge(NOVEMBER, Direction::Up, 4);
        assert_eq!((up(&cell, DECEMBER), up(&cell, JANUARY)), (6, 1));
    }

    #[test]
    fn copies_are_merged_to_what_either_knows() {
        let (one, other) = (words(), words());
        let (one, other) = (QuotaCell::at(&one), QuotaCell::at(&other));
        one.charge(NOVEMBER, Direction::Up, 5);
        other.charge(NOVEMBER, Direction::Up, 3);
        other.charge(NOVEMBER, Direction::Down, 9);
        other.charge(DECEMBER, Direction::Down, 1);
        one.merge(&other);
        assert_eq!(one.used(NOVEMBER), PerDirection { up: 5, down: 9 });
        assert_eq!(one.used(DECEMBER), PerDirection { up: 0, down: 1 });
        let again = one.copy();
        one.merge(&other);
        assert_eq!(one.copy(), again);
        let (late, copy) = (words(), words());
        let (late, copy) = (QuotaCell::at(&late), QuotaCell::at(&copy));
        late.charge(DECEMBER, Direction::Up, 1);
        late.charge(JANUARY, Direction::Up, 1);
        copy.charge(NOVEMBER, Direction::Up, 7);
        late.merge(&copy);
        assert_eq!((up(&late, DECEMBER), up(&late, JANUARY)), (1, 1), "what is over stays over");
    }

    #[test]
    fn what_is_left_is_the_least_of_what_applies() {
        let quota = |up_bytes, down_bytes, both_bytes| Quota {
            up_bytes,
            down_bytes,
            both_bytes,
            every: Every::Day,
            tz: String::new(),
        };
        let used = PerDirection { up: 30, down: 50 };
        assert_eq!(left(&quota(Some(100), None, Some(90)), used, Direction::Up), 10);
        assert_eq!(left(&quota(Some(35), None, Some(90)), used, Direction::Up), 5);
        assert_eq!(left(&quota(Some(35), None, None), used, Direction::Down), u64::MAX);
        assert_eq!(left(&quota(None, Some(50), None), used, Direction::Down), 0);
        assert_eq!(left(&quota(None, Some(9), None), used, Direction::Down), 0);
    }

    #[test]
    fn identities_differ_in_every_part() {
        let of = Identity::of;
        let all = [
            of("r", "client", Every::Day, "k"),
            of("q", "client", Every::Day, "k"),
            of("r", "customer", Every::Day, "k"),
            of("r", "client", Every::Month, "k"),
            of("r", "client", Every::Day, "l"),
        ];
        for (index, one) in all.iter().enumerate() {
            assert!(all[index + 1..].iter().all(|other| other != one));
        }
        assert_eq!(all[0], of("r", "client", Every::Day, "k"));
    }

    #[test]
    fn threads_charge_every_byte_while_a_period_begins() {
        let words = words();
        let cell = QuotaCell::at(&words);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    (0..10_000).for_each(|_| cell.charge(NOVEMBER, Direction::Down, 3));
                });
            }
        });
        assert_eq!(cell.used(NOVEMBER).down, 240_000);
    }
}
