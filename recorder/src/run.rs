//! Wiring: claim the data directory, start each part after those it needs, serve until SIGTERM, and
//! end them in the opposite order.

use std::future::pending;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use journal::JournalError;
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::{JoinHandle, spawn_blocking};

use crate::admin::{Server, State};
use crate::capture::{self, CaptureWriter};
use crate::config::Config;
use crate::data_dir::{self, CAPTURE_GROUP, DataDir, Group};
use crate::ingest::{self, BindError, Bound, Ingest};
use crate::load;
use crate::log::{Log, StartError};
use crate::log_lines::{Dropped, LogLines};
use crate::manifest::{self, ManifestError};
use crate::publish::{Publication, PublicationHandle, PublishError, Publisher};
use crate::upkeep::{self, Upkeep};
use schemas::exit::{Exit, Failure};

/// Most time that an ending recorder takes to publish; the rest stays in the log.
const PUBLISH_WITHIN: Duration = Duration::from_secs(30);
/// How long a publication that is under way may hold up the end of the process.
const LET_GO_WITHIN: Duration = Duration::from_secs(1);
/// Mode of the sockets.
const SOCKET_MODE: u32 = 0o660;

/// Runs a recorder with the configuration in `file` until SIGTERM or SIGINT.
///
/// # Errors
/// It could not be started.
pub fn run(file: &Path) -> Result<(), Failure> {
    let lines = LogLines::start();
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            Failure::of_kind(error.kind(), format!("cannot start a runtime: {error}"))
        })?;
    // Before all that takes time, such as a long log: what comes meanwhile is heeded afterwards.
    let signals = {
        let _inside = runtime.enter();
        Signals::new()?
    };
    let config = load::config(file)?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let data = DataDir::claim(&config.data)?;
    let publisher = Publisher::open(data.path(), *data.group()).map_err(unpublishable)?;
    let log = open_log(&data, &publisher)?;
    let served = runtime.block_on(Box::pin(serve(
        file,
        &config,
        &data,
        publisher,
        &log,
        lines.dropped(),
        signals,
    )));
    runtime.shutdown_timeout(LET_GO_WITHIN);
    log.stop();
    served
}

/// Opens the log and holds it against the manifest.
fn open_log(data: &DataDir, publisher: &Publisher) -> Result<Log, Failure> {
    let marks = publisher.manifest().marks();
    let spools: Vec<_> = marks.spools().cloned().collect();
    let (log, found) = Log::start(data.path(), &spools).map_err(|error| match &error {
        StartError::Journal(JournalError::Locked { .. }) => Failure::new(Exit::Locked, &error),
        StartError::Journal(JournalError::Io { source, .. }) => {
            Failure::of_kind(source.kind(), &error)
        }
        StartError::System(source) => Failure::of_kind(source.kind(), &error),
        StartError::Journal(_) | StartError::Mark(_) => Failure::new(Exit::Io, &error),
    })?;
    if found.cut_frames {
        tracing::warn!(
            bytes = found.cut_bytes,
            "cut off the log's torn end with whole frames in it, as a power loss leaves them; it is kept as .suspect in {}",
            data.path().join(crate::log::DIRECTORY).display()
        );
    } else if found.cut_bytes > 0 {
        tracing::info!(
            bytes = found.cut_bytes,
            "cut off the log's torn end: it was never acknowledged"
        );
    }
    if found.last_frame < marks.log_through() {
        log.stop();
        let message = format!(
            "the log in {} ends with frame {}, but the tables hold frames up to {}: it was removed \
             or replaced; put it back, or name another directory as data",
            data.path().join(crate::log::DIRECTORY).display(),
            found.last_frame,
            marks.log_through()
        );
        return Err(Failure::new(Exit::Io, message));
    }
    if !found.damaged && found.first_frame > marks.log_through() + 1 {
        log.stop();
        let message = format!(
            "the log in {} begins with frame {}, but the manifest knows of frames up to {} only: its \
             newest versions are missing. The parts that they named are still there: bring {} back \
             from a copy, or have `recorder recover -c FILE` make it again from the parts",
            data.path().join(crate::log::DIRECTORY).display(),
            found.first_frame,
            marks.log_through(),
            data.path().join(manifest::DIRECTORY).display()
        );
        return Err(Failure::new(Exit::Io, message));
    }
    Ok(log)
}

async fn serve(
    file: &Path,
    config: &Config,
    data: &DataDir,
    publisher: Publisher,
    log: &Log,
    log_lines_dropped: Dropped,
    mut signals: Signals,
) -> Result<(), Failure> {
    let started = Instant::now();
    let (admin, listeners) = bind(config, data.group())?;
    let capture = start_capture(config, log).await?;
    let publication = Publication::start(publisher, log.handle(), config.publish_every);
    let upkeep = start_upkeep(config, &publication.handle(), log)?;
    let settings = ingest::Settings::new(config.allow.clone());
    let ingest = Ingest::start(listeners, settings, log.handle(), capture.handle());
    let state = State {
        config_file: file.to_owned(),
        data: data.path().to_owned(),
        started,
        publication: publication.handle(),
        upkeep: upkeep.handle(),
        log: log.handle(),
        ingest: ingest.watcher(),
        captures: capture.handle(),
        log_lines_dropped,
    };
    let admin = tokio::spawn(Server::new(admin).serve(state));
    announce(config);

    signals.end().await;
    notify(&[NotifyState::Stopping]);
    tracing::info!("stopping: a second signal ends at once");
    // Everything received is durable at any moment, so the second signal may cut the rest off.
    // Neither branch is used again afterwards.
    tokio::select! {
        () = stop(admin, ingest, capture, upkeep, publication) => tracing::info!("stopped"),
        () = signals.end() => tracing::warn!("ended at once: the log keeps what is not published"),
    }
    Ok(())
}

