//! What the admin socket sees of the running forwarder.

use std::collections::{BTreeMap, BinaryHeap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forwarder_core::accounting::LiveSession;
use forwarder_core::config::Service;
use schemas::vocab::{BootId, PerDirection, SessionId};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Answer, Complaint, MAX_SESSIONS, RecorderStatus, Reloaded, Request, ServiceStatus, SessionLine,
    SessionTotals, Sessions, SpoolStatus, Status, TableStatus,
};
use crate::accounting::{Account, SpoolState};
use crate::capture::CaptureLane;
use crate::clock::{Clock, micros};
use crate::link::accounting::LinkStatus;
use crate::log::LostLines;
use crate::names::NameCounters;
use crate::relay::{Counters, Tallied};
use crate::reload::Live;
use schemas::exit::{Exit, Failure};

/// Reloads that may wait for the one that runs; more are told to try again.
pub const RELOAD_QUEUE: usize = 4;

/// A wish to reload, and who waits for the outcome. Whoever owns the relay takes these one by one.
pub type ReloadWish = oneshot::Sender<Result<Reloaded, Failure>>;

/// Everything that answers are made of. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Inside {
    /// The configuration in force.
    pub live: Arc<Live>,
    /// The account.
    pub account: Account,
    /// The one clock.
    pub clock: Clock,
    /// When the forwarder began.
    pub started: Instant,
    /// What the data path counts.
    pub counters: Arc<Counters>,
    /// What looking up names counts.
    pub names: Arc<NameCounters>,
    /// The capture lane.
    pub capture: CaptureLane,
    /// Log lines that nobody will read.
    pub log_lines_lost: LostLines,
    /// The spool.
    pub spool: Arc<SpoolState>,
    /// The accounting lane's link.
    pub link: watch::Receiver<LinkStatus>,
    /// To whoever owns the relay.
    pub reloads: mpsc::Sender<ReloadWish>,
}

impl Inside {
    /// Answers a request. For [`Server::serve`](super::server::Server::serve).
    pub async fn answer(self, request: Request) -> Answer {
        match request {
            Request::Reload => match self.reload().await {
                Ok(reloaded) => Answer::Reload(reloaded),
                Err(failure) => complaint(failure),
            },
            // Both read the whole counter table, which may be large.
            Request::Status => off_loop(move || Answer::Status(Box::new(self.status()))).await,
            Request::Sessions { limit } => {
                off_loop(move || Answer::Sessions(self.sessions(limit))).await
            }
        }
    }

