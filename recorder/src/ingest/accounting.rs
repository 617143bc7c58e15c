//! The accounting lane: frames in the order of their numbers into the log, acknowledgements back.

use std::sync::atomic::Ordering::Relaxed;
use std::time::SystemTime;

use futures_util::StreamExt;
use prost::Message;
use schemas::table::Event;
use schemas::vocab::{BootId, InvalidName, NodeName, Severity, Timestamp, check_name};
use schemas::wire::{
    Ack, BootEnd, Frame, FrameKind, PROTOCOL, RejectCode, RowViews, Rows, Welcome,
};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::handshake::Hailed;
use super::registry::{Claim, Key};
use super::{Connection, End, Refusal, Shared, answer};
use crate::log::{SpoolOffer, Stream, Taken};

/// Serves one connection until it ends, and says why it did.
pub(super) async fn serve(
    connection: &mut Connection,
    hailed: &Hailed,
    spool: SpoolOffer,
    shared: &Shared,
    stopping: &CancellationToken,
) -> End {
    // The claim is dropped last: the next connection may ask for the mark when this stream is done.
    let claim = match shared.registry.claim(Key::Spool(spool.id), hailed, stopping).await {
        Ok(claim) => claim,
        Err(end) => return end,
    };
    let (node, boot) = (hailed.node.clone(), hailed.boot);
    let stream = match shared.log.stream(node, boot, spool).await {
        Ok(stream) => stream,
        Err(error) => return error.into(),
    };
    let held = stream.held();
    let welcome = Welcome {
        protocol: PROTOCOL,
        last_frame: held.map_or(0, |mark| mark.frame),
        last_crc: held.map_or(0, |mark| mark.crc),
        credit: 0,
        recorder_id: shared.log.id().0,
    };
    if let Err(end) = answer(connection, &Frame::message(FrameKind::Welcome, 0, &welcome)).await {
        return end;
    }
    tracing::info!("{hailed} is connected, we hold its frames through {}", welcome.last_frame);
    let mut lane = Lane { connection, stream, hailed, shared };
    let end = match lane.run(&claim, stopping).await {
        Ok(never) => match never {},
        Err(end) => end,
    };
    tracing::info!("{hailed} is disconnected");
    end
}

struct Lane<'a> {
    connection: &'a mut Connection,
    stream: Stream,
    hailed: &'a Hailed,
    shared: &'a Shared,
}

enum Never {}

