//! The frame: the unit of transport, of the journal, and of acknowledgement.
//!
//! Little endian, a header of 24 bytes, then the payload:
//! ```text
//! magic u16 = 0x5246 | version u8 | kind u8 | flags u16 | message_len u16 | len u32 | number u64 | crc32c u32
//! ```
//! The CRC (RFC 3720, Castagnoli) covers the first 20 bytes of the header and the payload. With the
//! flag [`MESSAGE_ONLY`] it covers only the first `message_len` bytes of the payload: captured bytes
//! follow the message unchecked, so that nobody need touch them twice. Without the flag
//! `message_len` is 0.
//!
//! A decoder that meets a kind it does not know skips the frame, unless the flag [`CRITICAL`] is
//! set, which is an error. The length is judged before anything is allocated.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder};

/// Length of the header, in bytes.
pub const HEADER_LEN: usize = 24;
/// The version this codec writes and reads.
pub const VERSION: u8 = 1;
/// Longest payload on the accounting lane and in a journal, in bytes.
pub const MAX_ACCOUNTING_PAYLOAD: usize = 1 << 20;
/// Longest payload on the capture lane, in bytes.
pub const MAX_CAPTURE_PAYLOAD: usize = 256 << 10;

/// Flag: a receiver that does not know the kind must not go on.
pub const CRITICAL: u16 = 1;
/// Flag: the CRC covers only the message at the head of the payload.
pub const MESSAGE_ONLY: u16 = 2;
/// Flag, of meaning to the journal that the frame was written to: when it was, every frame before it
/// was durable. What is missing before it was lost by damage, not by a power loss.
pub const SETTLED: u16 = 4;

const MAGIC: u16 = 0x5246;
const CRC_AT: usize = HEADER_LEN - 4;

/// Why bytes are not a frame. None of these can be mended by reading on: the connection is closed,
/// or the journal ends before this frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The first two bytes are not a frame's.
    #[error("not a frame: it begins with {found:#06x} instead of 0x5246")]
    Magic {
        /// What stood there.
        found: u16,
    },
    /// A version this binary does not speak.
    #[error("frame version {found} is not supported, this binary speaks version 1")]
    Version {
        /// The frame's version.
        found: u8,
    },
    /// Longer than this lane allows.
    #[error("frame of {len} bytes exceeds the limit of {limit} bytes")]
    TooLong {
        /// The frame's payload length in bytes.
        len: u64,
        /// The lane's limit in bytes.
        limit: usize,
    },
    /// The message is longer than the payload that should hold it.
    #[error("frame message of {message_len} bytes exceeds its payload of {len} bytes")]
    MessageLength {
        /// The message's length in bytes.
        message_len: usize,
        /// The payload's length in bytes.
        len: usize,
    },
    /// The checksum does not match: the frame was damaged.
    #[error("frame {number} is damaged: checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// The frame's number, as far as it can be believed.
        number: u64,
        /// The checksum in the frame.
        found: u32,
        /// The checksum of its bytes.
        expected: u32,
    },
    /// A kind that must be understood and is not.
    #[error("frame of unknown critical kind {kind}: this binary is too old for its peer")]
    UnknownCritical {
        /// The kind.
        kind: u8,
    },
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// What a frame's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// Head of a journal segment: [`super::SegmentHeader`]. Not numbered.
    Segment,
    /// Rows of one boot: [`super::Rows`].
    Rows,
    /// The end of a boot: [`super::BootEnd`].
    BootEnd,
    /// A frame of a forwarder's spool as it was received, kept in the recorder's write-ahead log.
    Received,
    /// The forwarder's first word on a connection: [`super::Hello`].
    Hello,
    /// The recorder's answer: [`super::Welcome`].
    Welcome,
    /// The recorder's refusal: [`super::Reject`].
    Reject,
    /// Everything up to a number is durable: [`super::Ack`].
    Ack,
    /// Are you there? Empty; answered by `Pong`.
    Ping,
    /// I am. Empty.
    Pong,
    /// A captured session begins: [`super::CaptureOpen`].
    CaptureOpen,
    /// Captured payload: [`super::CaptureData`], then the bytes.
    CaptureData,
    /// A FIN or a reset in a captured session: [`super::CaptureMark`].
    CaptureMark,
    /// A captured session ends: [`super::CaptureEnd`].
    CaptureEnd,
    /// More payload may be sent: [`super::Credit`].
    Credit,
    /// A kind of a newer version, to be skipped.
    Unknown(u8),
}

