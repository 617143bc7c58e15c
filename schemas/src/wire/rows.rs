//! Rows encoded one after the other, as a frame's payload.

use prost::Message;

use super::Rows;
use crate::table::{Denied, Event, Session, Slot, Usage};

/// The message [`Rows`] in the making: whoever has many rows fills one again and again instead of
/// keeping them all. The last row decides nothing about the first: bytes are only added.
#[derive(Debug, Clone, Default)]
pub struct EncodedRows {
    boot: String,
    bytes: Vec<u8>,
    first_seq: Option<i64>,
}

/// The key of a field of [`Rows`] that holds a message: its number, and the wire type of what has
/// a length.
const fn key(field: u8) -> u8 {
    field << 3 | 2
}

impl EncodedRows {
    /// No rows yet, of a node and its boot.
    pub fn of(node: &str, boot: &str) -> Self {
        let head = Rows { node: node.to_owned(), boot: boot.to_owned(), ..Rows::default() };
        Self { boot: boot.to_owned(), bytes: head.encode_to_vec(), first_seq: None }
    }

    /// Makes room for rows of so many bytes, for whoever knows how many there will be.
    pub fn reserve(&mut self, bytes: usize) {
        self.bytes.reserve(bytes);
    }

    /// Adds a row of `sessions`.
    pub fn session(&mut self, row: &Session) {
        self.add(3, row, row.seq);
    }

    /// Adds a row of `usage`.
    pub fn usage(&mut self, row: &Usage) {
        self.add(4, row, row.seq);
    }

    /// Adds a row of `slots`.
    pub fn slot(&mut self, row: &Slot) {
        self.add(5, row, row.seq);
    }

    /// Adds a row of `denied`.
    pub fn denied(&mut self, row: &Denied) {
        self.add(6, row, row.seq);
    }

    /// Adds a row of `events`.
    pub fn event(&mut self, row: &Event) {
        self.add(7, row, row.seq);
    }

    fn add(&mut self, field: u8, row: &impl Message, seq: Option<i64>) {
        self.first_seq = self.first_seq.or(seq);
        self.bytes.push(key(field));
        row.encode_length_delimited(&mut self.bytes).expect("a vector takes as much as there is");
    }

    /// The boot that the rows belong to.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The `seq` of the row that was added first; `None`: there is none.
    pub fn first_seq(&self) -> Option<i64> {
        self.first_seq
    }

    /// The message, encoded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message, encoded.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_encoded_one_by_one_are_the_same_message() {
        let seq = Some(7);
        let rows = Rows {
            node: "edge".to_owned(),
            boot: "k3f9x2ab".to_owned(),
            sessions: vec![Session { seq, service: "s".repeat(300), ..Session::default() }; 2],
            usage: vec![Usage { seq: Some(5), ..Usage::default() }],
            slots: vec![Slot { seq, ..Slot::default() }],
            denied: vec![Denied { seq, ..Denied::default() }],
            events: vec![Event { seq, ..Event::default() }],
            captures: Vec::new(),
        };
        let mut encoded = EncodedRows::of("edge", "k3f9x2ab");
        assert_eq!(encoded.first_seq(), None);
        rows.usage.iter().for_each(|row| encoded.usage(row));
        rows.sessions.iter().for_each(|row| encoded.session(row));
        rows.slots.iter().for_each(|row| encoded.slot(row));
        rows.denied.iter().for_each(|row| encoded.denied(row));
        rows.events.iter().for_each(|row| encoded.event(row));
        assert_eq!((encoded.first_seq(), encoded.boot()), (Some(5), "k3f9x2ab"));
        assert_eq!(Rows::decode(encoded.bytes()), Ok(rows));
    }
}
