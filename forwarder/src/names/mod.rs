//! Names: of targets and in rules, of clients, and of network interfaces.
//!
//! One thread looks names up; everyone else asks it over bounded channels and waits for nothing but
//! its own question. The names of the configuration are followed in the background, so that no
//! session waits for them; the names of clients are looked up when a rule asks for them.

mod cache;
mod change;
mod counters;
mod follow;
mod interfaces;
mod lookups;
mod reverse;
mod thread;
mod wanted;
mod wire;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use forwarder_core::config::Config;
use forwarder_core::matching::{Book, Fact, ReverseNames};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};

pub use change::{Change, NameWatch};
pub use counters::NameCounters;

use crate::clock::Clock;
use crate::relay::{Descriptors, count};
use follow::Known;
use interfaces::Interfaces;
use thread::Ask;
use wanted::Wanted;

/// Questions that the names thread may be behind with. More are refused, and counted.
const ASKS: usize = 1024;

/// What the names of the configuration mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Directory {
    /// The addresses of host names, of targets and in rules. Absent: unknown, or not followed.
    pub(crate) hosts: Known,
    /// The host names that were looked up in vain.
    pub(crate) unknown: BTreeSet<Arc<str>>,
    /// What the rules need of it.
    pub(crate) book: Book,
    /// The addresses of the interfaces that are followed, perhaps none.
    pub(crate) interfaces: Interfaces,
}

/// What the names thread and those who ask it share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    directory: ArcSwap<Directory>,
    counters: Arc<NameCounters>,
}

/// Whom to ask about names. Cheap to clone; the names thread ends with the last of them.
#[derive(Debug, Clone)]
pub struct Names {
    asks: mpsc::Sender<Ask>,
    shared: Arc<Shared>,
    changes: watch::Receiver<Arc<Directory>>,
}

impl Names {
    /// Starts the names thread, which follows nothing yet.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptors for its runtime.
    pub fn start(clock: Clock) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (asks, inbox) = mpsc::channel(ASKS);
        let (directory, changes) = watch::channel(Arc::default());
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("names".to_owned())
            .spawn(move || thread::run(&runtime, inbox, own, directory, clock))?;
        Ok(Self { asks, shared, changes })
    }

    /// Follows the names of `config` (and those of `also`, and no others) from now on, and looks all
    /// of them up. Gives what they mean once that is done, and as far as known once
    /// `timeouts.resolve` has passed. The system's lists of servers and hosts are read again.
    pub async fn follow(&self, config: &Config, also: Option<&Config>) -> Arc<Directory> {
        let mut wanted = Wanted::by(config);
        if let Some(also) = also {
            wanted = wanted.and(Wanted::by(also));
        }
        let patience = wanted.servers.patience;
        let (told, settled) = oneshot::channel();
        // A dead thread tells nothing; what was known last is given then.
        let asked = async {
            drop(self.asks.send(Ask::Follow(Box::new(wanted), told)).await);
            drop(settled.await);
        };
        drop(timeout(patience, asked).await);
        self.directory()
    }

    /// Follows the names of `config` and no others from now on; what is known of them stays.
    pub async fn follow_only(&self, config: &Config) {
        drop(self.asks.send(Ask::Only(Box::new(Wanted::by(config)))).await);
    }

    /// What the followed names mean at the moment.
    pub fn directory(&self) -> Arc<Directory> {
        self.shared.directory.load_full()
    }

    /// Tells each change of what the followed names mean. It ends only with the names thread.
    pub fn changes(&self) -> watch::Receiver<Arc<Directory>> {
        self.changes.clone()
    }

    /// What is counted.
    pub fn counters(&self) -> &Arc<NameCounters> {
        &self.shared.counters
    }

    /// Lets questions take their descriptors from these.
    pub(crate) fn take_from(&self, descriptors: Descriptors) {
        // At a start nobody has asked anything else yet.
        drop(self.asks.try_send(Ask::TakeFrom(descriptors)));
    }

    /// The addresses of a followed host, IPv4 first; none if it has none. `None`: not known.
    pub(crate) fn addresses(&self, host: &str) -> Option<Arc<[IpAddr]>> {
        self.shared.directory.load().hosts.get(host).cloned()
    }

    /// The same, waiting until it is known or another lookup fails, at most until `deadline`
    /// (`None`: for as long as the lookup takes).
    pub(crate) async fn wait_for(
        &self,
        host: &str,
        deadline: Option<Instant>,
    ) -> Option<Arc<[IpAddr]>> {
        if let Some(known) = self.addresses(host) {
            return Some(known);
        }
        let (told, answer) = oneshot::channel();
        self.ask(Ask::Host(host.into(), told));
        until(deadline, answer).await.flatten()
    }

    /// Nobody could be dialled at a host's addresses: it is looked up again soon.
    pub(crate) fn dial_failed(&self, host: &str) {
        self.ask(Ask::Hurry(host.into()));
    }

    /// What reverse lookup says about a client, at the deadline that it is unknown. Never
    /// [`Fact::NotAsked`].
    pub(crate) async fn of_client(
        &self,
        client: IpAddr,
        deadline: Option<Instant>,
    ) -> Fact<Arc<ReverseNames>> {
        let (told, answer) = oneshot::channel();
        self.ask(Ask::Reverse(client.to_canonical(), told));
        until(deadline, answer).await.map_or(Fact::Unknown, |fact| fact.map(Arc::new))
    }

    /// An ask that does not get through goes unanswered, which whoever waits for it sees at once.
    fn ask(&self, ask: Ask) {
        if self.asks.try_send(ask).is_err() {
            count(&self.shared.counters.refused);
        }
    }
}

async fn until<T>(deadline: Option<Instant>, answer: oneshot::Receiver<T>) -> Option<T> {
    match deadline {
        Some(deadline) => timeout_at(deadline, answer).await.ok()?.ok(),
        None => answer.await.ok(),
    }
}
