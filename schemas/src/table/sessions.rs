//! `sessions`: one row per ended session.

use super::column::table;

table! {
    /// One row per ended session, written once. Totals are cumulative; invoices are computed from
    /// `usage`, this table is for reports and cross-checks.
    Session "sessions" by ts_end {
        /// The forwarder that carried the session.
        1 node: Word,
        /// The run of that forwarder.
        2 boot: Word,
        /// 1, 2, 3… per boot, dense from the pass verdict on. With `boot` it is the session's id.
        3 session_no: Int64,
        /// Number of the row among all rows of the boot, without gap. NULL: written by the recorder.
        4 seq: OptInt64,
        /// The service the client came to.
        5 service: Word,
        /// The rule that passed it.
        6 rule: Word,
        /// The configuration that was in force: the first 16 hexadecimal digits of its SHA-256.
        7 config_rev: Word,
        /// Who is billed, as the rule said at accept. NULL: the rule names no customer.
        8 customer: OptWord,
        /// `tcp` or `udp`.
        9 transport: Word,
        /// The client's address, the socket peer.
        10 client_ip: Text,
        /// The client's port.
        11 client_port: Int32,
        /// The local address the client used.
        12 listen_ip: Text,
        /// The local port the client used.
        13 listen_port: Int32,
        /// Our address towards the target. NULL: never dialled.
        14 egress_ip: OptText,
        /// Our port towards the target. NULL: never dialled.
        15 egress_port: OptInt32,
        /// The target's address. NULL: its name did not resolve, or no target was available.
        16 target_ip: OptText,
        /// The target's port. NULL: as `target_ip`.
        17 target_port: OptInt32,
        /// The target's name as configured. NULL: configured as an address.
        18 target_name: OptText,
        /// The client's address behind a trusted proxy. NULL: no PROXY header was accepted.
        19 proxied_client_ip: OptText,
        /// The client's port behind a trusted proxy. NULL: as `proxied_client_ip`.
        20 proxied_client_port: OptInt32,
        /// Accept, or the first datagram.
        21 ts_start: Time,
        /// The target's connection stood. NULL: it never did.
        22 ts_connected: OptTime,
        /// The first payload from the client. NULL: there was none.
        23 ts_first_up: OptTime,
        /// The first payload from the target. NULL: there was none.
        24 ts_first_down: OptTime,
        /// The session was over.
        25 ts_end: Time,
        /// From start to end by the monotonic clock.
        26 duration_us: Int64 ["us"],
        /// From the verdict to the target's connection by the monotonic clock. NULL: it never stood.
        27 connect_us: OptInt64 ["us"],
        /// Client payload the kernel accepted for the target. This is billed.
        28 bytes_up: Int64 ["bytes"],
        /// Target payload the kernel accepted for the client. This is billed.
        29 bytes_down: Int64 ["bytes"],
        /// Payload read from the client. It exceeds `bytes_up` only after an abnormal end.
        30 received_up: Int64 ["bytes"],
        /// Payload read from the target. It exceeds `bytes_down` only after an abnormal end.
        31 received_down: Int64 ["bytes"],
        /// Written to the target but not acknowledged by it when we let go. NULL: the end was in
        /// order, the connection never stood, or it is UDP.
        32 unacked_up: OptInt64 ["bytes"],
        /// Written to the client but not acknowledged by it when we let go. NULL: as `unacked_up`.
        33 unacked_down: OptInt64 ["bytes"],
        /// UDP: datagrams the kernel accepted for the target, empty ones too; TCP: 0.
        34 datagrams_up: Int64 ["datagrams"],
        /// UDP: datagrams the kernel accepted for the client, empty ones too; TCP: 0.
        35 datagrams_down: Int64 ["datagrams"],
        /// Smoothed round trip to the client at the end (TCP_INFO). NULL: never measured, or not read.
        36 rtt_client_us: OptInt64 ["us"],
        /// Smoothed round trip to the target at the end (TCP_INFO). NULL: never measured, or not read.
        37 rtt_target_us: OptInt64 ["us"],
        /// Segments retransmitted to the client (TCP_INFO). NULL: not read.
        38 retrans_client: OptInt64 ["segments"],
        /// Segments retransmitted to the target (TCP_INFO). NULL: not read.
        39 retrans_target: OptInt64 ["segments"],
        /// The first cause of the end.
        40 end_reason: Word,
        /// The phase in which that cause struck.
        41 end_phase: Word,
        /// Which side sent its FIN first: `client`, `target`, `none`.
        42 first_fin: Word,
        /// How the client's connection was closed: `fin`, `rst`, `timeout`, `none`.
        43 client_close: Word,
        /// How the target's connection was closed: `fin`, `rst`, `timeout`, `none`.
        44 target_close: Word,
        /// The error number of the system call that ended it. NULL: none did.
        45 errno: OptInt32,
        /// Payload handed to the recorder for capture. The truth about what was kept is in `captures`.
        46 captured_bytes: Int64 ["bytes"],
        /// Payload that should have been captured and was dropped before it left the forwarder.
        47 capture_dropped_bytes: Int64 ["bytes"],
        /// Rows of `usage` this session has.
        48 intervals: Int32,
        /// 0 exact, 1 recovered after a crash, 2 spread over time, 3 partly lost.
        49 quality: Int32,
        /// A JSON object of what was learnt on the way (server name, tags). NULL: nothing was.
        50 attributes: OptText,
    }
}