impl Lane<'_> {
    async fn run(&mut self, claim: &Claim, stopping: &CancellationToken) -> Result<Never, End> {
        let closing = claim.closing();
        let mut progress = self.stream.progress();
        let mut heard = Instant::now();
        loop {
            // Every branch is cancel-safe: reading leaves half a frame in the buffer, the others
            // only wait.
            tokio::select! {
                () = closing.cancelled() => return Err(claim.superseded(stopping)),
                changed = progress.changed() => {
                    debug_assert!(changed.is_ok(), "the stream keeps the sender");
                    let durable = progress.borrow_and_update().clone()?;
                    self.acknowledge(durable).await?;
                }
                next = self.connection.next() => match next {
                    None => return Err(End::Lost("it closed the connection".to_owned())),
                    Some(frame) => {
                        heard = Instant::now();
                        let frame = frame?;
                        // Given up half way, the frame is not acknowledged and comes again.
                        tokio::select! {
                            taken = self.take(&frame) => taken?,
                            () = closing.cancelled() => return Err(claim.superseded(stopping)),
                        }
                    }
                },
                () = sleep_until(heard + self.shared.silence) => {
                    return Err(End::Lost(format!("silence for {:?}", self.shared.silence)));
                }
            }
        }
    }

    async fn take(&mut self, frame: &Frame) -> Result<(), End> {
        match frame.kind {
            FrameKind::Rows | FrameKind::BootEnd => self.take_frame(frame).await,
            FrameKind::Ping => answer(self.connection, &Frame::empty(FrameKind::Pong)).await,
            FrameKind::Pong => Ok(()),
            kind => {
                let text = format!("a frame of kind {kind:?} does not belong on this lane");
                Err(End::Refused(Refusal::new(RejectCode::Stream, text)))
            }
        }
    }

    async fn take_frame(&mut self, frame: &Frame) -> Result<(), End> {
        let doubt = self.check_author(frame).map_err(End::Refused)?;
        let mistaken = doubt.is_some();
        if let Some(doubt) = doubt {
            self.tell(doubt).await?;
        }
        let counters = &self.shared.counters;
        match self.stream.append(frame, mistaken).await? {
            Taken::New => {
                counters.frames.fetch_add(1, Relaxed);
                let bytes = u64::try_from(frame.encoded_len()).unwrap_or(u64::MAX);
                counters.bytes.fetch_add(bytes, Relaxed);
                Ok(())
            }
            Taken::Duplicate => {
                counters.duplicates.fetch_add(1, Relaxed);
                let durable = self.stream.progress().borrow().clone()?;
                self.acknowledge(durable).await
            }
            Taken::Gap { expected } => {
                let text = format!("frame {} came where {expected} should", frame.number);
                Err(End::Refused(Refusal::new(RejectCode::Stream, text)))
            }
        }
    }

    /// A frame's rows belong to the node it names, so the peer must be allowed to be that node:
    /// another than the one of its Hello, when it was renamed with frames in its spool. Gives the
    /// doubt when it ends a boot without knowing much of it, which is connected itself: whoever
    /// started with a copy of a spool takes its boot for dead.
    fn check_author(&self, frame: &Frame) -> Result<Option<String>, Refusal> {
        let number = frame.number;
        let malformed =
            |text: String| Refusal::new(RejectCode::Malformed, format!("frame {number}: {text}"));
        let payload = &frame.payload[..];
        let (node, boot, is_guess) = match frame.kind {
            FrameKind::BootEnd => {
                let end = BootEnd::decode(payload).map_err(|error| malformed(error.to_string()))?;
                (end.node, end.boot, !end.exact)
            }
            _ => {
                let mut rows = RowViews::default();
                rows.read(payload).map_err(|error| malformed(error.to_string()))?;
                check_names(&rows).map_err(|error| malformed(error.to_string()))?;
                (rows.node.to_owned(), rows.boot.to_owned(), false)
            }
        };
        let node: NodeName = node.parse().map_err(|error| malformed(format!("{error}")))?;
        let boot: BootId = boot.parse().map_err(|error| malformed(format!("{error}")))?;
        if node != self.hailed.node {
            let allowed = self.shared.peers.may_be(self.hailed.uid, &node);
            allowed.map_err(|text| Refusal::new(RejectCode::NotAllowed, text))?;
        }
        let registry = &self.shared.registry;
        let is_another = boot != self.hailed.boot;
        let spool = self.stream.spool();
        let mistaken = is_guess && is_another && registry.lives_elsewhere(&node, boot, spool);
        Ok(mistaken.then(|| {
            format!(
                "spool {spool} takes boot {boot} of {node} for dead, which is connected itself: it \
                 is a copy of that boot's spool, and its word is not taken"
            )
        }))
    }

    async fn tell(&self, message: String) -> Result<(), End> {
        self.shared.complaints.warn(&message);
        let event = Event {
            node: self.hailed.node.to_string(),
            boot: self.hailed.boot.to_string(),
            ts: Timestamp::from_system(SystemTime::now()).0,
            severity: Severity::Warning.as_str().to_owned(),
            kind: "boot_end_doubted".to_owned(),
            message,
            ..Event::default()
        };
        let rows = Rows { events: vec![event], ..Rows::default() };
        Ok(self.shared.log.append_rows(&rows).await?)
    }

    async fn acknowledge(&mut self, durable: u64) -> Result<(), End> {
        let ack = Frame::message(FrameKind::Ack, 0, &Ack { frame: durable });
        answer(self.connection, &ack).await
    }
}

/// The names in rows were names when the forwarder read its configuration; whether they still are
/// is not left to the peer, because people and programs make paths and commands of them.
fn check_names(rows: &RowViews<'_>) -> Result<(), InvalidName> {
    let services = rows.sessions.iter().map(|row| row.service);
    let services = services.chain(rows.usage.iter().map(|row| row.service));
    let services = services.chain(rows.denied.iter().map(|row| row.service));
    services.chain(rows.events.iter().filter_map(|row| row.service)).try_for_each(check_name)?;
    let rules = rows.sessions.iter().map(|row| row.rule);
    let rules = rules.chain(rows.usage.iter().map(|row| row.rule));
    let rules = rules.chain(rows.denied.iter().filter_map(|row| row.rule));
    rules.chain(rows.events.iter().filter_map(|row| row.rule)).try_for_each(check_name)?;
    let customers = rows.sessions.iter().map(|row| row.customer);
    let customers = customers.chain(rows.usage.iter().map(|row| row.customer));
    let customers = customers.chain(rows.denied.iter().map(|row| row.customer));
    customers.chain(rows.events.iter().map(|row| row.customer)).flatten().try_for_each(check_name)
}
