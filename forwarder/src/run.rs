//! `forwarder run`: from a configuration file to a running forwarder, and to its orderly end.
//!
//! Everything that a configuration can be wrong about is tried before anything is served: the
//! file, the addresses, the admin socket, the spool. The end runs the other way round, so that every
//! row of every session is written before the account is closed.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forwarder_core::config::Config;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use crate::accounting::{self, Account, JournalThread};
use crate::admin::inside::{Inside, RELOAD_QUEUE, ReloadWish};
use crate::admin::server::Server;
use crate::admin::{Applied, Reloaded};
use crate::alerts::{self, Board};
use crate::capture::{self, CaptureSender};
use crate::check;
use crate::clock::Clock;
use crate::health::look_after;
use crate::link::accounting::{AccountingLane, Settings};
use crate::load;
use crate::log::LogThread;
use crate::metrics;
use crate::names::{Change, NameWatch, Names};
use crate::relay::{Bindings, Rejudged, Relay, Tuning};
use crate::reload::{self, Live};
use crate::source;
use schemas::config::show_duration;
use schemas::exit::{Exit, Failure};
use schemas::table::Event;
use schemas::vocab::Severity;

/// How often the journal thread is looked after.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Time between a reload by SIGHUP and the next: each reads a file and writes a row.
const HANGUP_REST: Duration = Duration::from_secs(1);

/// Runs until SIGTERM.
///
/// # Errors
/// The configuration has faults, an address cannot be bound, or something broke on the way.
pub fn run(file: &Path) -> Result<(), Failure> {
    // What others may use is opened to them by name, after it is made.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let log = Arc::new(LogThread::start());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Failure::io(&error, "cannot start the control runtime"))?;
    // Before all that takes time: what comes meanwhile is heeded afterwards.
    let mut signals = {
        let _inside = runtime.enter();
        Signals::listen()?
    };
    let config = load::config(file)?;
    log.put_in_force(log.prepare(&config.log)?);
    if !config.warnings.is_empty() {
        tracing::warn!("{}", config.warnings.to_string().trim_end());
    }
    for warning in check::machine_warnings(&config) {
        tracing::warn!("{warning}");
    }
    let served = runtime.block_on(async {
        let told = |failure: &Failure| {
            if log.is_elsewhere() {
                tracing::error!("{failure}");
            }
        };
        let started = Forwarder::start(file, config, Arc::clone(&log)).await;
        let mut forwarder = started.inspect_err(told)?;
        let served = forwarder.serve(&mut signals).await.inspect_err(told);
        forwarder.stop(&mut signals.stop).await;
        served
    });
    // A file that hangs while it is read must not hold up the end.
    runtime.shutdown_background();
    served
}

/// The signals that we heed.
struct Signals {
    stop: Stop,
    reload: Hangup,
}

/// SIGTERM and SIGINT.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> Result<Self, Failure> {
        let listen =
            |kind| signal(kind).map_err(|error| Failure::io(&error, "cannot listen for signals"));
        let stop = Stop {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        };
        Ok(Self {
            stop,
            reload: Hangup { signal: listen(SignalKind::hangup())?, rests_until: None },
        })
    }
}

/// SIGHUP. Many at once are one, and a storm of them is one per [`HANGUP_REST`].
struct Hangup {
    signal: Signal,
    rests_until: Option<Instant>,
}

impl Hangup {
    /// Waits for the next one. Cancel-safe.
    async fn told(&mut self) {
        if let Some(until) = self.rests_until {
            sleep_until(until).await;
            self.rests_until = None;
        }
        self.signal.recv().await;
    }

    /// One was heeded.
    fn rest(&mut self) {
        self.rests_until = Some(Instant::now() + HANGUP_REST);
    }
}

