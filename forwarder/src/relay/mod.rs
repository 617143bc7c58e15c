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
mod interfaces;
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

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use forwarder_core::config::{Config, Listener, listener_changes};
use forwarder_core::session::Route;
use forwarder_sys::datagram;
use futures_util::future::select_all;
use tokio::sync::watch as watched;
use tokio::time::Instant;

use crate::accounting::Account;
use crate::capture::CaptureLane;
use crate::clock::Clock;
use crate::dial;
use crate::health::Registry;
use crate::limits::Limits;
use crate::listener::{BindError, Bound, Group, Opened};
use crate::names::{Directory, Names};

pub use controls::Controls;
pub use counters::Counters;
pub use figures::Tallied;
pub use intake::{Intake, Intakes};
pub use interfaces::ListenerNews;
pub use leash::{Holder, Selection, Sight};
pub use plan::NamesFull;
pub use rejudge::Rejudged;

use interfaces::{Attempt, Expanded, Unbindable};
use plan::{Lasting, Plan};
use thread::{Order, ThreadHandle};

pub(crate) use counters::count;
pub(crate) use descriptors::{Descriptors, Permit};
pub(crate) use figures::{Flow, FlowTotals, Histogram, RuleCounts, ServiceCounts};
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

/// Clients that a data thread lets wait at the door, and as many that may be on their way out: those
/// who do nothing cannot have all descriptors.
const PLACES_PER_THREAD: usize = 4096;

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
    /// Clients about whom something is to be found out first that a data thread has room for;
    /// beyond them such clients are refused.
    pub places: usize,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            route: Route::Adaptive,
            pipes: PIPES_PER_THREAD,
            segmentation: datagram::can_segment(),
            associations: ASSOCIATIONS_PER_THREAD,
            places: PLACES_PER_THREAD,
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
    /// As its file says it.
    config: Config,
    /// What its names mean.
    directory: Arc<Directory>,
    /// Listeners that are there because an interface has their address.
    by_interface: HashSet<Listener>,
    news: ListenerNews,
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
        let Bindings { expanded, attempt, directory, threads } = bindings;
        let mut groups = attempt.groups;
        let bound: Vec<_> = groups.iter().map(Group::bound).collect();
        let counters = Arc::new(Counters::new(threads));
        let limits = Arc::new(Limits::open(&config.recorder.spool, clock));
        let name_id = |name: &str| account.name_id(name);
        let targets = Arc::new(Registry::new(clock.now()));
        let lasting = Lasting { counters: &counters, targets: &targets, limits: &limits };
        let plan = Plan::new(&expanded.config, &directory.book, &bound, &lasting, name_id)?;
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
        let mut news = ListenerNews::default();
        news.failed(attempt.failed);
        news.look(config, &directory);
        let by_interface = expanded.into_by_interface();
        let config = config.clone();
        Ok(Self { shared, threads, bound, config, directory, by_interface, news })
    }

    /// Puts another configuration in force: binds the listeners it adds, closes those it drops,
    /// leaves the others alone. Running sessions go on. On error everything stays as it was.
    ///
    /// # Errors
    /// A new listener cannot be bound, or a name does not fit.
    pub async fn reload(&mut self, config: &Config) -> Result<(), RelayError> {
        self.put_in_force(config, Unbindable::Await).await?;
        self.config = config.clone();
        Ok(())
    }

    /// Puts in force what the names of the configuration mean by now, and tries again to bind what
    /// could not be bound.
    ///
    /// # Errors
    /// A name does not fit.
    pub async fn follow_names(&mut self) -> Result<(), RelayError> {
        let directory = self.shared.names.directory();
        let interfaces = directory.interfaces != self.directory.interfaces;
        if interfaces || self.news.is_to_be_tried_again() {
            let config = self.config.clone();
            self.put_in_force(&config, Unbindable::Retry).await?;
        } else if directory.book != self.directory.book {
            let plan = self.shared.plan.load().with_book(&directory.book);
            self.shared.plan.store(Arc::new(plan));
        }
        self.directory = directory;
        Ok(())
    }

    async fn put_in_force(
        &mut self,
        config: &Config,
        unbindable: Unbindable,
    ) -> Result<(), RelayError> {
        let directory = self.shared.names.directory();
        let mut expanded = Expanded::of(config, &directory);
        let changes = listener_changes(&self.shared.plan.load().config, &expanded.config);
        let threads = self.threads.len();
        let attempt = expanded.bind(changes.added, threads, &config.tcp, unbindable)?;
        let mut groups = attempt.groups;
        let dropped: Vec<_> = changes.removed.into_iter().map(|(listener, _)| listener).collect();
        self.news.failed(attempt.failed);
        self.news.look(config, &directory);
        let is_same = groups.is_empty() && dropped.is_empty();
        if unbindable == Unbindable::Retry && is_same && directory.book == self.directory.book {
            return Ok(());
        }
        let mut bound = self.bound.clone();
        bound.retain(|bound| !dropped.contains(&bound.listener));
        bound.extend(groups.iter().map(Group::bound));
        let name_id = |name: &str| self.shared.account.name_id(name);
        let Shared { counters, targets, limits, .. } = &*self.shared;
        let lasting = Lasting { counters, targets, limits };
        let plan = Plan::new(&expanded.config, &directory.book, &bound, &lasting, name_id)?;
        targets.put_in_force(&plan.known);
        limits.put_in_force(config);
        self.shared.plan.store(Arc::new(plan));
        let is_bound = |listener: &Listener| bound.iter().any(|b| b.listener == *listener);
        self.shared.intakes.send_modify(|intakes| intakes.keep_only(is_bound));
        for group in &groups {
            if expanded.is_by_interface(&group.bound().listener) {
                self.news.opened(group.bound());
            }
        }
        let by_interface = dropped.iter().filter(|dropped| self.by_interface.contains(dropped));
        by_interface.for_each(|dropped| self.news.closed(*dropped));
        self.by_interface = expanded.into_by_interface();
        self.bound = bound;
        self.directory = directory;
        for thread in &self.threads {
            let (add, remove) = (share(&mut groups), dropped.clone());
            thread.order(Order::Listen { add, remove }).await;
        }
        Ok(())
    }

    /// What happened to listeners by interface name.
    pub fn news(&mut self) -> &mut ListenerNews {
        &mut self.news
    }

    /// A way into the running relay.
    pub fn controls(&self) -> Controls {
        let threads = self.threads.iter().map(ThreadHandle::orders).collect();
        Controls::new(&self.shared, threads)
    }

    /// The configuration in force, with a listener for each address of its interfaces.
    pub fn in_force(&self) -> Arc<Config> {
        Arc::clone(&self.shared.plan.load().config)
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
    expanded: Expanded,
    attempt: Attempt,
    directory: Arc<Directory>,
    threads: usize,
}

impl Bindings {
    /// Binds every listener of `config`, or none, for so many data threads, one at least; those by
    /// interface name at the addresses of `directory` that are ready.
    ///
    /// # Errors
    /// A listener cannot be bound.
    pub fn bind(
        config: &Config,
        directory: Arc<Directory>,
        threads: usize,
    ) -> Result<Self, BindError> {
        let threads = threads.max(1);
        let mut expanded = Expanded::of(config, &directory);
        let all = expanded.config.services.iter().flat_map(|service| {
            service.listeners.iter().map(|&listener| (listener, service.name.clone()))
        });
        let attempt = expanded.bind(all.collect(), threads, &config.tcp, Unbindable::Await)?;
        Ok(Self { expanded, attempt, directory, threads })
    }
}

/// One socket of each group, for one thread.
fn share(groups: &mut [Group]) -> Vec<Opened> {
    groups.iter_mut().filter_map(Group::take).collect()
}
