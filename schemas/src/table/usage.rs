//! `usage`: what each session moved in each slot. The only input of invoices.

use super::column::table;

table! {
    /// What one session moved in one slot: the difference and the running total. The only input of
    /// invoices. A slot in which nothing moved has a row only if it is the first or the last.
    Usage "usage" by slot_start {
        /// The forwarder that carried the session.
        1 node: Word,
        /// The run of that forwarder.
        2 boot: Word,
        /// The session's number in that run.
        3 session_no: Int64,
        /// Number of the row among all rows of the boot, without gap. NULL: written by the recorder.
        4 seq: OptInt64,
        /// 0, 1, 2… per session, without gap.
        5 interval_seq: Int32,
        /// Start of the slot, aligned to UTC.
        6 slot_start: Time,
        /// Length of the slot.
        7 slot_len_s: Int32 ["s"],
        /// 0, and one more after each step of the wall clock backwards.
        8 clock_pass: Int32,
        /// The service the client came to.
        9 service: Word,
        /// The rule that passed it.
        10 rule: Word,
        /// The configuration that was in force when the session began.
        11 config_rev: Word,
        /// Who is billed. NULL: the rule names no customer.
        12 customer: OptWord,
        /// `tcp` or `udp`.
        13 transport: Word,
        /// The client's address.
        14 client_ip: Text,
        /// The target's address. NULL: not known yet, or never.
        15 target_ip: OptText,
        /// Client payload accepted for the target in this slot.
        16 bytes_up: Int64 ["bytes"],
        /// Target payload accepted for the client in this slot.
        17 bytes_down: Int64 ["bytes"],
        /// UDP: datagrams to the target in this slot; TCP: 0.
        18 datagrams_up: Int64 ["datagrams"],
        /// UDP: datagrams to the client in this slot; TCP: 0.
        19 datagrams_down: Int64 ["datagrams"],
        /// `bytes_up` of the session so far, this row included.
        20 total_up: Int64 ["bytes"],
        /// `bytes_down` of the session so far, this row included.
        21 total_down: Int64 ["bytes"],
        /// The session's first row.
        22 is_first: Bool,
        /// The session's last row.
        23 is_final: Bool,
        /// How long the session lived within this slot.
        24 active_us: Int64 ["us"],
        /// 0 exact, 1 recovered after a crash, 2 spread over time, 3 partly lost.
        25 quality: Int32,
    }
}
