//! The data path: threads that accept, dial, move payload and count it.
//!
//! Each data thread has its own runtime, listeners and sessions; a session lives and dies on the
//! thread that accepted it. Threads share the plan in force, the account and a few counters, all
//! without locks.

mod admit;
mod asking;
mod association;
mod batches;
mod billing;
mod buffers;
mod controls;
mod counters;
mod descriptors;
mod door;
mod drops;
mod figures;
mod intake;
mod introduce;
mod leash;
mod log;
mod meter;
mod newcomers;
mod outlet;
mod pipes;
mod plan;
mod preread;
mod proof;
mod pump;
mod reach;
mod refuse;
mod rejudge;
mod relaying;
mod seats;
mod targets;
mod tcp;
mod thread;
mod ticks;
mod udp;
mod volley;
mod waiting;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use forwarder_core::config::{Config, Listener, Tcp, listener_changes};
use forwarder_core::matching::Book;
use forwarder_core::session::Route;
use forwarder_sys::datagram;
use futures_util::future::select_all;
use schemas::vocab::ServiceName;
use tokio::sync::watch as watched;
use tokio::time::Instant;

use crate::accounting::Account;
use crate::capture::CaptureLane;
use crate::clock::Clock;
use crate::dial;
use crate::health::Registry;
use crate::limits::Limits;
use crate::listener::{BindError, Bound, Group, Opened};
use crate::names::Names;

pub use controls::Controls;
pub use counters::{Counters, Tallied};
pub use intake::{Intake, Intakes};
pub use leash::Selection;
pub use plan::NamesFull;
pub use rejudge::Rejudged;

use plan::{Lasting, Plan};
use thread::{Order, ThreadHandle};

pub(crate) use counters::count;
pub(crate) use descriptors::{Descriptors, Permit};
pub(crate) use figures::{Flow, Histogram, RuleCounts, ServiceCounts};
pub(crate) use tcp::accepted;
pub(crate) use thread::DataThread;
pub(crate) use udp::Desk;
pub(crate) use watch::watch;

/// Descriptors a data thread needs besides listeners and sessions: epoll, timers, wakers, its capture
/// pipe.
const DESCRIPTORS_PER_THREAD: usize = 10;

/// Pipes that a data thread may have: as many flows of it can splice at once.
const PIPES_PER_THREAD: usize = 512;

/// UDP associations that a data thread keeps; beyond them new clients are refused.
const ASSOCIATIONS_PER_THREAD: usize = 16_384;

/// How payload is moved.
#[derive(Debug, Clone, Copy)]
pub struct Tuning {
    /// The ways that sessions may go.
    pub route: Route,
    /// Pipes that a data thread may have; flows that get none copy.
    pub pipes: usize,
    /// Runs of datagrams may go to the kernel as one message each.
    pub segmentation: bool,
    /// UDP associations that a data thread keeps; beyond them new clients are refused.
    pub associations: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            route: Route::Adaptive,
            pipes: PIPES_PER_THREAD,
            segmentation: datagram::can_segment(),
            associations: ASSOCIATIONS_PER_THREAD,
        }
    }
}

/// What all data threads share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) account: Account,
    pub(crate) capture: CaptureLane,
    pub(crate) clock: Clock,
    pub(crate) tuning: Tuning,
    pub(crate) plan: ArcSwap<Plan>,
    pub(crate) intakes: watched::Sender<Intakes>,
    pub(crate) descriptors: Descriptors,
    pub(crate) names: Names,
    pub(crate) counters: Arc<Counters>,
    pub(crate) targets: Arc<Registry>,
    pub(crate) limits: Arc<Limits>,
}

/// Why relaying cannot begin, or cannot go on with another configuration.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The account has no room for the configuration's names.
    #[error(transparent)]
    Names(#[from] NamesFull),
    /// The system gave no thread.
    #[error("cannot start a data thread: {0}; raise the limit of processes (ulimit -u)")]
    Thread(std::io::Error),
}

/// A data thread ended though nobody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("data thread {0} died; its sessions are lost, this is a bug of ours")]
pub struct ThreadDied(pub usize);

/// The running data path.
#[derive(Debug)]
pub struct Relay {
    shared: Arc<Shared>,
    threads: Vec<ThreadHandle>,
    bound: Vec<Bound>,
    book: Book,
}

impl Relay {
    /// Begins to serve what is bound to `config`'s listeners.
    ///
    /// # Errors
    /// A name does not fit, or the system gives no thread.
    pub fn start(
        config: &Config,
        bindings: Bindings,
        account: Account,
        capture: CaptureLane,
        names: Names,
        clock: Clock,
        tuning: Tuning,
    ) -> Result<Self, RelayError> {
        let Bindings { mut groups, threads } = bindings;
        let bound: Vec<_> = groups.iter().map(Group::bound).collect();
        let counters = Arc::new(Counters::new(threads));
        let limits = Arc::new(Limits::open(&config.recorder.spool, clock));
        let name_id = |name: &str| account.name_id(name);
        let book = names.directory().book.clone();
        let targets = Arc::new(Registry::new(clock.now()));
        let lasting = Lasting { counters: &counters, targets: &targets, limits: &limits };
        let plan = Plan::new(config, &book, &bound, &lasting, name_id)?;
        targets.put_in_force(&plan.known);
        limits.put_in_force(config);
        let held = threads * (groups.len() + DESCRIPTORS_PER_THREAD);
        let descriptors = Descriptors::raise_limit(held);
        names.take_from(descriptors);
        let shared = Arc::new(Shared {
            account,
            capture,
            clock,
            tuning,
            plan: ArcSwap::from_pointee(plan),
            intakes: watched::Sender::default(),
            descriptors,
            names,
            counters,
            targets,
            limits,
        });
        let threads = (0..threads)
            .map(|number| ThreadHandle::spawn(number, Arc::clone(&shared), share(&mut groups)))
            .collect::<Result<_, _>>()
            .map_err(RelayError::Thread)?;
        Ok(Self { shared, threads, bound, book })
    }