    async fn reload(&self) -> Result<Reloaded, Failure> {
        let (wish, outcome) = oneshot::channel();
        let stopping = || Failure::new(Exit::Unreachable, "the forwarder is stopping");
        self.reloads.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => stopping(),
            mpsc::error::TrySendError::Full(_) => {
                Failure::new(Exit::Unreachable, "other reloads are waiting; try again in a moment")
            }
        })?;
        outcome.await.map_err(|_| stopping())?
    }

    fn status(&self) -> Status {
        let config = self.live.config();
        let running = Running::count(self.account.live());
        let (accepted, refused) = self.account.opened_and_denied();
        let (used, size) = self.account.table_use();
        Status {
            node: config.node.to_string(),
            boot: self.account.boot().to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_s: self.clock.now().saturating_duration_since(self.started).as_secs(),
            config_file: self.live.file().display().to_string(),
            config_rev: config.revision.clone(),
            sessions: SessionTotals { current: running.all, accepted, refused },
            services: config.services.iter().map(|s| self.service(s, &running)).collect(),
            table: TableStatus { used: used as u64, size: size as u64 },
            spool: self.spool_status(),
            recorder: self.recorder_status(format!("unix:{}", config.recorder.socket.display())),
            counters: self.counted(),
        }
    }

    fn service(&self, service: &Service, running: &Running) -> ServiceStatus {
        let bound = self.live.bound();
        let listeners = service.listeners.iter().map(|listener| {
            let bound = bound.iter().find(|bound| bound.listener == *listener);
            let address = bound.map_or(listener.address, |bound| bound.address);
            format!("{}://{address}", listener.transport)
        });
        let (current, bytes) =
            running.by_service.get(service.name.as_str()).copied().unwrap_or_default();
        let Tallied { accepted, denied: refused, .. } = self.counters.of_service(&service.name);
        ServiceStatus {
            name: service.name.to_string(),
            listeners: listeners.collect(),
            sessions: SessionTotals { current, accepted, refused },
            live_bytes_up: bytes.up,
            live_bytes_down: bytes.down,
        }
    }

    fn spool_status(&self) -> SpoolStatus {
        let durable = *self.spool.durable.borrow();
        let acknowledged = self.spool.acknowledged.load(Ordering::Relaxed);
        // What the spool no longer holds needs no acknowledgement.
        let done = acknowledged.max(self.spool.oldest_frame().saturating_sub(1));
        SpoolStatus {
            directory: self.spool.dir.display().to_string(),
            bytes: self.spool.bytes(),
            max_bytes: self.spool.max_bytes,
            unacknowledged_frames: durable.saturating_sub(done),
        }
    }

    fn recorder_status(&self, endpoint: String) -> RecorderStatus {
        let link = self.link.borrow();
        let state = match (link.connected_since_us, &link.last_error) {
            (Some(_), _) => "connected".to_owned(),
            (None, Some(error)) => format!("away: {error}"),
            (None, None) => "not reached yet".to_owned(),
        };
        RecorderStatus { endpoint, state }
    }

    fn counted(&self) -> BTreeMap<String, u64> {
        let counters = &self.counters;
        let counted = [
            ("accept_pauses", &counters.accept_pauses),
            ("accept_failures", &counters.accept_failures),
            ("datagrams_unsent", &counters.datagrams_unsent),
            ("datagrams_undeliverable", &counters.datagrams_undeliverable),
            ("datagrams_paused", &counters.datagrams_paused),
            ("udp_sessions_refused", &counters.udp_sessions_refused),
            ("udp_replies_withheld", &counters.udp_replies_withheld),
            ("offload_refusals", &counters.offload_refusals),
            ("icmp_errors", &counters.icmp_errors),
            ("pipes_in_use", &counters.pipes_in_use),
            ("pipes_refused", &counters.pipes_refused),
            ("pipes_small", &counters.pipes_small),
            ("splice_denied", &counters.splice_denied),
            ("broken_sessions", &counters.broken_sessions),
        ];
        let value = |(name, counter): (&str, &std::sync::atomic::AtomicU64)| {
            (name.to_owned(), counter.load(Ordering::Relaxed))
        };
        let unwritten =
            counters.log_lines_dropped.load(Ordering::Relaxed) + self.log_lines_lost.count();
        let capture = self.capture.counts();
        let elsewhere = [
            ("log_lines_dropped", unwritten),
            ("capture_dropped_bytes", capture.dropped_bytes),
            ("capture_dropped_messages", capture.dropped_messages),
            ("capture_pipes_refused", capture.pipes_refused),
        ];
        let elsewhere = elsewhere.map(|(name, count)| (name.to_owned(), count));
        let names = self.names.all().map(|(name, count)| (name.to_owned(), count));
        counted.into_iter().map(value).chain(elsewhere).chain(names).collect()
    }

    fn sessions(&self, limit: u32) -> Sessions {
        let now_us = self.clock.wall(self.clock.now()).0;
        let (total, oldest) = oldest(self.account.live(), limit.min(MAX_SESSIONS));
        let boot = self.account.boot();
        let list = oldest.into_iter().map(|session| line(session, boot, now_us)).collect();
        Sessions { total, list }
    }
}

/// Runs what would hold up the control loop on a thread where that does not matter.
async fn off_loop(work: impl FnOnce() -> Answer + Send + 'static) -> Answer {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        complaint(Failure::new(Exit::Bug, format!("making the answer failed: {error}")))
    })
}

fn complaint(failure: Failure) -> Answer {
    Answer::Error(Complaint { exit: failure.exit.code(), message: failure.message })
}

/// The sessions that run, by service.
#[derive(Debug, Default)]
struct Running {
    all: u64,
    by_service: HashMap<String, (u64, PerDirection<u64>)>,
}

