//! What must hold for any bytes that reach the frame decoder.

use bytes::BytesMut;
use prost::Message;
use schemas::wire::{
    Ack, BootEnd, CaptureData, CaptureEnd, CaptureMark, CaptureOpen, Credit, Frame, FrameKind,
    Hello, MAX_ACCOUNTING_PAYLOAD, Received, Reject, Rows, SegmentHeader, Welcome,
};

/// Decodes `input` as a stream of frames. Nothing may panic; a frame that is taken encodes to the
/// very bytes it was taken from, with the same checksum; and a decoder that gets the bytes one by
/// one finds the same frames.
pub(crate) fn check(input: &[u8]) {
    let mut whole = BytesMut::from(input);
    let mut taken = Vec::new();
    let mut at = 0;
    while let Ok(Some((frame, crc))) = Frame::decode(&mut whole, MAX_ACCOUNTING_PAYLOAD) {
        let mut again = Vec::new();
        assert_eq!(frame.encode(&mut again), crc);
        assert_eq!(again, input[at..at + frame.encoded_len()]);
        at += frame.encoded_len();
        decode_message(&frame);
        taken.push(frame);
    }
    let mut growing = BytesMut::new();
    let mut found = Vec::new();
    'bytes: for byte in input {
        growing.extend_from_slice(&[*byte]);
        loop {
            match Frame::decode(&mut growing, MAX_ACCOUNTING_PAYLOAD) {
                Ok(Some((frame, _))) => found.push(frame),
                Ok(None) => break,
                Err(_) => break 'bytes,
            }
        }
    }
    assert_eq!(found, taken);
}

/// A message that cannot be read is an answer; a panic is not.
fn decode_message(frame: &Frame) {
    let bytes = frame.message_bytes();
    let trailing = frame.trailing_bytes();
    assert_eq!(bytes.len() + trailing.len(), frame.payload.len());
    match frame.kind {
        FrameKind::Segment => drop(SegmentHeader::decode(bytes)),
        FrameKind::Rows => drop(Rows::decode(bytes).map(|mut rows| rows.fill_in())),
        FrameKind::BootEnd => drop(BootEnd::decode(bytes)),
        FrameKind::Received => drop(Received::decode(bytes)),
        FrameKind::Hello => drop(Hello::decode(bytes)),
        FrameKind::Welcome => drop(Welcome::decode(bytes)),
        FrameKind::Reject => drop(Reject::decode(bytes)),
        FrameKind::Ack => drop(Ack::decode(bytes)),
        FrameKind::CaptureOpen => drop(CaptureOpen::decode(bytes)),
        FrameKind::CaptureData => drop(CaptureData::decode(bytes)),
        FrameKind::CaptureMark => drop(CaptureMark::decode(bytes)),
        FrameKind::CaptureEnd => drop(CaptureEnd::decode(bytes)),
        FrameKind::Credit => drop(Credit::decode(bytes)),
        FrameKind::Ping | FrameKind::Pong | FrameKind::Unknown(_) => {}
    }
}
