//! Where everything lies in a counter table, in words of 8 bytes, native endian: a table is read
//! only on the machine, and under the kernel boot, that wrote it.
//!
//! ```text
//! header      512 words   identity of the boot, next session number, last poll, running tally
//! states      1 word per slot: 0 free, 1 filling, 2 open, 3 closed
//! names       NAME_AREA_WORDS: word 0 is unused; then [length in bytes][bytes …] per name
//! slots       SLOT_WORDS per slot
//! ```
//! The states lie apart from the slots so that the journal thread's look for ended sessions reads
//! 64 of them per 512 bytes instead of one.

use std::sync::atomic::{AtomicU64, Ordering};

use schemas::vocab::{BootId, SpoolId, Timestamp};

/// Longest node name, in bytes.
pub const MAX_NODE_BYTES: usize = 64;
/// Longest spool path that fits the header, in bytes.
pub const MAX_SPOOL_PATH_BYTES: usize = 1024;

const MAGIC: u64 = u64::from_le_bytes(*b"weirtab1");
const HEADER_WORDS: usize = 512;
const NAME_AREA_WORDS: usize = 1 << 15;
pub(super) const SLOT_WORDS: usize = 64;

/// Words of the header.
pub(super) mod header {
    use super::{MAX_NODE_BYTES, MAX_SPOOL_PATH_BYTES};

    pub(super) const MAGIC: usize = 0;
    pub(super) const SLOT_COUNT: usize = 1;
    pub(super) const SPOOL_ID: usize = 2;
    pub(super) const KERNEL_BOOT: usize = 3; // two words
    pub(super) const BOOT: usize = 5;
    pub(super) const STARTED: usize = 6;
    pub(super) const SLOT_LEN_S: usize = 7;
    pub(in super::super) const NEXT_SESSION_NO: usize = 8;
    pub(in super::super) const LAST_POLL: usize = 9;
    pub(in super::super) const NAMES_USED: usize = 10;
    /// The spool's last durable frame, as the journal thread knows it.
    pub(in super::super) const DURABLE_FRAME: usize = 11;
    /// Up to when an earlier boot tells what moved; 0: not known.
    pub(in super::super) const DOWN_SINCE: usize = 12;
    /// The last row of the last frame that ended a session or a slot.
    pub(in super::super) const TOLD_THROUGH: usize = 13;
    /// Two tally entries of six words, see [`super::super::frame`].
    pub(in super::super) const TALLIES: [usize; 2] = [16, 22];
    /// A seventh word of each: the clock's pass, and in the lowest bit whether the slot sheds.
    pub(in super::super) const TALLY_PASSES: [usize; 2] = [28, 29];
    pub(super) const NODE: usize = 32;
    pub(super) const SPOOL_PATH: usize = NODE + 1 + MAX_NODE_BYTES / 8;
    const _: () = assert!(SPOOL_PATH + 1 + MAX_SPOOL_PATH_BYTES / 8 <= super::HEADER_WORDS);
}

/// Words of a slot.
pub(super) mod slot {
    pub(in super::super) const SESSION_NO: usize = 0;
    /// Service id, rule id.
    pub(in super::super) const SERVICE_RULE: usize = 1;
    /// Customer id, configuration id.
    pub(in super::super) const CUSTOMER_CONFIG: usize = 2;
    /// Transport code and flags, target name id.
    pub(in super::super) const KIND_TARGET_NAME: usize = 3;
    /// Client, listen, egress, target: 16 bits each.
    pub(in super::super) const PORTS: usize = 4;
    /// Four addresses of two words each, as IPv6.
    pub(in super::super) const CLIENT_IP: usize = 5;
    pub(in super::super) const LISTEN_IP: usize = 7;
    pub(in super::super) const EGRESS_IP: usize = 9;
    pub(in super::super) const TARGET_IP: usize = 11;
    pub(in super::super) const TS_START: usize = 13;
    pub(in super::super) const TS_CONNECTED: usize = 14;
    pub(in super::super) const CONNECT_US: usize = 15;
    // The words that a running session stores share one cache line.
    pub(in super::super) const RECEIVED_UP: usize = 16;
    pub(in super::super) const BYTES_UP: usize = 17;
    pub(in super::super) const DATAGRAMS_UP: usize = 18;
    pub(in super::super) const RECEIVED_DOWN: usize = 19;
    pub(in super::super) const BYTES_DOWN: usize = 20;
    pub(in super::super) const DATAGRAMS_DOWN: usize = 21;
    pub(in super::super) const CAPTURED: usize = 22;
    pub(in super::super) const CAPTURE_DROPPED: usize = 23;
    pub(in super::super) const TS_FIRST_UP: usize = 24;
    pub(in super::super) const TS_FIRST_DOWN: usize = 25;
    /// Reason, phase, first FIN, client close, target close: one byte each; errno above them.
    pub(in super::super) const END: usize = 26;
    pub(in super::super) const TS_END: usize = 27;
    pub(in super::super) const DURATION_US: usize = 28;
    /// Round trip, retransmits: 32 bits each.
    pub(in super::super) const CLIENT_PEER: usize = 29;
    pub(in super::super) const TARGET_PEER: usize = 30;
    /// Unacknowledged up, down: 32 bits each; the kernel's send buffers are smaller.
    pub(in super::super) const UNACKED: usize = 31;
    // The journal thread's own.
    /// Two entries of six words: seq, interval_seq, total_up, total_down, datagrams_up, datagrams_down.
    pub(in super::super) const ENTRIES: [usize; 2] = [32, 38];
    pub(in super::super) const END_SEQ: usize = 44;
    /// Whether any usage row was spread over several slots.
    pub(in super::super) const SPREAD: usize = 45;
    // Written once, when the session begins.
    pub(in super::super) const PROXIED_CLIENT_IP: usize = 46; // two words
    pub(in super::super) const PROXIED_CLIENT_PORT: usize = 48;
    // The journal thread's own.
    /// One more than the number of the last usage row when the next one was left out.
    pub(in super::super) const OWES: usize = 49;
    /// How far the wall clock stepped while the session ran, in microseconds.
    pub(in super::super) const CLOCK_STEPS: usize = 50;
    // Of a slot that sessions share.
    /// How many of them run; [`SHUT`]: none will join them any more.
    pub(in super::super) const RUNNING: usize = 51;
    /// How many there were.
    pub(in super::super) const JOINED: usize = 52;
    pub(in super::super) const SHUT: u64 = u64::MAX;
}

