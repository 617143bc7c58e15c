//! `captures`: which bytes of which pcapng file hold a session.

use super::column::table;

table! {
    /// One row per session and capture file: where its packets lie, and what is missing. Written
    /// by the recorder when the file closes.
    Capture "captures" by ts_first {
        /// The forwarder that carried the session.
        1 node: Word,
        /// The run of that forwarder.
        2 boot: Word,
        /// The session's number in that run.
        3 session_no: Int64,
        /// 0, 1, 2… over the files that hold the session, in time.
        4 extent: Int32,
        /// Path below the data directory. NULL: the file was deleted by retention, or the disk took
        /// nothing of the session.
        5 file: OptText,
        /// File offset of the first block of the session.
        6 offset_first: Int64 ["bytes"],
        /// File offset behind the last block of the session. Other sessions lie in between.
        7 offset_last: Int64 ["bytes"],
        /// Packets of the session in the file, synthesised ones included.
        8 packets: Int64 ["packets"],
        /// Payload kept in the file.
        9 captured_bytes: Int64 ["bytes"],
        /// Payload the kept and the deliberately cut packets stand for.
        10 original_bytes: Int64 ["bytes"],
        /// Payload that should be here and is lost; visible in the file as a gap.
        11 dropped_bytes: Int64 ["bytes"],
        /// Time of the first packet.
        12 ts_first: Time,
        /// Time of the last packet.
        13 ts_last: Time,
        /// Directions with payload: `up`, `down`, `both` or `none`.
        14 direction: Word,
        /// Payload was cut on purpose (`headers`, `prefix`).
        15 truncated: Bool,
        /// SHA-256 of the closed file, hexadecimal. NULL: not computed.
        16 sha256: OptText,
        /// The key the file is encrypted to. NULL: not encrypted.
        17 key_id: OptText,
    }
}