impl Stop {
    /// Waits for the next one. Cancel-safe.
    async fn told(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// A running forwarder.
struct Forwarder {
    live: Arc<Live>,
    log: Arc<LogThread>,
    account: Account,
    clock: Clock,
    relay: Relay,
    names: NameWatch,
    journal: JournalThread,
    link: AccountingLane,
    capture: CaptureSender,
    /// Tells the journal thread what the recorder has acknowledged.
    acknowledging: JoinHandle<()>,
    /// Serve the admin socket and metrics, check the targets, look after alerts: for as long as we
    /// serve.
    helpers: JoinSet<()>,
    reloads: mpsc::Receiver<ReloadWish>,
}

impl Forwarder {
    /// Looks names up, binds, opens the account and begins to relay.
    async fn start(file: &Path, config: Config, log: Arc<LogThread>) -> Result<Self, Failure> {
        let clock = Clock::start();
        let names = Names::start(clock)
            .map_err(|error| Failure::io(&error, "cannot start the names thread"))?;
        names.follow(&config, None).await;
        let bindings = Bindings::bind(&config, names.directory(), check::threads(&config));
        let bindings = bindings.map_err(|error| {
            let exit = match error.cause.kind() {
                io::ErrorKind::PermissionDenied => Exit::Permission,
                _ => Exit::Unreachable,
            };
            Failure::new(exit, error)
        })?;
        source::check(&config).map_err(|error| Failure::new(Exit::Unreachable, error))?;
        let server = Server::bind(&config.admin_socket)?;
        let scraped = config.metrics.map(metrics::server::Server::bind).transpose()?;
        let (account, journal) =
            accounting::start(&config, clock).map_err(|error| Failure::new(error.exit(), error))?;
        let (link, acknowledging) = start_link(&config, &account, &journal, clock);
        let capture = start_capture(&config, &account)?;
        let relay = Relay::start(
            &config,
            bindings,
            account.clone(),
            capture.lane(),
            names.clone(),
            clock,
            Tuning::default(),
        )
        .map_err(|error| Failure::new(Exit::Io, error))?;
        let targets = Arc::clone(relay.targets());
        let mut helpers = JoinSet::new();
        helpers.spawn(look_after(targets, names.clone(), account.clone(), clock));
        let live = Arc::new(Live::new(file, config));
        live.set_bound(relay.bound(), &relay.in_force());
        let (wishes, reloads) = mpsc::channel(RELOAD_QUEUE);
        let inside = Inside {
            live: Arc::clone(&live),
            account: account.clone(),
            clock,
            started: clock.now(),
            counters: Arc::clone(relay.counters()),
            controls: relay.controls(),
            targets: Arc::clone(relay.targets()),
            limits: Arc::clone(relay.limits()),
            names: Arc::clone(names.counters()),
            capture: capture.lane(),
            log_lines_lost: log.lost(),
            spool: journal.spool(),
            link: link.status(),
            reloads: wishes,
            last_look: Arc::default(),
        };
        watch_over(&inside, scraped, &mut helpers);
        helpers.spawn(server.serve(move |request| inside.clone().answer(request)));
        Ok(Self {
            live,
            log,
            account,
            clock,
            relay,
            names: NameWatch::new(names),
            journal,
            link,
            capture,
            acknowledging,
            helpers,
            reloads,
        })
    }

    /// Serves until a signal says stop.
    ///
    /// # Errors
    /// A thread died, which only a bug of ours can cause.
    async fn serve(&mut self, signals: &mut Signals) -> Result<(), Failure> {
        for bound in self.relay.bound() {
            let transport = bound.listener.transport;
            tracing::info!(%transport, address = %bound.address, "listening");
        }
        tell_service_manager(&[NotifyState::Ready]);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // All branches are cancel-safe.
            tokio::select! {
                () = signals.stop.told() => return Ok(()),
                () = signals.reload.told() => {
                    self.log.reopen().await;
                    // Nobody waits for the outcome: log and account have it.
                    drop(self.reload(false).await);
                    signals.reload.rest();
                }
                Some(wish) = self.reloads.recv() => {
                    self.log.reopen().await;
                    // Who asked may have given up waiting.
                    drop(wish.answer_to.send(self.reload(wish.apply_to_running).await));
                }
                changed = self.names.changed() => match changed {
                    Some(changes) => self.follow_names(changes).await,
                    None => {
                        let text = "the names thread died; without it no name is known";
                        return Err(Failure::new(Exit::Bug, text));
                    }
                },
                Some(ended) = self.helpers.join_next() => {
                    let why = ended.err().map_or("it came to an end".to_owned(), |error| error.to_string());
                    let text = format!(
                        "whoever serves the admin socket or metrics, checks targets or looks after \
                         alerts died: {why}"
                    );
                    return Err(Failure::new(Exit::Bug, text));
                }
                died = self.relay.died() => return Err(Failure::new(Exit::Bug, died)),
                _ = look.tick() => {
                    self.log.tell_lost();
                    self.follow_names(Vec::new()).await;
                    self.relay.counters().figures.tell_unlogged();
                    if self.journal.is_dead() {
                        let text = "the journal thread died; without it there is no account";
                        return Err(Failure::new(Exit::Bug, text));
                    }
                }
            }
        }
    }

    async fn reload(&mut self, apply_to_running: bool) -> Result<Reloaded, Failure> {
        let Self { live, relay, log, names, .. } = self;
        let old = live.config();
        let mut outcome = live
            .reload(async |config| {
                source::check(config).map_err(|error| Failure::new(Exit::Unreachable, error))?;
                let prepared = log.prepare_aside(&config.log).await?;
                names.names().follow(config, Some(&old)).await;
                let applied = relay.reload(config).await;
                applied.map_err(|error| Failure::new(Exit::Unreachable, error))?;
                log.put_in_force(prepared);
                Ok(())
            })
            .await;
        names.names().follow_only(&live.config()).await;
        if let Ok(reloaded) = &mut outcome
            && apply_to_running
        {
            let Rejudged { ended, unjudged } = relay.controls().rejudge().await;
            reloaded.applied = Some(Applied { ended, unjudged });
        }
        let counters = relay.counters();
        let counter = if outcome.is_ok() { &counters.reloads } else { &counters.reloads_refused };
        counter.fetch_add(1, Ordering::Relaxed);
        reload::report(&outcome, &self.account, self.clock.wall(self.clock.now()));
        self.tell_of_listeners();
        outcome
    }

    /// Puts in force what names mean now, and tells.
    async fn follow_names(&mut self, changes: Vec<Change>) {
        for change in changes {
            change.log();
            self.account.event(change.event(self.clock.wall(self.clock.now())));
        }
        if let Err(error) = self.relay.follow_names().await {
            tracing::error!("names mean what they did before: {error}");
        }
        self.tell_of_listeners();
    }

    fn tell_of_listeners(&mut self) {
        let now = self.clock.wall(self.clock.now());
        for event in self.relay.news().tell(now) {
            self.account.event(event);
        }
        self.live.set_bound(self.relay.bound(), &self.relay.in_force());
    }

    /// Stops listening, lets sessions end, writes every end, and waits for the recorder; a second
    /// signal cuts each wait short.
    async fn stop(mut self, again: &mut Stop) {
        tell_service_manager(&[NotifyState::Stopping]);
        let patience = self.live.config().timeouts.drain;
        tracing::info!(patience_s = patience.as_secs_f64(), "stopping");
        self.account.event(Event {
            ts: self.clock.wall(self.clock.now()).0,
            severity: Severity::Info.as_str().to_owned(),
            kind: "shutdown".to_owned(),
            message: format!("stopping: running sessions have {} to end", show_duration(patience)),
            ..Event::default()
        });
        let drained = tokio::select! {
            drained = self.relay.drain(patience) => drained,
            () = again.told() => self.relay.cut().await,
        };
        if let Err(died) = drained {
            tracing::error!("{died}");
        }
        self.relay.limits().close();
        self.helpers.abort_all();
        let closing = async {
            // Before the last rows: they tell how much payload was lost.
            if !self.capture.stop().await {
                tracing::warn!("the recorder did not take the last captured payload: it is lost");
            }
            if !self.journal.finish().await {
                tracing::warn!("the spool is full: the last rows wait for the next start");
            }
            if !self.link.stop().await {
                tracing::info!("the rest of the account waits in the spool for the recorder");
            }
        };
        let in_haste = tokio::select! {
            () = closing => false,
            () = again.told() => true,
        };
        self.acknowledging.abort();
        if in_haste {
            // Not waited for: what holds it up may be the disk.
            tracing::warn!("stopped in haste: the account is closed by the next start");
        } else {
            self.journal.close();
        }
    }
}

/// Serves metrics, if they are wanted, and looks after the alerts.
fn watch_over(
    inside: &Inside,
    scraped: Option<metrics::server::Server>,
    helpers: &mut JoinSet<()>,
) {
    let alerts = Board::default();
    if let Some(server) = scraped {
        match server.address() {
            Ok(address) => tracing::info!(%address, "serving metrics"),
            Err(error) => tracing::warn!(%error, "metrics are served at an unknown address"),
        }
        let measured = metrics::Measured { inside: inside.clone(), alerts: alerts.clone() };
        helpers.spawn(server.serve(move || measured.render()));
    }
    let (live, counters) = (Arc::clone(&inside.live), Arc::clone(&inside.counters));
    helpers.spawn(alerts::watch(live, counters, inside.account.clone(), inside.clock, alerts));
}

fn start_link(
    config: &Config,
    account: &Account,
    journal: &JournalThread,
    clock: Clock,
) -> (AccountingLane, JoinHandle<()>) {
    let spool = journal.spool();
    let settings = Settings {
        socket: config.recorder.socket.clone(),
        node: config.node.clone(),
        boot: account.boot(),
        spool: spool.dir.clone(),
        spool_id: spool.id.clone(),
        clock,
    };
    let events = account.clone();
    let report = move |event| events.event(event);
    let forked = Arc::clone(&spool);
    let report_fork = move |id, reason| forked.report_fork(id, reason);
    let link = AccountingLane::start(settings, spool.durable.clone(), report, report_fork);
    let mut acked = link.acked();
    let acknowledging = tokio::spawn(async move {
        while acked.changed().await.is_ok() {
            spool.acknowledged.store(*acked.borrow_and_update(), Ordering::Release);
        }
    });
    (link, acknowledging)
}

fn start_capture(config: &Config, account: &Account) -> Result<CaptureSender, Failure> {
    let settings = capture::Settings {
        socket: config.recorder.socket.clone(),
        node: config.node.clone(),
        boot: account.boot(),
        pipe_bytes: capture::PIPE_BYTES,
    };
    let counting = account.clone();
    let started = CaptureSender::start(settings, move |bytes| counting.capture_dropped(bytes));
    started.map_err(|error| {
        Failure::new(Exit::Io, format!("cannot start the capture lane's thread: {error}"))
    })
}

/// systemd, if it started us.
fn tell_service_manager(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "cannot tell the service manager how we are doing");
    }
}