fn announce(config: &Config) {
    let sockets: Vec<_> = config.listen.iter().map(|socket| socket.display().to_string()).collect();
    let (sockets, data) = (sockets.join(", "), config.data.display());
    tracing::info!("recording into {data}, listening on {sockets}");
    notify(&[NotifyState::Ready]);
}

/// Ends the parts in the opposite order of their start, each with its last words to the next.
async fn stop(
    admin: JoinHandle<()>,
    ingest: Ingest,
    capture: CaptureWriter,
    upkeep: Upkeep,
    publication: Publication,
) {
    ingest.stop().await;
    if spawn_blocking(move || capture.stop()).await.is_err() {
        tracing::error!("the capture could not be stopped");
    }
    if spawn_blocking(move || upkeep.stop()).await.is_err() {
        tracing::error!("compaction could not be stopped");
    }
    if tokio::time::timeout(PUBLISH_WITHIN, publication.stop()).await.is_err() {
        let seconds = PUBLISH_WITHIN.as_secs();
        tracing::warn!("publishing took more than {seconds} s: the log keeps the rest");
    }
    admin.abort();
    // It was told to; its socket file goes with it.
    drop(admin.await);
}

/// Binds every socket, or none for long: those bound are closed again when one fails.
fn bind(config: &Config, group: &Group) -> Result<(Bound, Vec<Bound>), Failure> {
    let bind = |path: &PathBuf| {
        let bound = ingest::bind(path).map_err(|error| match &error {
            BindError::Io { source, .. }
                if source.kind() == std::io::ErrorKind::PermissionDenied =>
            {
                Failure::new(Exit::Permission, &error)
            }
            _ => Failure::new(Exit::Unreachable, &error),
        })?;
        let admitted = group.admit(path, SOCKET_MODE);
        admitted.map_err(|error| {
            Failure::of_kind(
                error.kind(),
                format!("cannot set the mode of {}: {error}", path.display()),
            )
        })?;
        Ok(bound)
    };
    let admin = bind(&config.admin_socket)?;
    let listeners = config.listen.iter().map(bind).collect::<Result<_, _>>();
    if listeners.is_err() {
        drop(std::fs::remove_file(&config.admin_socket));
    }
    Ok((admin, listeners?))
}

/// Takes over the captures of an earlier run. Trouble there is no reason not to keep the account.
async fn start_capture(config: &Config, log: &Log) -> Result<CaptureWriter, Failure> {
    let readers = Group::find(CAPTURE_GROUP);
    let directory = config.data.join(capture::DIRECTORY);
    data_dir::make_directory(&directory, &readers).map_err(|error| {
        Failure::of_kind(error.kind(), format!("cannot create {}: {error}", directory.display()))
    })?;
    let recovered = capture::recover(&config.data, &log.handle()).await.unwrap_or_else(|error| {
        tracing::warn!("{error}; the captures of the run before stay as they are");
        capture::Recovered::default()
    });
    let settings = capture::Settings { data: config.data.clone(), rotate: config.rotate, readers };
    CaptureWriter::start(settings, recovered, log.handle()).map_err(|error| {
        Failure::of_kind(error.kind(), format!("cannot start the capture: {error}"))
    })
}

fn start_upkeep(
    config: &Config,
    publication: &PublicationHandle,
    log: &Log,
) -> Result<Upkeep, Failure> {
    let settings =
        upkeep::Settings { compact: config.compact, keep: config.keep, room: upkeep::room_on_disk };
    Upkeep::start(publication.publisher(), settings, log.handle()).map_err(|error| {
        Failure::of_kind(error.kind(), format!("cannot start compaction: {error}"))
    })
}

fn unpublishable(error: PublishError) -> Failure {
    match &error {
        PublishError::Io { source, .. }
        | PublishError::Manifest(ManifestError::Io { source, .. }) => {
            Failure::of_kind(source.kind(), &error)
        }
        PublishError::Manifest(ManifestError::Newer { .. }) => Failure::new(Exit::Config, &error),
        PublishError::Manifest(_)
        | PublishError::Log(_)
        | PublishError::Gone { .. }
        | PublishError::Parquet { .. } => Failure::new(Exit::Io, &error),
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}

/// SIGTERM and SIGINT end; SIGHUP is answered with a word, because it would kill us otherwise.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let signal = |kind| {
            signal(kind).map_err(|error| {
                Failure::of_kind(error.kind(), format!("cannot listen for signals: {error}"))
            })
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Returns when the recorder shall end. Cancel-safe, as receiving a signal is.
    async fn end(&mut self) {
        loop {
            tokio::select! {
                Some(()) = self.terminate.recv() => return,
                Some(()) = self.interrupt.recv() => return,
                Some(()) = self.hangup.recv() => {
                    tracing::warn!("SIGHUP: a recorder reads its configuration only at its start");
                }
                else => pending().await,
            }
        }
    }
}
