//! The two directions of a session, always as a pair.

use std::ops::{Add, AddAssign, Index, IndexMut};

/// Which way payload travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Client to target.
    Up,
    /// Target to client.
    Down,
}

impl Direction {
    /// Both, up first.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// The other one.
    pub const fn opposite(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }

    /// `up` or `down`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// One value per direction, so that the two can never be swapped in silence.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct PerDirection<T> {
    /// Client to target.
    pub up: T,
    /// Target to client.
    pub down: T,
}

impl<T> PerDirection<T> {
    /// A pair made by asking for each direction.
    pub fn from_fn(mut value: impl FnMut(Direction) -> T) -> Self {
        Self { up: value(Direction::Up), down: value(Direction::Down) }
    }

    /// The pair of what `f` makes of each value.
    pub fn map<U>(self, mut f: impl FnMut(T) -> U) -> PerDirection<U> {
        PerDirection { up: f(self.up), down: f(self.down) }
    }
}

impl<T: Copy + Add<Output = T>> PerDirection<T> {
    /// Both directions together.
    pub fn sum(self) -> T {
        self.up + self.down
    }
}

impl<T> Index<Direction> for PerDirection<T> {
    type Output = T;

    fn index(&self, direction: Direction) -> &T {
        match direction {
            Direction::Up => &self.up,
            Direction::Down => &self.down,
        }
    }
}

impl<T> IndexMut<Direction> for PerDirection<T> {
    fn index_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Up => &mut self.up,
            Direction::Down => &mut self.down,
        }
    }
}

impl<T: AddAssign> AddAssign for PerDirection<T> {
    fn add_assign(&mut self, other: Self) {
        self.up += other.up;
        self.down += other.down;
    }
}
