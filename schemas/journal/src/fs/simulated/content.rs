//! What a file holds: for whoever reads it, and on the platter.

use super::After;

/// The unit that a disk writes whole or not at all.
const SECTOR: usize = 512;

/// One file.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// As it is read.
    cached: Vec<u8>,
    /// As a power loss leaves it at worst.
    durable: Vec<u8>,
    /// What leads from the one to the other, oldest first.
    unsynced: Vec<Change>,
    /// Room that is reserved, in bytes from the start.
    allocated: usize,
    /// Descriptors.
    pub(super) opened: usize,
}

#[derive(Debug, Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => overwrite(to, *offset, bytes),
            Self::SetLen(len) => to.resize(*len, 0),
        }
    }

    /// Leaves what a power loss may: nothing, all, or a part.
    fn apply_by_chance(&self, to: &mut Vec<u8>, chance: &mut Chance) {
        match (chance.below(4), self) {
            (0, _) => {}
            (1, _) | (_, Self::SetLen(_)) => self.apply(to),
            (2, Self::Write { offset, bytes }) => {
                let cut = chance.below(bytes.len() + 1);
                overwrite(to, *offset, &bytes[..cut]);
            }
            // Some sectors of it; the length grew before the bytes came.
            (_, Self::Write { offset, bytes }) => {
                let end = offset + bytes.len();
                to.resize(to.len().max(end), 0);
                let mut at = *offset;
                while at < end {
                    let next = ((at / SECTOR + 1) * SECTOR).min(end);
                    if chance.below(2) == 0 {
                        overwrite(to, at, &bytes[at - offset..next - offset]);
                    }
                    at = next;
                }
            }
        }
    }
}

fn overwrite(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    let end = offset + bytes.len();
    to.resize(to.len().max(end), 0);
    to[offset..end].copy_from_slice(bytes);
}

impl Content {
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { durable: bytes.clone(), cached: bytes, ..Self::default() }
    }

    pub(super) fn cached(&self) -> &[u8] {
        &self.cached
    }

    /// Bytes of the disk that it takes.
    pub(super) fn room(&self) -> usize {
        self.allocated.max(self.cached.len())
    }

    pub(super) fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let there = self.cached.get(offset..).unwrap_or_default();
        let read = there.len().min(buffer.len());
        buffer[..read].copy_from_slice(&there[..read]);
        read
    }

    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.change(Change::Write { offset, bytes: bytes.to_vec() });
    }

    pub(super) fn set_len(&mut self, len: usize) {
        if len < self.cached.len() || len < self.allocated {
            self.allocated = self.allocated.min(len);
        }
        self.change(Change::SetLen(len));
    }

    pub(super) fn allocate(&mut self, len: usize) {
        self.allocated = self.allocated.max(len);
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.cached);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that fails: what it was for will never be durable.
    pub(super) fn lose_unsynced(&mut self, evict: bool) {
        self.unsynced.clear();
        if evict {
            let len = self.cached.len();
            self.cached.clone_from(&self.durable);
            self.cached.resize(len, 0);
        }
    }

    pub(super) fn survivor(&self, after: After) -> Self {
        let mut survivor = self.clone();
        survivor.opened = 0;
        let After::PowerLoss { seed } = after else { return survivor };
        let mut chance = Chance::new(seed);
        let mut durable = std::mem::take(&mut survivor.durable);
        for change in &self.unsynced {
            match seed {
                0 => {}
                1 => change.apply(&mut durable),
                _ => change.apply_by_chance(&mut durable, &mut chance),
            }
        }
        Self { allocated: self.allocated, ..Self::of(durable) }
    }
}

/// Numbers that look like chance and follow from a seed (splitmix64).
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let bound = u64::try_from(bound).unwrap_or(u64::MAX);
        usize::try_from(mixed % bound).unwrap_or_default()
    }
}
