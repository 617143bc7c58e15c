//! What travels between forwarder and recorder, and lies in journals: frames, and the messages in
//! them.

mod fields;
mod frame;
mod message;
mod rows;
mod views;

pub use fields::{Fields, Malformed, Value};
pub use frame::{
    CRITICAL, Frame, FrameCodec, FrameError, FrameKind, FrameView, HEADER_LEN,
    MAX_ACCOUNTING_PAYLOAD, MAX_CAPTURE_PAYLOAD, MESSAGE_ONLY, SETTLED, VERSION,
};
pub use message::{
    Ack, BootEnd, CaptureData, CaptureEnd, CaptureMark, CaptureOpen, Credit, Hello, Lane, MarkKind,
    PROTOCOL, Received, Reject, RejectCode, Rows, SegmentHeader, Welcome,
};
pub use rows::EncodedRows;
pub use views::RowViews;
