//! The recorder's side of the capture lane.

use schemas::vocab::{BootId, NodeName};
use schemas::wire::FrameCodec;
use tokio::net::UnixStream;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

/// Payload bytes that a forwarder may send before the first [`schemas::wire::Credit`]; said in the
/// [`schemas::wire::Welcome`].
pub const INITIAL_CREDIT: u64 = 4 << 20;

/// Where captured payload goes. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Captures {}

impl Captures {
    /// Serves one connection of the capture lane, whose handshake is done, until it ends or
    /// `closing` is cancelled (a newer connection of the same node, or the end of the recorder):
    /// then it returns soon, and leaves nothing half written.
    pub async fn serve(
        &self,
        connection: Framed<UnixStream, FrameCodec>,
        node: NodeName,
        boot: BootId,
        closing: CancellationToken,
    ) {
        drop((connection, node, boot));
        closing.cancelled().await;
    }
}