impl Running {
    fn count(sessions: impl Iterator<Item = LiveSession>) -> Self {
        let mut running = Self::default();
        for session in sessions {
            running.all += 1;
            let (count, bytes) = running.by_service.entry(session.service).or_default();
            *count += 1;
            *bytes += session.traffic.map(|traffic| traffic.bytes);
        }
        running
    }
}

/// A session in the order of its number, which is its age.
struct ByNumber(LiveSession);

impl PartialEq for ByNumber {
    fn eq(&self, other: &Self) -> bool {
        self.0.number == other.0.number
    }
}

impl Eq for ByNumber {}

impl PartialOrd for ByNumber {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByNumber {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.number.cmp(&other.0.number)
    }
}

/// How many sessions there are, and the `limit` oldest of them in order. Never holds more.
fn oldest(sessions: impl Iterator<Item = LiveSession>, limit: u32) -> (u64, Vec<LiveSession>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let (mut total, mut kept) = (0, BinaryHeap::new());
    for session in sessions {
        total += 1;
        kept.push(ByNumber(session));
        if kept.len() > limit {
            kept.pop();
        }
    }
    (total, kept.into_sorted_vec().into_iter().map(|ByNumber(session)| session).collect())
}

fn line(session: LiveSession, boot: BootId, now_us: i64) -> SessionLine {
    let age_us = u64::try_from(now_us.saturating_sub(session.ts_start.0)).unwrap_or(0);
    SessionLine {
        session: SessionId { boot, number: session.number }.to_string(),
        transport: session.transport.to_string(),
        service: session.service,
        rule: session.rule,
        customer: session.customer,
        client: session.client.to_string(),
        listen: session.listen.to_string(),
        target: session.target.map(|target| target.to_string()),
        connected: session.connected,
        age_s: age_us / micros(Duration::from_secs(1)),
        bytes_up: session.traffic.up.bytes,
        bytes_down: session.traffic.down.bytes,
    }
}

#[cfg(test)]
mod tests {
    use forwarder_core::accounting::Traffic;
    use schemas::vocab::{ClientAddr, ListenAddr, Timestamp, Transport};

    use super::*;

    fn session(number: u64, service: &str) -> LiveSession {
        let traffic = |bytes| Traffic { bytes, ..Traffic::default() };
        LiveSession {
            number,
            service: service.to_owned(),
            rule: "everyone".to_owned(),
            customer: None,
            transport: Transport::Tcp,
            client: ClientAddr::new("192.0.2.1:1000".parse().unwrap()),
            proxied_client: None,
            listen: ListenAddr::new("192.0.2.2:80".parse().unwrap()),
            target: None,
            ts_start: Timestamp(1_000_000),
            connected: false,
            traffic: PerDirection { up: traffic(number), down: traffic(10 * number) },
        }
    }

    #[test]
    fn the_oldest_sessions_are_listed_first_and_the_rest_only_counted() {
        let sessions = || [5, 3, 9, 1, 7].into_iter().map(|number| session(number, "web"));
        let numbers = |limit| {
            let (total, list) = oldest(sessions(), limit);
            (total, list.iter().map(|session| session.number).collect::<Vec<_>>())
        };
        assert_eq!(numbers(3), (5, vec![1, 3, 5]));
        assert_eq!(numbers(0), (5, vec![]));
        assert_eq!(numbers(100), (5, vec![1, 3, 5, 7, 9]));
    }

    #[test]
    fn running_sessions_are_summed_by_service() {
        let running =
            Running::count([session(1, "a"), session(2, "b"), session(3, "a")].into_iter());
        assert_eq!(running.all, 3);
        assert_eq!(running.by_service["a"], (2, PerDirection { up: 4, down: 40 }));
    }

    #[test]
    fn a_session_is_shown_by_its_full_name_and_age() {
        let boot: BootId = "k3f9x2ab".parse().unwrap();
        let line = line(session(42, "web"), boot, 76_999_999);
        assert_eq!((line.session.as_str(), line.age_s), ("k3f9x2ab-42", 75));
        assert_eq!((line.bytes_up, line.bytes_down), (42, 420));
    }
}