/// States of a slot.
pub(super) mod state {
    pub(in super::super) const FREE: u64 = 0;
    pub(in super::super) const FILLING: u64 = 1;
    pub(in super::super) const OPEN: u64 = 2;
    pub(in super::super) const CLOSED: u64 = 3;
}

/// How large a table is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Sessions at once.
    pub slots: usize,
}

impl Geometry {
    /// Words of 8 bytes that the table needs.
    pub const fn words(self) -> usize {
        HEADER_WORDS + self.slots + NAME_AREA_WORDS + self.slots * SLOT_WORDS
    }
}

/// What a table says about the boot that owns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The forwarder.
    pub node: String,
    /// Its run.
    pub boot: BootId,
    /// When that run began; tables are recovered in this order.
    pub started: Timestamp,
    /// Length of its slots, in seconds.
    pub slot_len_s: i32,
    /// The spool its rows go to.
    pub spool_id: SpoolId,
    /// Where that spool lies.
    pub spool_path: String,
    /// The kernel's own boot id: a table of another one has lost what was not written back.
    pub kernel_boot: u128,
}

/// Why memory is not a counter table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// It does not begin like one, or its creation was cut short.
    #[error("not a counter table of this version")]
    Format,
    /// The spool ends before a frame that was durable: it was put back to an earlier state.
    #[error("the spool ends with frame {found}, but frame {known} was durable")]
    RolledBack {
        /// The last frame that the boot made durable.
        known: u64,
        /// The spool's last frame.
        found: u64,
    },
    /// Its size does not fit what it says.
    #[error("the counter table should have {expected} bytes and has {found}")]
    Size {
        /// Bytes it should have.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
    /// The spool has lost a frame that ended a session or a slot, or two frames of what the table
    /// keeps two notes of: what it lost cannot be told again.
    #[error("the counter table knows of rows that the spool has lost")]
    Ahead,
    /// A name or path in the header is too long to be kept.
    #[error("{what} of {len} bytes is too long for the counter table: at most {limit}")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit in bytes.
        limit: usize,
    },
}

/// A counter table as words. Every accessor is one atomic operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    words: &'a [AtomicU64],
    slots: usize,
}

impl<'a> Words<'a> {
    /// Makes zeroed memory a table; the magic is stored last, so a table cut short is none.
    pub(super) fn create(
        words: &'a [AtomicU64],
        geometry: Geometry,
        header: &Header,
    ) -> Result<Self, TableError> {
        let table = Self { words, slots: geometry.slots };
        table.check_size()?;
        table.set_header(header::SLOT_COUNT, geometry.slots as u64);
        table.set_header(header::SPOOL_ID, header.spool_id.0);
        let [low, high] = halves(header.kernel_boot);
        table.set_header(header::KERNEL_BOOT, low);
        table.set_header(header::KERNEL_BOOT + 1, high);
        table.set_header(header::BOOT, header.boot.to_word());
        table.set_header(header::STARTED, header.started.0.cast_unsigned());
        table.set_header(header::LAST_POLL, header.started.0.cast_unsigned());
        table.set_header(header::SLOT_LEN_S, u64::from(header.slot_len_s.cast_unsigned()));
        table.set_header(header::NEXT_SESSION_NO, 1);
        table.set_header(header::NAMES_USED, 1);
        table.set_text(header::NODE, "the node's name", &header.node, MAX_NODE_BYTES)?;
        table.set_text(
            header::SPOOL_PATH,
            "the spool's path",
            &header.spool_path,
            MAX_SPOOL_PATH_BYTES,
        )?;
        words[header::MAGIC].store(MAGIC, Ordering::Release);
        Ok(table)
    }

