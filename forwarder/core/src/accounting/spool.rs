//! Where frames go, as the ledger sees it.

use schemas::wire::{BootEnd, EncodedRows};

/// How full a spool is, as far as the account goes by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpoolLevel {
    /// There is room for every row.
    Normal,
    /// From 80 % of its bound on: what room there is belongs to ends. No interim rows are made; the
    /// next row of a session covers the time.
    NoInterims,
    /// It takes no frames.
    Full,
}

/// Where frames go.
pub trait Spool {
    /// Why a frame could not be appended.
    type Error;

    /// Appends the frame, whole or not at all. `next_seq` is the row number after the frame's.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append(&mut self, rows: EncodedRows, next_seq: i64) -> Result<(), Self::Error>;

    /// Appends the end of a boot.
    ///
    /// # Errors
    /// Nothing was appended.
    fn append_boot_end(&mut self, end: &BootEnd) -> Result<(), Self::Error>;

    /// How full it is now. One without a bound is never more than [`SpoolLevel::Normal`].
    fn level(&self) -> SpoolLevel {
        SpoolLevel::Normal
    }
}
