//! `slots`: one row per node and slot, the proof that it was measured.

use super::column::table;

table! {
    /// One row per node and slot: it was measured, skipped, or nothing ran. No row at all means
    /// unknown. Coverage in every report is computed from this table.
    Slot "slots" by slot_start {
        /// The forwarder.
        1 node: Word,
        /// The run of that forwarder.
        2 boot: Word,
        /// Number of the row among all rows of the boot, without gap. NULL: written by the recorder.
        3 seq: OptInt64,
        /// Start of the slot, aligned to UTC.
        4 slot_start: Time,
        /// Length of the slot; a `DOWN` row may span many.
        5 slot_len_s: Int32 ["s"],
        /// 0, and one more after each step of the wall clock backwards.
        6 clock_pass: Int32,
        /// `OK`, `NODATA` (measured, nothing moved), `SKIPDATA` (something was shed), `DOWN` (nothing ran).
        7 status: Word,
        /// Sessions open at the end of the slot.
        8 open_sessions: Int64 ["sessions"],
        /// Rows of `usage` this boot wrote for the slot.
        9 usage_rows: Int64 ["rows"],
        /// Sum of their `bytes_up`.
        10 bytes_up: Int64 ["bytes"],
        /// Sum of their `bytes_down`.
        11 bytes_down: Int64 ["bytes"],
        /// `seq` of the first row of any table written for the slot. NULL: there was none.
        12 first_seq: OptInt64,
        /// `seq` of the last row of any table written for the slot. NULL: there was none.
        13 last_seq: OptInt64,
        /// How far the wall clock moved against the monotonic one in the slot. NULL: not measured.
        14 clock_offset_us: OptInt64 ["us"],
        /// Payload dropped from captures in the slot.
        15 capture_dropped_bytes: Int64 ["bytes"],
        /// Datagrams dropped from our receive queues in the slot, as far as the kernel told by
        /// then. NULL: not measured, as in the last slot of a run that was killed.
        16 datagrams_dropped: OptInt64 ["datagrams"],
    }
}