impl FrameKind {
    const KNOWN: [(Self, u8); 15] = [
        (Self::Segment, 1),
        (Self::Rows, 2),
        (Self::BootEnd, 3),
        (Self::Received, 4),
        (Self::Hello, 16),
        (Self::Welcome, 17),
        (Self::Reject, 18),
        (Self::Ack, 19),
        (Self::Ping, 20),
        (Self::Pong, 21),
        (Self::CaptureOpen, 32),
        (Self::CaptureData, 33),
        (Self::CaptureMark, 34),
        (Self::CaptureEnd, 35),
        (Self::Credit, 36),
    ];

    fn code(self) -> u8 {
        match self {
            Self::Unknown(code) => code,
            known => {
                Self::KNOWN.iter().find(|(kind, _)| *kind == known).map_or(0, |(_, code)| *code)
            }
        }
    }

    fn from_code(code: u8) -> Self {
        Self::KNOWN
            .iter()
            .find(|(_, known)| *known == code)
            .map_or(Self::Unknown(code), |(kind, _)| *kind)
    }
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is.
    pub kind: FrameKind,
    /// [`CRITICAL`] and [`MESSAGE_ONLY`].
    pub flags: u16,
    /// The frame's number in its spool, from 1; 0 for frames that are not numbered.
    pub number: u64,
    /// With [`MESSAGE_ONLY`], how much of the payload is the message; else 0.
    pub message_len: u16,
    /// The message, and what follows it.
    pub payload: Bytes,
}

impl Frame {
    /// A frame that holds one message.
    pub fn message(kind: FrameKind, number: u64, message: &impl prost::Message) -> Self {
        let payload = message.encode_to_vec().into();
        Self { kind, flags: CRITICAL, number, message_len: 0, payload }
    }

    /// A frame without payload.
    pub fn empty(kind: FrameKind) -> Self {
        Self { kind, flags: CRITICAL, number: 0, message_len: 0, payload: Bytes::new() }
    }

    /// A frame that holds a message and, unchecked behind it, bytes.
    ///
    /// The message must be shorter than 64 KiB, which every message of the capture lane is.
    pub fn message_and_bytes(kind: FrameKind, message: &impl prost::Message, bytes: &[u8]) -> Self {
        let len = message.encoded_len();
        let mut payload = BytesMut::with_capacity(len + bytes.len());
        payload.extend_from_slice(&message.encode_to_vec());
        payload.extend_from_slice(bytes);
        let message_len = u16::try_from(len).expect("capture messages are a few dozen bytes");
        Self {
            kind,
            flags: CRITICAL | MESSAGE_ONLY,
            number: 0,
            message_len,
            payload: payload.freeze(),
        }
    }

    /// Appends header and message of a frame whose other bytes go their own way: exactly `following`
    /// of them, which nobody checks, must come next. The same frame as
    /// [`Frame::message_and_bytes`] makes, for bytes that need not be touched.
    pub fn encode_head(
        kind: FrameKind,
        message: &impl prost::Message,
        following: usize,
        out: &mut impl BufMut,
    ) {
        let message = message.encode_to_vec();
        let message_len =
            u16::try_from(message.len()).expect("capture messages are a few dozen bytes");
        let head = Self {
            kind,
            flags: CRITICAL | MESSAGE_ONLY,
            number: 0,
            message_len,
            payload: message.into(),
        };
        head.encode_before(following, out);
    }

    /// Length of the frame in bytes, header included.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.payload.len()
    }

    /// Appends the frame to `out` and returns its CRC.
    pub fn encode(&self, out: &mut impl BufMut) -> u32 {
        self.encode_before(0, out)
    }

    /// Appends the frame; its header announces `following` bytes more.
    fn encode_before(&self, following: usize, out: &mut impl BufMut) -> u32 {
        let len = self.payload.len() + following;
        let mut header = Vec::with_capacity(HEADER_LEN);
        header.put_u16_le(MAGIC);
        header.put_u8(VERSION);
        header.put_u8(self.kind.code());
        header.put_u16_le(self.flags);
        header.put_u16_le(self.message_len);
        header.put_u32_le(u32::try_from(len).expect("payloads are below 1 MiB"));
        header.put_u64_le(self.number);
        let crc = checksum(&header, self.checked());
        header.put_u32_le(crc);
        out.put_slice(&header);
        out.put_slice(&self.payload);
        crc
    }

    /// Takes the next frame off the front of `buffer`, and its CRC. `None`: more bytes are needed.
    ///
    /// # Errors
    /// What stands at the front is not a frame of at most `limit` payload bytes.
    pub fn decode(buffer: &mut BytesMut, limit: usize) -> Result<Option<(Self, u32)>, FrameError> {
        let Some(header) = buffer.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let total = HEADER_LEN + Header::parse(header, limit)?.len;
        if buffer.len() < total {
            buffer.reserve(total - buffer.len());
            return Ok(None);
        }
        let Some(view) = FrameView::at_front(buffer, limit)? else { return Ok(None) };
        let FrameView { kind, flags, number, message_len, crc, .. } = view;
        let mut payload = buffer.split_to(total).freeze();
        payload.advance(HEADER_LEN);
        Ok(Some((Self { kind, flags, number, message_len, payload }, crc)))
    }

    /// The part of the payload that is the message.
    pub fn message_bytes(&self) -> &[u8] {
        self.checked()
    }

    /// The part of the payload behind the message; empty unless [`MESSAGE_ONLY`].
    pub fn trailing_bytes(&self) -> Bytes {
        self.payload.slice(self.checked().len()..)
    }

    fn checked(&self) -> &[u8] {
        if self.flags & MESSAGE_ONLY == 0 {
            &self.payload
        } else {
            &self.payload[..usize::from(self.message_len).min(self.payload.len())]
        }
    }
}

