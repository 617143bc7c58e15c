//! `denied`: attempts refused before anything was dialled.

use super::column::table;

table! {
    /// Attempts refused before anything was dialled. Repeats by one client in one slot are one row.
    Denied "denied" by ts_last {
        /// The forwarder.
        1 node: Word,
        /// The run of that forwarder.
        2 boot: Word,
        /// Number of the row among all rows of the boot, without gap. NULL: written by the recorder.
        3 seq: OptInt64,
        /// The first attempt of the row.
        4 ts_first: Time,
        /// The last attempt of the row.
        5 ts_last: Time,
        /// The service the client came to.
        6 service: Word,
        /// The rule that refused. NULL: no rule did.
        7 rule: OptWord,
        /// The limit that refused, as `per` and kind. NULL: no limit did.
        8 limit: OptWord,
        /// The customer the rule names. NULL: none.
        9 customer: OptWord,
        /// `tcp` or `udp`.
        10 transport: Word,
        /// The client's address. NULL: a flood, counted per rule.
        11 client_ip: OptText,
        /// The client's port of the first attempt. NULL: as `client_ip`.
        12 client_port: OptInt32,
        /// The local address the client used.
        13 listen_ip: Text,
        /// The local port the client used.
        14 listen_port: Int32,
        /// `accept`, `policy`, `preread` or `drain`.
        15 phase: Word,
        /// Why: `rule`, `no_rule`, `table_full`, `limit_sessions`…
        16 reason: Word,
        /// What the client saw: `reset`, `close` or `drop`.
        17 action: Word,
        /// Attempts in this row.
        18 count: Int64 ["attempts"],
        /// Payload of the datagrams dropped; TCP: 0.
        19 bytes_up: Int64 ["bytes"],
    }
}
