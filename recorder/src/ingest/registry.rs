//! Which connection is the current one of a spool or of a node's capture lane: the newest wins.
//!
//! A node's name is taken while a forwarder is connected under it: another one, which is told by its
//! spool and its boot, is refused until that has gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use schemas::vocab::{BootId, NodeName, SpoolId};
use schemas::wire::RejectCode;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::handshake::{Hailed, HailedLane};
use super::{ConnectionStatus, End, Refusal};

/// How long the connection before may take to end.
const YIELD_WITHIN: Duration = Duration::from_secs(5);
/// When a forwarder whose name is taken may ask again.
const NAME_RETRY_MS: u32 = 1000;
/// How long a run that was connected is not taken for dead on the word of another.
const LIVES_FOR: Duration = Duration::from_secs(60);
/// Most such runs.
const RECENT: usize = 1024;

/// What there may be one connection of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    Spool(SpoolId),
    Capture(NodeName),
}

#[derive(Debug, Default)]
pub(super) struct Registry {
    slots: Slots,
}

type Slots = Arc<Mutex<Table>>;

#[derive(Debug, Default)]
struct Table {
    slots: HashMap<Key, Slot>,
    /// Runs whose account was received until a moment ago, at most [`RECENT`] of them.
    recent: Vec<Recent>,
}

#[derive(Debug)]
struct Recent {
    node: String,
    boot: String,
    spool: SpoolId,
    until: Instant,
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
    slots: Slots,
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
            let mut table = lock(&self.slots);
            admit(&table.slots, &key, hailed)?;
            let slot = table.slots.entry(key.clone()).or_insert_with(|| Slot {
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
        let mut table = lock(&self.slots);
        // Somebody may have come while this one waited for its turn.
        admit(&table.slots, &claim.key, hailed)?;
        if let Some(slot) = table.slots.get_mut(&claim.key) {
            slot.current = Some((status(hailed), Instant::now()));
        }
        drop(table);
        Ok(claim)
    }

    /// Whether the run of a node is connected with another spool than `spool`, or was within the
    /// last [`LIVES_FOR`]: a connection that is lost is made again within 30 s.
    pub(super) fn lives_elsewhere(&self, node: &NodeName, boot: BootId, spool: SpoolId) -> bool {
        let table = lock(&self.slots);
        let (node, boot, now) = (node.as_str(), boot.as_str(), Instant::now());
        let is_served = served(&table.slots)
            .any(|(of, status)| status.node == node && status.boot == boot && of != spool);
        let mut recent = table.recent.iter();
        is_served
            || recent.any(|run| {
                run.node == node && run.boot == boot && run.spool != spool && now < run.until
            })
    }

    pub(super) fn list(&self) -> Vec<ConnectionStatus> {
        let mut list: Vec<_> = lock(&self.slots)
            .slots
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
        let mut table = lock(&self.slots);
        let Table { slots, recent } = &mut *table;
        let Some(slot) = slots.get_mut(&self.key) else { return };
        let served = self.turn.take().and_then(|_turn| slot.current.take());
        if let (Key::Spool(spool), Some((status, _))) = (&self.key, served) {
            let now = Instant::now();
            recent.retain(|run| now < run.until && run.boot != status.boot);
            if recent.len() == RECENT {
                recent.remove(0);
            }
            let ConnectionStatus { node, boot, .. } = status;
            recent.push(Recent { node, boot, spool: *spool, until: now + LIVES_FOR });
        }
        // Nobody else holds or waits for the place.
        if Arc::strong_count(&slot.turn) == 1 {
            slots.remove(&self.key);
        }
    }
}

/// The accounts that are being received, each with its spool.
fn served(slots: &HashMap<Key, Slot>) -> impl Iterator<Item = (SpoolId, &ConnectionStatus)> {
    slots.iter().filter_map(|(key, slot)| match (key, &slot.current) {
        (Key::Spool(spool), Some((status, _))) => Some((*spool, status)),
        _ => None,
    })
}

/// Refuses a second forwarder by the name of one that is connected. The same spool is not judged
/// here: of its connections the newest wins.
fn admit(slots: &HashMap<Key, Slot>, key: &Key, hailed: &Hailed) -> Result<(), End> {
    let boot = hailed.boot.as_str();
    let mut others = served(slots).filter(|(spool, status)| {
        status.node == hailed.node.as_str() && status.boot != boot && *key != Key::Spool(*spool)
    });
    let Some((spool, status)) = others.next() else { return Ok(()) };
    let text = format!(
        "node {} is connected already, as boot {} with spool {spool}; give one of the two another \
         `node` in its forwarder.toml",
        status.node, status.boot
    );
    let refusal =
        Refusal { retry_after_ms: NAME_RETRY_MS, ..Refusal::new(RejectCode::NodeTaken, text) };
    Err(End::Refused(refusal))
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
