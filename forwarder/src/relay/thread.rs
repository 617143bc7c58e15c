//! Data threads: one runtime each, with listeners and sessions that never leave it.

use std::cell::Cell;
use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use forwarder_core::config::Listener;
use forwarder_core::matching::{Fact, ReverseNames};
use schemas::vocab::Transport;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::{JoinSet, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::asking::Asking;
use super::batches::Batches;
use super::buffers::Buffers;
use super::controls::Errand;
use super::leash::Leashes;
use super::log::{Log, LogBudgets};
use super::pipes::Pipes;
use super::preread::Porch;
use super::ticks::{TICK, Ticks};
use super::waiting::Room;
use crate::capture::Inlet;
use crate::dial;
use crate::listener::{self, Opened};

/// Orders a data thread may be behind with; whoever gives more waits.
const ORDERS: usize = 8;

/// What control tells a data thread.
#[derive(Debug)]
pub(crate) enum Order {
    /// Serve some listeners, close others.
    Listen {
        /// Sockets to serve.
        add: Vec<Opened>,
        /// Listeners to close once they are accepted empty.
        remove: Vec<Listener>,
    },
    /// Do something else.
    Run(Errand),
    /// Close every listener, wait for TCP sessions until the deadline, then end.
    Drain {
        /// `None`: wait for as long as they take.
        deadline: Option<Instant>,
    },
}

/// A data thread as control sees it.
#[derive(Debug)]
pub(crate) struct ThreadHandle {
    orders: mpsc::Sender<Order>,
    /// `None`: it has ended in order.
    ended: Option<oneshot::Receiver<()>>,
}

impl ThreadHandle {
    /// Starts a thread that serves `opened`.
    ///
    /// # Errors
    /// The system gives no thread, or no descriptors for its runtime.
    pub(crate) fn spawn(
        number: usize,
        shared: Arc<Shared>,
        opened: Vec<Opened>,
    ) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (orders, inbox) = mpsc::channel(ORDERS);
        let (farewell, ended) = oneshot::channel();
        std::thread::Builder::new().name(format!("data-{number}")).spawn(move || {
            let local = LocalSet::new();
            let thread =
                Rc::new(DataThread::new(u16::try_from(number).unwrap_or(u16::MAX), shared));
            local.block_on(&runtime, async {
                // A task like the others, or it would be polled whenever one of them is.
                rethrow(spawn_local(serve(thread, opened, inbox)).await);
            });
            // Ends the sessions that are left, before the farewell says that all have ended.
            drop(local);
            if farewell.send(()).is_err() {
                tracing::debug!(thread = number, "control did not wait for this thread");
            }
        })?;
        Ok(Self { orders, ended: Some(ended) })
    }

    /// Where the thread takes orders.
    pub(crate) fn orders(&self) -> mpsc::Sender<Order> {
        self.orders.clone()
    }

    /// Gives an order. A thread that died takes none; [`ThreadHandle::ended`] tells.
    pub(crate) async fn order(&self, order: Order) {
        drop(self.orders.send(order).await);
    }

    /// Waits for the thread's end; once it has ended in order, also again.
    ///
    /// # Errors
    /// The thread panicked.
    pub(crate) async fn ended(&mut self) -> Result<(), Panicked> {
        if let Some(ended) = &mut self.ended {
            ended.await.map_err(|_| Panicked)?;
            self.ended = None;
        }
        Ok(())
    }
}

/// A data thread did not end in order.
#[derive(Debug)]
pub(crate) struct Panicked;

/// What a data thread's tasks share. None of it leaves the thread.
#[derive(Debug)]
pub(crate) struct DataThread {
    /// Which of them it is, from 0.
    pub(crate) number: u16,
    pub(crate) shared: Arc<Shared>,
    pub(crate) buffers: Buffers,
    pub(crate) batches: Batches,
    /// Where captured payload goes.
    pub(crate) capture: Inlet,
    pub(crate) pipes: Rc<Pipes>,
    /// Room for clients about whom something is to be found out first.
    pub(crate) porch: Rc<Porch>,
    /// Room for clients that were refused, until they have left.
    pub(crate) exit: Rc<Porch>,
    pub(crate) ticks: Rc<Ticks>,
    /// Every session that runs.
    pub(crate) leashes: Rc<Leashes>,
    /// UDP associations alive.
    pub(crate) associations: Cell<usize>,
    /// Places for UDP clients whose names are looked up.
    pub(crate) asking: Asking,
    /// Room for datagrams whose target's name is looked up.
    pub(crate) waiting_room: Room,
    log: LogBudgets,
    running: Cell<usize>,
    none_running: Notify,
}

