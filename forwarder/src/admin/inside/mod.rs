//! What the admin socket sees of the running forwarder, and does to it.

mod limits;
mod orders;
mod sessions;
mod status;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{mpsc, oneshot, watch};

use super::{Answer, Complaint, MAX_SESSIONS, Reloaded, Request};
use crate::accounting::{Account, SpoolState};
use crate::capture::CaptureLane;
use crate::clock::Clock;
use crate::health::Registry;
use crate::limits::Limits;
use crate::link::accounting::LinkStatus;
use crate::log::LostLines;
use crate::names::NameCounters;
use crate::relay::{Controls, Counters};
use crate::reload::Live;
use schemas::exit::{Exit, Failure};

pub use sessions::Look;

/// Reloads that may wait for the one that runs; more are told to try again.
pub const RELOAD_QUEUE: usize = 4;

/// A wish to reload. Whoever owns the relay takes these one by one.
#[derive(Debug)]
pub struct ReloadWish {
    /// To ask the new rules about the sessions that run, too.
    pub apply_to_running: bool,
    /// Who waits for the outcome.
    pub answer_to: oneshot::Sender<Result<Reloaded, Failure>>,
}

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
    /// The way into the data path.
    pub controls: Controls,
    /// The targets.
    pub targets: Arc<Registry>,
    /// The limits.
    pub limits: Arc<Limits>,
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
    /// What the sessions had delivered when somebody looked last.
    pub last_look: Arc<Mutex<Option<Look>>>,
}

impl Inside {
    /// Answers a request. For [`Server::serve`](super::server::Server::serve).
    pub async fn answer(self, request: Request) -> Answer {
        let answer = match request {
            // It reads the whole counter table, which may be large.
            Request::Status => {
                let sights = self.controls.sights().await;
                off_loop(move || Ok(Answer::Status(Box::new(self.status(&sights))))).await
            }
            Request::Sessions { filter, sort, limit } => {
                self.sessions(filter, sort, limit).await.map(Answer::Sessions)
            }
            Request::Session { session } => {
                self.session(&session).await.map(|detail| Answer::Session(Box::new(detail)))
            }
            Request::Kill { sessions, filter } => {
                self.kill(&sessions, filter).await.map(Answer::Kill)
            }
            Request::Limits { rule, limit } => {
                let limits = move || self.limits_in_use(rule.as_deref(), limit.min(MAX_SESSIONS));
                off_loop(move || Ok(Answer::Limits(limits()))).await
            }
            Request::Pause { which } => self.pause(&which, true).map(Answer::Intake),
            Request::Resume { which } => self.pause(&which, false).map(Answer::Intake),
            Request::Drain { cancel } => Ok(Answer::Drain(self.drain(!cancel))),
            Request::Reload { apply_to_running } => {
                self.reload(apply_to_running).await.map(Answer::Reload)
            }
        };
        answer.unwrap_or_else(complaint)
    }

    async fn reload(&self, apply_to_running: bool) -> Result<Reloaded, Failure> {
        let (answer_to, outcome) = oneshot::channel();
        let stopping = || Failure::new(Exit::Unreachable, "the forwarder is stopping");
        let wish = ReloadWish { apply_to_running, answer_to };
        self.reloads.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Closed(_) => stopping(),
            mpsc::error::TrySendError::Full(_) => {
                Failure::new(Exit::Unreachable, "other reloads are waiting; try again in a moment")
            }
        })?;
        outcome.await.map_err(|_| stopping())?
    }
}

/// Runs what would hold up the control loop on a thread where that does not matter.
async fn off_loop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Failure::new(Exit::Bug, format!("making the answer failed: {error}")))
    })
}

fn complaint(failure: Failure) -> Answer {
    Answer::Error(Complaint { exit: failure.exit.code(), message: failure.message })
}
