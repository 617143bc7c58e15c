//! The accounting lane of a forwarder, as the recorder sees it.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::BytesMut;
use e2e_tests::wait::DEADLINE;
use prost::Message;
use schemas::table::Usage;
use schemas::wire::{
    Ack, Frame, FrameKind, Hello, Lane, MAX_ACCOUNTING_PAYLOAD, PROTOCOL, Rows, Welcome,
};

pub(crate) const NODE: &str = "edge-1";
pub(crate) const BOOT: &str = "k3f9x2ab";
const SPOOL: u64 = 0xabcdef;
/// Rows in each frame: frame n holds the `seq` from (n-1)·ROWS+1 to n·ROWS.
pub(crate) const ROWS: i64 = 3;

/// A connection whose handshake is done.
pub(crate) struct Sender {
    stream: UnixStream,
    buffer: BytesMut,
    /// What the recorder said it holds.
    pub(crate) welcome: Welcome,
}

impl Sender {
    /// Connects as a forwarder whose spool holds frames 1 to `last_frame`.
    pub(crate) fn connect(socket: &Path, last_frame: u64) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        let mut sender = Self { stream, buffer: BytesMut::new(), welcome: Welcome::default() };
        let hello = Hello {
            protocol: PROTOCOL,
            node: NODE.into(),
            boot: BOOT.into(),
            lane: Lane::Accounting.into(),
            spool_id: SPOOL,
            first_frame: 1,
            last_frame,
            build: "test".into(),
            ..Hello::default()
        };
        sender.send(&Frame::message(FrameKind::Hello, 0, &hello))?;
        let frame = sender.receive()?;
        if frame.kind == FrameKind::Reject {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        assert_eq!(frame.kind, FrameKind::Welcome, "{frame:?}");
        sender.welcome = Welcome::decode(frame.message_bytes()).unwrap();
        Ok(sender)
    }

    /// Sends frame `number` with its rows.
    pub(crate) fn send_rows(&mut self, number: u64) -> io::Result<()> {
        let first = (i64::try_from(number).unwrap() - 1) * ROWS + 1;
        let row = |seq| Usage {
            session_no: seq,
            seq: Some(seq),
            slot_start: 1_793_491_200_000_000,
            service: "web".into(),
            bytes_up: 10 * seq,
            rule: "all".into(),
            ..Usage::default()
        };
        let usage = (first..first + ROWS).map(row).collect();
        let rows = Rows { node: NODE.into(), boot: BOOT.into(), usage, ..Rows::default() };
        self.send(&Frame::message(FrameKind::Rows, number, &rows))
    }

    /// Sends frame `number` with one row of some 32 KiB.
    pub(crate) fn send_large(&mut self, number: u64) -> io::Result<()> {
        let row = Usage {
            seq: Some(1),
            service: "web".into(),
            rule: "all".into(),
            config_rev: "x".repeat(32 << 10),
            ..Usage::default()
        };
        let rows =
            Rows { node: NODE.into(), boot: BOOT.into(), usage: vec![row], ..Rows::default() };
        self.send(&Frame::message(FrameKind::Rows, number, &rows))
    }

    /// The next acknowledgement; an error: the recorder refused.
    pub(crate) fn acknowledged(&mut self) -> io::Result<u64> {
        let frame = self.receive()?;
        if frame.kind == FrameKind::Reject {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        assert_eq!(frame.kind, FrameKind::Ack, "{frame:?}");
        Ok(Ack::decode(frame.message_bytes()).unwrap().frame)
    }

    fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        self.stream.write_all(&bytes)
    }

    fn receive(&mut self) -> io::Result<Frame> {
        loop {
            let decoded = Frame::decode(&mut self.buffer, MAX_ACCOUNTING_PAYLOAD).unwrap();
            if let Some((frame, _)) = decoded {
                return Ok(frame);
            }
            let mut chunk = [0; 4096];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(len) => self.buffer.extend_from_slice(&chunk[..len]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