/// A frame where it lies in the buffer that it was read into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameView<'a> {
    /// What the payload is.
    pub kind: FrameKind,
    /// [`CRITICAL`] and [`MESSAGE_ONLY`].
    pub flags: u16,
    /// The frame's number in its spool, from 1; 0 for frames that are not numbered.
    pub number: u64,
    /// The message.
    pub message: &'a [u8],
    /// What follows the message; empty unless [`MESSAGE_ONLY`].
    pub trailing: &'a [u8],
    message_len: u16,
    crc: u32,
}

impl<'a> FrameView<'a> {
    /// The frame at the front of `buffer`, in which it stays. `None`: more bytes are needed, at most
    /// [`HEADER_LEN`] and `limit` in all.
    ///
    /// # Errors
    /// What stands at the front is not a frame of at most `limit` payload bytes.
    pub fn at_front(buffer: &'a [u8], limit: usize) -> Result<Option<Self>, FrameError> {
        let Some((head, rest)) = buffer.split_first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let Header { kind: code, flags, message_len, len, number, crc } =
            Header::parse(head, limit)?;
        let Some(payload) = rest.get(..len) else { return Ok(None) };
        let checked = if flags & MESSAGE_ONLY == 0 { len } else { usize::from(message_len) };
        let (message, trailing) = payload.split_at(checked);
        let expected = checksum(&head[..CRC_AT], message);
        if expected != crc {
            return Err(FrameError::Checksum { number, found: crc, expected });
        }
        let kind = FrameKind::from_code(code);
        if matches!(kind, FrameKind::Unknown(_)) && flags & CRITICAL != 0 {
            return Err(FrameError::UnknownCritical { kind: code });
        }
        Ok(Some(Self { kind, flags, number, message, trailing, message_len, crc }))
    }

    /// Length of the frame in bytes, header included.
    pub fn encoded_len(&self) -> usize {
        HEADER_LEN + self.message.len() + self.trailing.len()
    }

    /// The CRC that it carries.
    pub fn crc(&self) -> u32 {
        self.crc
    }
}

fn checksum(header: &[u8], checked: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(header), checked)
}

struct Header {
    kind: u8,
    flags: u16,
    message_len: u16,
    len: usize,
    number: u64,
    crc: u32,
}

impl Header {
    fn parse(mut bytes: &[u8], limit: usize) -> Result<Self, FrameError> {
        let magic = bytes.get_u16_le();
        if magic != MAGIC {
            return Err(FrameError::Magic { found: magic });
        }
        let version = bytes.get_u8();
        if version != VERSION {
            return Err(FrameError::Version { found: version });
        }
        let (kind, flags, message_len) = (bytes.get_u8(), bytes.get_u16_le(), bytes.get_u16_le());
        let claimed = bytes.get_u32_le();
        let too_long = FrameError::TooLong { len: u64::from(claimed), limit };
        let len = usize::try_from(claimed).ok().filter(|len| *len <= limit).ok_or(too_long)?;
        if flags & MESSAGE_ONLY != 0 && usize::from(message_len) > len {
            return Err(FrameError::MessageLength { message_len: message_len.into(), len });
        }
        let (number, crc) = (bytes.get_u64_le(), bytes.get_u32_le());
        Ok(Self { kind, flags, message_len, len, number, crc })
    }
}

/// Frames on a stream, for `tokio_util::codec::Framed`. Unknown kinds that are not critical are
/// skipped.
#[derive(Debug, Clone, Copy)]
pub struct FrameCodec {
    limit: usize,
}

