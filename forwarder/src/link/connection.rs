//! A connection to the recorder, from the dial to the `Welcome`.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use prost::Message;
use schemas::wire::{
    Frame, FrameCodec, FrameError, FrameKind, Hello, Lane, MAX_ACCOUNTING_PAYLOAD,
    MAX_CAPTURE_PAYLOAD, PROTOCOL, Reject, RejectCode, Welcome,
};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;
use tokio_util::codec::{FramedRead, FramedWrite};

/// How long dial and `Welcome` may take together. The recorder ends our connection before this one
/// first, for which it has 5 s.
const WELCOME_WITHIN: Duration = Duration::from_secs(10);
/// How long a refusal may take to arrive after writing has failed.
const LAST_WORD_WITHIN: Duration = Duration::from_secs(1);

/// A connection that the recorder welcomed.
#[derive(Debug)]
pub struct Connection {
    /// What the recorder says.
    pub reader: FramedRead<OwnedReadHalf, FrameCodec>,
    /// What we say. Its frames must be flushed.
    pub writer: FramedWrite<OwnedWriteHalf, FrameCodec>,
    /// The recorder's answer to our `Hello`.
    pub welcome: Welcome,
}

/// Why there is no connection, or none any more.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Nobody answers.
    #[error("cannot reach the recorder at {socket}: {source}")]
    Unreachable {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The recorder refuses, and says why.
    #[error("the recorder refuses: {text}")]
    Refused {
        /// Its reason.
        code: RejectCode,
        /// The same for people.
        text: String,
        /// Not to be asked again before.
        retry_after: Duration,
    },
    /// What came is not what a recorder says.
    #[error("the recorder does not speak our protocol: {0}")]
    Protocol(String),
    /// The connection ended.
    #[error("the recorder is gone: {0}")]
    Lost(String),
    /// The recorder holds other frames under our numbers than we do, or frames we never made.
    #[error("the spool is forked: {0}")]
    Forked(String),
    /// The spool cannot be read.
    #[error("the spool cannot be read: {0}")]
    Spool(String),
}

impl LinkError {
    /// Whether it does not pass with time: somebody has to look.
    pub fn is_grave(&self) -> bool {
        match self {
            Self::Forked(_) | Self::Spool(_) => true,
            Self::Refused { code, .. } => matches!(
                code,
                RejectCode::Protocol
                    | RejectCode::NotAllowed
                    | RejectCode::Malformed
                    | RejectCode::NodeTaken
            ),
            Self::Unreachable { .. } | Self::Protocol(_) | Self::Lost(_) => false,
        }
    }

    /// How long the recorder asks to be left alone.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => Duration::ZERO,
        }
    }
}

impl From<FrameError> for LinkError {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Io(error) => Self::Lost(error.to_string()),
            broken => Self::Protocol(broken.to_string()),
        }
    }
}

/// Dials the recorder and introduces us.
///
/// # Errors
/// Nobody answers, in time or at all, or the recorder refuses.
pub async fn connect(socket: &Path, hello: &Hello) -> Result<Connection, LinkError> {
    let greeted = timeout(WELCOME_WITHIN, greet(socket, hello)).await;
    greeted.unwrap_or_else(|_elapsed| {
        Err(LinkError::Lost(format!("no Welcome within {WELCOME_WITHIN:?}")))
    })
}

async fn greet(socket: &Path, hello: &Hello) -> Result<Connection, LinkError> {
    let unreachable = |source| LinkError::Unreachable { socket: socket.to_owned(), source };
    let (reader, writer) = UnixStream::connect(socket).await.map_err(unreachable)?.into_split();
    let codec = FrameCodec::new(match hello.lane() {
        Lane::Capture => MAX_CAPTURE_PAYLOAD,
        Lane::Accounting | Lane::Unspecified => MAX_ACCOUNTING_PAYLOAD,
    });
    let mut reader = FramedRead::new(reader, codec);
    let mut writer = FramedWrite::new(writer, codec);
    if let Err(error) = writer.send(&Frame::message(FrameKind::Hello, 0, hello)).await {
        return Err(last_word(&mut reader, error.into()).await);
    }
    let frame = match reader.next().await {
        Some(frame) => frame?,
        None => return Err(LinkError::Lost("it closed the connection".to_owned())),
    };
    match frame.kind {
        FrameKind::Welcome => {
            let welcome: Welcome = message(&frame)?;
            if welcome.protocol != PROTOCOL {
                let text = format!("it speaks protocol {}, not {PROTOCOL}", welcome.protocol);
                return Err(LinkError::Protocol(text));
            }
            Ok(Connection { reader, writer, welcome })
        }
        FrameKind::Reject => Err(refused(&frame)),
        kind => Err(LinkError::Protocol(format!("{kind:?} instead of a Welcome"))),
    }
}

/// The reason behind a failed write: the refusal that is still to be read, if there is one, else
/// `error`.
pub async fn last_word(
    reader: &mut FramedRead<OwnedReadHalf, FrameCodec>,
    error: LinkError,
) -> LinkError {
    let refusal = async {
        while let Some(Ok(frame)) = reader.next().await {
            if frame.kind == FrameKind::Reject {
                return Some(refused(&frame));
            }
        }
        None
    };
    timeout(LAST_WORD_WITHIN, refusal).await.ok().flatten().unwrap_or(error)
}

/// The message of a frame.
pub(crate) fn message<M: Message + Default>(frame: &Frame) -> Result<M, LinkError> {
    M::decode(frame.message_bytes())
        .map_err(|error| LinkError::Protocol(format!("{:?}: {error}", frame.kind)))
}

/// The error that a frame of kind `Reject` stands for.
pub(crate) fn refused(frame: &Frame) -> LinkError {
    match message::<Reject>(frame) {
        Ok(reject) => LinkError::Refused {
            code: reject.code(),
            retry_after: Duration::from_millis(reject.retry_after_ms.into()),
            text: reject.text,
        },
        Err(error) => error,
    }
}