    /// Takes memory for the table it says it is.
    pub(super) fn open(words: &'a [AtomicU64]) -> Result<Self, TableError> {
        let magic = words.get(header::MAGIC).map(|w| w.load(Ordering::Acquire));
        if magic != Some(MAGIC) || words.len() < HEADER_WORDS {
            return Err(TableError::Format);
        }
        let slots = words[header::SLOT_COUNT].load(Ordering::Relaxed);
        let slots = usize::try_from(slots).map_err(|_| TableError::Format)?;
        if slots > words.len() {
            return Err(TableError::Format);
        }
        let table = Self { words, slots };
        table.check_size()?;
        Ok(table)
    }

    fn check_size(&self) -> Result<(), TableError> {
        let expected = Geometry { slots: self.slots }.words() * 8;
        let found = self.words.len() * 8;
        if found < expected { Err(TableError::Size { expected, found }) } else { Ok(()) }
    }

    pub(super) fn read_header(&self) -> Result<Header, TableError> {
        Ok(Header {
            node: self.text(header::NODE, MAX_NODE_BYTES),
            boot: BootId::from_word(self.header(header::BOOT)).ok_or(TableError::Format)?,
            started: Timestamp(self.header(header::STARTED).cast_signed()),
            slot_len_s: i32::try_from(self.header(header::SLOT_LEN_S))
                .ok()
                .filter(|len| *len > 0)
                .ok_or(TableError::Format)?,
            spool_id: SpoolId(self.header(header::SPOOL_ID)),
            spool_path: self.text(header::SPOOL_PATH, MAX_SPOOL_PATH_BYTES),
            kernel_boot: u128::from(self.header(header::KERNEL_BOOT))
                | u128::from(self.header(header::KERNEL_BOOT + 1)) << 64,
        })
    }

    pub(super) const fn slot_count(&self) -> usize {
        self.slots
    }

    /// All of it, as another process would map it.
    #[cfg(test)]
    pub(super) const fn all(&self) -> &'a [AtomicU64] {
        self.words
    }

    pub(super) fn header(&self, at: usize) -> u64 {
        self.words[at].load(Ordering::Relaxed)
    }

    pub(super) fn set_header(&self, at: usize, value: u64) {
        self.words[at].store(value, Ordering::Relaxed);
    }

    pub(super) fn set_spool_id(&self, id: SpoolId) {
        self.set_header(header::SPOOL_ID, id.0);
    }

    /// Hands out the next session number.
    pub(super) fn take_session_no(&self) -> u64 {
        self.words[header::NEXT_SESSION_NO].fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn state(&self, slot: usize) -> &'a AtomicU64 {
        &self.words[HEADER_WORDS + slot]
    }

    pub(super) fn names(&self) -> &'a [AtomicU64] {
        let at = HEADER_WORDS + self.slots;
        &self.words[at..at + NAME_AREA_WORDS]
    }

    pub(super) fn slot(&self, slot: usize) -> &'a [AtomicU64; SLOT_WORDS] {
        let at = HEADER_WORDS + self.slots + NAME_AREA_WORDS + slot * SLOT_WORDS;
        self.words[at..].first_chunk().expect("check_size made sure of every slot")
    }

    fn set_text(
        &self,
        at: usize,
        what: &'static str,
        text: &str,
        limit: usize,
    ) -> Result<(), TableError> {
        if text.len() > limit {
            return Err(TableError::TooLong { what, len: text.len(), limit });
        }
        self.set_header(at, text.len() as u64);
        store_bytes(&self.words[at + 1..], text.as_bytes());
        Ok(())
    }

    fn text(&self, at: usize, limit: usize) -> String {
        let len = usize::try_from(self.header(at)).unwrap_or(usize::MAX).min(limit);
        load_text(&self.words[at + 1..], len)
    }
}

/// The two words of a 128-bit number, low first.
pub(super) fn halves(number: u128) -> [u64; 2] {
    let bytes = number.to_le_bytes();
    let (low, high) = bytes.split_at(8);
    [low, high].map(|half| u64::from_le_bytes(half.try_into().expect("half of 16 bytes is 8")))
}

/// Stores bytes into words, the last one padded with zeros.
pub(super) fn store_bytes(words: &[AtomicU64], bytes: &[u8]) {
    for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
        let mut padded = [0; 8];
        padded[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
    }
}

/// Reads `len` bytes of text back; what is not UTF-8 is replaced.
pub(super) fn load_text(words: &[AtomicU64], len: usize) -> String {
    let mut bytes: Vec<u8> = words[..len.div_ceil(8).min(words.len())]
        .iter()
        .flat_map(|word| word.load(Ordering::Relaxed).to_le_bytes())
        .collect();
    bytes.truncate(len);
    String::from_utf8_lossy(&bytes).into_owned()
}