impl FrameCodec {
    /// A codec that refuses payloads of more than `limit` bytes.
    pub const fn new(limit: usize) -> Self {
        Self { limit }
    }
}

impl Decoder for FrameCodec {
    type Item = Frame;
    type Error = FrameError;

    fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Frame>, FrameError> {
        while let Some((frame, _crc)) = Frame::decode(buffer, self.limit)? {
            if !matches!(frame.kind, FrameKind::Unknown(_)) {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }
}

impl Encoder<&Frame> for FrameCodec {
    type Error = FrameError;

    fn encode(&mut self, frame: &Frame, out: &mut BytesMut) -> Result<(), FrameError> {
        out.reserve(frame.encoded_len());
        frame.encode(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 4096;

    fn frames() -> impl Strategy<Value = Frame> {
        let payload = proptest::collection::vec(any::<u8>(), 0..LIMIT);
        (0..FrameKind::KNOWN.len(), any::<u64>(), payload, any::<bool>()).prop_map(
            |(kind, number, payload, message_only)| {
                let half = u16::try_from(payload.len() / 2).unwrap();
                Frame {
                    kind: FrameKind::KNOWN[kind].0,
                    flags: if message_only { CRITICAL | MESSAGE_ONLY } else { CRITICAL },
                    number,
                    message_len: if message_only { half } else { 0 },
                    payload: payload.into(),
                }
            },
        )
    }

    fn encoded(frame: &Frame) -> BytesMut {
        let mut bytes = BytesMut::new();
        frame.encode(&mut bytes);
        bytes
    }

    proptest! {
        #[test]
        fn a_frame_survives_the_wire(frame in frames()) {
            let mut bytes = encoded(&frame);
            let view = FrameView::at_front(&bytes, LIMIT).unwrap().unwrap();
            prop_assert_eq!(view.message, frame.message_bytes());
            prop_assert_eq!(view.trailing, &frame.trailing_bytes()[..]);
            prop_assert_eq!(view.encoded_len(), bytes.len());
            let (decoded, _) = Frame::decode(&mut bytes, LIMIT).unwrap().unwrap();
            prop_assert_eq!(decoded, frame);
            prop_assert!(bytes.is_empty());
        }

        #[test]
        fn a_cut_frame_asks_for_more(frame in frames(), cut in 1_usize..LIMIT) {
            let mut bytes = encoded(&frame);
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert!(Frame::decode(&mut bytes, LIMIT).unwrap().is_none());
        }

        #[test]
        fn a_flipped_bit_in_checked_bytes_is_found(frame in frames(), at: prop::sample::Index, bit in 0_u8..8) {
            let mut bytes = encoded(&frame);
            let checked = HEADER_LEN + frame.checked().len();
            let at = at.index(checked);
            bytes[at] ^= 1 << bit;
            // A changed length may ask for more bytes; it must never pass as a frame.
            prop_assert!(!matches!(Frame::decode(&mut bytes, LIMIT), Ok(Some(_))));
        }

        #[test]
        fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..256)) {
            drop(Frame::decode(&mut BytesMut::from(&noise[..]), LIMIT));
        }
    }

    #[test]
    fn bytes_that_go_their_own_way_make_the_same_frame() {
        let message = super::super::Credit { bytes: 300 };
        let whole = Frame::message_and_bytes(FrameKind::CaptureData, &message, b"payload");
        let mut apart = BytesMut::new();
        Frame::encode_head(FrameKind::CaptureData, &message, 7, &mut apart);
        apart.extend_from_slice(b"payload");
        assert_eq!(apart, encoded(&whole));
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_it_is_read() {
        let frame = Frame { payload: vec![0; LIMIT + 1].into(), ..Frame::empty(FrameKind::Rows) };
        let mut head = encoded(&frame);
        head.truncate(HEADER_LEN);
        assert!(matches!(Frame::decode(&mut head, LIMIT), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn unknown_kinds_are_skipped_unless_critical() {
        let unknown = Frame { flags: 0, ..Frame::empty(FrameKind::Unknown(99)) };
        let mut bytes = encoded(&unknown);
        bytes.extend_from_slice(&encoded(&Frame::empty(FrameKind::Ping)));
        let next = FrameCodec::new(LIMIT).decode(&mut bytes).unwrap().unwrap();
        assert_eq!(next.kind, FrameKind::Ping);

        let critical = Frame::empty(FrameKind::Unknown(99));
        let refused = FrameCodec::new(LIMIT).decode(&mut encoded(&critical));
        assert!(matches!(refused, Err(FrameError::UnknownCritical { kind: 99 })));
    }
}
