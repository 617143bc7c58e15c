//! The first word on a connection, and whether its speaker may say it.

use std::fmt;

use futures_util::StreamExt;
use prost::Message;
use schemas::vocab::{BootId, NodeName, SpoolId};
use schemas::wire::{Frame, FrameKind, Hello, Lane, PROTOCOL, RejectCode};
use tokio::time::timeout;

use super::{Connection, End, Refusal, Shared};
use crate::log::SpoolOffer;

/// Longest `Hello`, in bytes.
pub(super) const MAX_HELLO: usize = 1024;

/// A peer that said who it is and may be it.
#[derive(Debug)]
pub(super) struct Hailed {
    pub(super) node: NodeName,
    pub(super) boot: BootId,
    pub(super) uid: u32,
    pub(super) lane: HailedLane,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum HailedLane {
    Accounting(SpoolOffer),
    Capture,
}

impl fmt::Display for Hailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, boot, uid, lane } = self;
        match lane {
            HailedLane::Accounting(spool) => {
                write!(f, "node {node} (boot {boot}, uid {uid}, spool {})", spool.id)
            }
            HailedLane::Capture => write!(f, "node {node} (boot {boot}, uid {uid}, capture lane)"),
        }
    }
}

/// Hears the `Hello`, within its deadline.
pub(super) async fn hear(connection: &mut Connection, shared: &Shared) -> Result<Hailed, End> {
    let uid = match connection.get_ref().peer_cred() {
        Ok(credentials) => credentials.uid(),
        Err(error) => return Err(End::Lost(format!("its credentials are not to be had: {error}"))),
    };
    let first = match timeout(shared.hello_within, connection.next()).await {
        Ok(Some(first)) => first?,
        Ok(None) => return Err(End::Lost("it said nothing".to_owned())),
        Err(_elapsed) => {
            let text = format!("no Hello within {:?}", shared.hello_within);
            return Err(End::Refused(Refusal::new(RejectCode::Malformed, text)));
        }
    };
    judge(&first, uid, shared).map_err(End::Refused)
}

fn judge(first: &Frame, uid: u32, shared: &Shared) -> Result<Hailed, Refusal> {
    let malformed = |text: String| Refusal::new(RejectCode::Malformed, text);
    if first.kind != FrameKind::Hello {
        let text = format!("it begins with a frame of kind {:?} instead of Hello", first.kind);
        return Err(malformed(text));
    }
    let hello = Hello::decode(&first.payload[..])
        .map_err(|error| malformed(format!("its Hello cannot be read: {error}")))?;
    if hello.protocol != PROTOCOL {
        let text = format!(
            "protocol {} is not supported, this recorder speaks protocol {PROTOCOL}",
            hello.protocol
        );
        return Err(Refusal::new(RejectCode::Protocol, text));
    }
    let node = hello.node.parse().map_err(|error| malformed(format!("its node: {error}")))?;
    let boot = hello.boot.parse().map_err(|error| malformed(format!("its boot: {error}")))?;
    let lane = match hello.lane() {
        Lane::Accounting => HailedLane::Accounting(SpoolOffer {
            id: SpoolId(hello.spool_id),
            first_frame: hello.first_frame,
            first_unacked: hello.first_unacked,
            acked_elsewhere: hello.is_acked_elsewhere(shared.log.id().0),
        }),
        Lane::Capture => HailedLane::Capture,
        Lane::Unspecified => return Err(malformed(format!("lane {} is not known", hello.lane))),
    };
    shared.peers.may_be(uid, &node).map_err(|text| Refusal::new(RejectCode::NotAllowed, text))?;
    Ok(Hailed { node, boot, uid, lane })
}