impl DataThread {
    fn new(number: u16, shared: Arc<Shared>) -> Self {
        let log = LogBudgets::new(shared.clock.now());
        let capture = shared.capture.inlet();
        let places = shared.tuning.places;
        let pipes = Pipes::new(shared.tuning.pipes, shared.descriptors, &shared.counters);
        Self {
            number,
            shared,
            capture,
            buffers: Buffers::default(),
            batches: Batches::default(),
            pipes,
            porch: Rc::new(Porch::with(places)),
            exit: Rc::new(Porch::with(places)),
            ticks: Rc::default(),
            leashes: Rc::default(),
            associations: Cell::new(0),
            asking: Asking::default(),
            waiting_room: Room::default(),
            log,
            running: Cell::new(0),
            none_running: Notify::new(),
        }
    }

    /// Where this thread's log lines go.
    pub(crate) fn log(&self, now: std::time::Instant) -> Log<'_> {
        Log { budgets: &self.log, counters: &self.shared.counters, now }
    }

    /// What reverse lookup says about a client, within `timeouts.resolve`.
    pub(crate) async fn names_of(&self, client: IpAddr) -> Fact<Arc<ReverseNames>> {
        let patience = self.shared.plan.load().config.timeouts.resolve;
        self.shared.names.of_client(client, dial::deadline(patience)).await
    }

    /// Waits until no TCP session is left.
    async fn idle(&self) {
        while self.running.get() > 0 {
            self.none_running.notified().await;
        }
    }
}

/// A TCP session that a drain waits for, until dropped.
#[derive(Debug)]
pub(crate) struct Running {
    thread: Rc<DataThread>,
}

impl Running {
    pub(crate) fn begin(thread: &Rc<DataThread>) -> Self {
        thread.running.set(thread.running.get() + 1);
        Self { thread: Rc::clone(thread) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let left = self.thread.running.get() - 1;
        self.thread.running.set(left);
        if left == 0 {
            self.thread.none_running.notify_one();
        }
    }
}

/// The listeners of one thread.
struct Listeners<'a> {
    thread: &'a Rc<DataThread>,
    closing: HashMap<Listener, CancellationToken>,
    tasks: JoinSet<()>,
}

impl Listeners<'_> {
    fn open(&mut self, opened: Opened) {
        let closing = CancellationToken::new();
        let thread = Rc::clone(self.thread);
        self.closing.insert(opened.bound.listener, closing.clone());
        match opened.bound.listener.transport {
            Transport::Tcp => self.tasks.spawn_local(listener::tcp::serve(thread, opened, closing)),
            Transport::Udp => self.tasks.spawn_local(listener::udp::serve(thread, opened, closing)),
        };
    }

    fn close(&mut self, listener: Listener) {
        if let Some(closing) = self.closing.remove(&listener) {
            closing.cancel();
        }
    }

    async fn close_all(&mut self) {
        for (_, closing) in self.closing.drain() {
            closing.cancel();
        }
        while let Some(ended) = self.tasks.join_next().await {
            rethrow(ended);
        }
    }
}

/// Serves listeners until an order to drain is carried out.
async fn serve(thread: Rc<DataThread>, opened: Vec<Opened>, mut inbox: mpsc::Receiver<Order>) {
    let mut beat = JoinSet::new();
    beat.spawn_local(Rc::clone(&thread.ticks).run());
    beat.spawn_local(end_used_up(Rc::clone(&thread)));
    let mut listeners =
        Listeners { thread: &thread, closing: HashMap::new(), tasks: JoinSet::new() };
    for opened in opened {
        listeners.open(opened);
    }
    let mut deadline = loop {
        // Both branches are cancel-safe.
        tokio::select! {
            order = inbox.recv() => match order {
                Some(Order::Listen { add, remove }) => {
                    for listener in remove {
                        listeners.close(listener);
                    }
                    for opened in add {
                        listeners.open(opened);
                    }
                }
                Some(Order::Run(errand)) => errand.run(&thread),
                Some(Order::Drain { deadline }) => break deadline,
                // Control is gone, and with it whoever could ask for a slower end.
                None => return,
            },
            Some(ended) = listeners.tasks.join_next() => rethrow(ended),
        }
    };
    listeners.close_all().await;
    loop {
        let passed = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        // All branches are cancel-safe.
        tokio::select! {
            () = thread.idle() => return,
            () = passed => return,
            order = inbox.recv() => match order {
                Some(Order::Drain { deadline: sooner }) => deadline = sooner,
                Some(Order::Run(errand)) => errand.run(&thread),
                Some(Order::Listen { .. }) => {}
                None => return,
            },
        }
    }
}

/// Ends sessions soon after others have used up their quota, for as long as the thread runs.
async fn end_used_up(thread: Rc<DataThread>) {
    loop {
        sleep(TICK).await;
        let shared = &thread.shared;
        if shared.limits.has_quotas() {
            thread.leashes.end_used_up(shared.clock.wall(shared.clock.now()));
        }
    }
}

/// A panic of a listener, or of the task that opens and closes them, is the thread's: without it the forwarder would look alive and be deaf.
fn rethrow(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
