//! Which connection is the current one of a spool or of a node's capture lane: the newest wins.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::vocab::{NodeName, SpoolId};
use schemas::wire::RejectCode;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::handshake::{Hailed, HailedLane};
use super::{ConnectionStatus, End, Refusal};

/// How long the connection before may take to end.
const YIELD_WITHIN: Duration = Duration::from_secs(5);

/// What there may be one connection of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Spool(SpoolId),
    Capture(NodeName),
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Arc<Mutex<HashMap<Key, Slot>>>,
}

#[derive(Debug)]
struct Slot {
    /// Held by the connection that is being served; the newest waits for it.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Ends the newest.
    closing: CancellationToken,
    /// The one that is being served.
    current: Option<(ConnectionStatus, Instant)>,
}

/// The right of one connection to be served. Dropping it ends the right.
#[derive(Debug)]
pub(super) struct Claim {
    slots: Arc<Mutex<HashMap<Key, Slot>>>,
    key: Key,
    closing: CancellationToken,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Registry {
    /// Ends the connection that has `key`, waits for its end, and takes its place.
    pub(super) async fn claim(
        &self,
        key: Key,
        hailed: &Hailed,
        parent: &CancellationToken,
    ) -> Result<Claim, End> {
        let closing = parent.child_token();
        let turn = {
            let mut slots = lock(&self.slots);
            let slot = slots.entry(key.clone()).or_insert_with(|| Slot {
                turn: Arc::default(),
                closing: CancellationToken::new(),
                current: None,
            });
            std::mem::replace(&mut slot.closing, closing.clone()).cancel();
            Arc::clone(&slot.turn)
        };
        let mut claim = Claim { slots: Arc::clone(&self.slots), key, closing, turn: None };
        let Ok(turn) = timeout(YIELD_WITHIN, turn.lock_owned()).await else {
            let text = "the connection before this one has not ended yet";
            return Err(End::Refused(Refusal::new(RejectCode::Stream, text)));
        };
        claim.turn = Some(turn);
        if claim.closing.is_cancelled() {
            return Err(claim.superseded(parent));
        }
        if let Some(slot) = lock(&self.slots).get_mut(&claim.key) {
            slot.current = Some((status(hailed), Instant::now()));
        }
        Ok(claim)
    }

    pub(super) fn list(&self) -> Vec<ConnectionStatus> {
        let mut list: Vec<_> = lock(&self.slots)
            .values()
            .filter_map(|slot| slot.current.as_ref())
            .map(|(status, since)| ConnectionStatus {
                seconds: since.elapsed().as_secs(),
                ..status.clone()
            })
            .collect();
        list.sort_by(|a, b| (&a.node, a.lane, &a.spool).cmp(&(&b.node, b.lane, &b.spool)));
        list
    }
}

impl Claim {
    /// Cancelled when a newer connection wants the place, or the recorder stops.
    pub(super) fn closing(&self) -> CancellationToken {
        self.closing.clone()
    }

    /// Why `closing` was cancelled.
    pub(super) fn superseded(&self, parent: &CancellationToken) -> End {
        if parent.is_cancelled() {
            return End::Refused(Refusal::stopping());
        }
        let text = "a newer connection of the same forwarder took over";
        End::Refused(Refusal::new(RejectCode::Stream, text))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = lock(&self.slots);
        let Some(slot) = slots.get_mut(&self.key) else { return };
        if self.turn.take().is_some() {
            slot.current = None;
        }
        // Nobody else holds or waits for the place.
        if Arc::strong_count(&slot.turn) == 1 {
            slots.remove(&self.key);
        }
    }
}

fn status(hailed: &Hailed) -> ConnectionStatus {
    let (lane, spool) = match &hailed.lane {
        HailedLane::Accounting(hailed) => ("accounting", Some(hailed.id.to_string())),
        HailedLane::Capture => ("capture", None),
    };
    ConnectionStatus {
        node: hailed.node.to_string(),
        boot: hailed.boot.to_string(),
        lane,
        spool,
        seconds: 0,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