    /// Puts another configuration in force: binds the listeners it adds, closes those it drops,
    /// leaves the others alone. Running sessions go on. On error everything stays as it was.
    ///
    /// # Errors
    /// A new listener cannot be bound, or a name does not fit.
    pub async fn reload(&mut self, config: &Config) -> Result<(), RelayError> {
        let plan = self.shared.plan.load_full();
        let changes = listener_changes(&plan.config, config);
        let mut groups = bind_all(changes.added.into_iter(), self.threads.len(), &config.tcp)?;
        let dropped: Vec<_> = changes.removed.into_iter().map(|(listener, _)| listener).collect();
        let mut bound = self.bound.clone();
        bound.retain(|bound| !dropped.contains(&bound.listener));
        bound.extend(groups.iter().map(Group::bound));
        let name_id = |name: &str| self.shared.account.name_id(name);
        let Shared { counters, targets, limits, names, .. } = &*self.shared;
        let book = names.directory().book.clone();
        let lasting = Lasting { counters, targets, limits };
        let plan = Plan::new(config, &book, &bound, &lasting, name_id)?;
        targets.put_in_force(&plan.known);
        limits.put_in_force(config);
        self.shared.plan.store(Arc::new(plan));
        self.bound = bound;
        self.book = book;
        let is_bound = |listener: &Listener| self.bound.iter().any(|b| b.listener == *listener);
        self.shared.intakes.send_modify(|intakes| intakes.keep_only(is_bound));
        for thread in &self.threads {
            let (add, remove) = (share(&mut groups), dropped.clone());
            thread.order(Order::Listen { add, remove }).await;
        }
        Ok(())
    }

    /// Puts in force what the names of the configuration mean by now.
    pub fn follow_names(&mut self) {
        let directory = self.shared.names.directory();
        if directory.book != self.book {
            self.set_book(directory.book.clone());
        }
    }

    /// What the names in the rules mean from now on.
    pub fn set_book(&mut self, book: Book) {
        self.book = book;
        let plan = self.shared.plan.load().with_book(&self.book);
        self.shared.plan.store(Arc::new(plan));
    }

    /// A way into the running relay.
    pub fn controls(&self) -> Controls {
        let threads = self.threads.iter().map(ThreadHandle::orders).collect();
        Controls::new(&self.shared, threads)
    }

    /// The listeners and the addresses they are bound to.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// What is known of the targets.
    pub fn targets(&self) -> &Arc<Registry> {
        &self.shared.targets
    }

    /// The limits that sessions share.
    pub fn limits(&self) -> &Arc<Limits> {
        &self.shared.limits
    }

    /// What was counted besides sessions.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.shared.counters
    }

    /// Waits until a data thread ends by itself. Cancel-safe.
    pub async fn died(&mut self) -> ThreadDied {
        let ended = self.threads.iter_mut().map(|thread| Box::pin(thread.ended()));
        let (_, number, _) = select_all(ended).await;
        ThreadDied(number)
    }

    /// Stops listening and waits until every TCP session has ended, at most `patience` (zero:
    /// without end); what is left then ends as `drained`, UDP associations at once.
    ///
    /// # Errors
    /// A data thread died.
    pub async fn drain(&mut self, patience: Duration) -> Result<(), ThreadDied> {
        self.end(dial::deadline(patience)).await
    }

    /// Ends every session now, also after [`Relay::drain`] was given up.
    ///
    /// # Errors
    /// A data thread died.
    pub async fn cut(&mut self) -> Result<(), ThreadDied> {
        self.end(Some(Instant::now())).await
    }

    async fn end(&mut self, deadline: Option<Instant>) -> Result<(), ThreadDied> {
        for thread in &self.threads {
            thread.order(Order::Drain { deadline }).await;
        }
        for (number, thread) in self.threads.iter_mut().enumerate() {
            thread.ended().await.map_err(|_| ThreadDied(number))?;
        }
        Ok(())
    }
}

/// The listeners of a configuration, bound and not served yet.
#[derive(Debug)]
pub struct Bindings {
    groups: Vec<Group>,
    threads: usize,
}

impl Bindings {
    /// Binds every listener of `config`, or none, for so many data threads, one at least.
    ///
    /// # Errors
    /// A listener cannot be bound.
    pub fn bind(config: &Config, threads: usize) -> Result<Self, BindError> {
        let threads = threads.max(1);
        let all = config.services.iter().flat_map(|service| {
            service.listeners.iter().map(|&listener| (listener, service.name.clone()))
        });
        Ok(Self { groups: bind_all(all, threads, &config.tcp)?, threads })
    }
}

fn bind_all(
    listeners: impl Iterator<Item = (Listener, ServiceName)>,
    threads: usize,
    tcp: &Tcp,
) -> Result<Vec<Group>, BindError> {
    listeners.map(|(listener, service)| Group::bind(listener, &service, threads, tcp)).collect()
}

/// One socket of each group, for one thread.
fn share(groups: &mut [Group]) -> Vec<Opened> {
    groups.iter_mut().filter_map(Group::take).collect()
}
