//! Putting a changed configuration file in force while sessions run.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use forwarder_core::config::{Config, Listener, listener_changes, start_only_changes};

use schemas::table::Event;
use schemas::vocab::{ServiceName, Severity, Timestamp};

use crate::accounting::Account;
use crate::admin::Reloaded;
use crate::listener::Bound;
use crate::load;
use schemas::exit::{Exit, Failure};

/// How long reading the file, and those that it names, may take: nothing else is heeded meanwhile.
const READ_PATIENCE: Duration = Duration::from_secs(15);

/// The configuration in force, and the file it came from.
#[derive(Debug)]
pub struct Live {
    file: PathBuf,
    config: ArcSwap<Config>,
    bound: ArcSwap<Vec<Bound>>,
    /// The listeners of each service, those by interface name by their addresses.
    listeners: ArcSwap<HashMap<ServiceName, Vec<Listener>>>,
}

impl Live {
    /// Begins with a configuration that was read from `file`.
    pub fn new(file: &Path, config: Config) -> Self {
        Self {
            file: file.to_owned(),
            config: ArcSwap::from_pointee(config),
            bound: ArcSwap::default(),
            listeners: ArcSwap::default(),
        }
    }

    /// Where the listeners are bound, for people who ask: a port 0 was chosen by the kernel; and
    /// the configuration that they were bound by, with the addresses of interfaces at the moment.
    pub fn set_bound(&self, bound: &[Bound], by: &Config) {
        self.bound.store(Arc::new(bound.to_vec()));
        let listeners = by.services.iter().map(|s| (s.name.clone(), s.listeners.clone()));
        self.listeners.store(Arc::new(listeners.collect()));
    }

    /// The listeners of a service, as [`Live::set_bound`] was told last.
    pub fn listeners_of(&self, service: &ServiceName) -> Vec<Listener> {
        self.listeners.load().get(service).cloned().unwrap_or_default()
    }

    /// What [`Live::set_bound`] was told last.
    pub fn bound(&self) -> Arc<Vec<Bound>> {
        self.bound.load_full()
    }

    /// A listener with the port that the kernel chose, if it is bound: `tcp://127.0.0.1:8080`.
    pub fn shown(&self, listener: &Listener) -> String {
        let bound = self.bound.load();
        let bound = bound.iter().find(|bound| bound.listener == *listener);
        let address = bound.map_or(listener.address, |bound| bound.address);
        format!("{}://{address}", listener.transport)
    }

    /// The file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The configuration in force.
    pub fn config(&self) -> Arc<Config> {
        self.config.load_full()
    }

    /// Reads the file again and puts it in force through `apply`, which must change nothing when
    /// it fails. The next configuration is compared with the one in force, so only one reload may
    /// run at a time. On error everything stays as it was.
    ///
    /// # Errors
    /// The file cannot be read, or not in time, or has faults, changes a key that only a start can
    /// change, or `apply` fails.
    pub async fn reload(
        &self,
        apply: impl AsyncFnOnce(&Config) -> Result<(), Failure>,
    ) -> Result<Reloaded, Failure> {
        let file = self.file.clone();
        let reading = tokio::task::spawn_blocking(move || load::config(&file));
        let loaded = tokio::time::timeout(READ_PATIENCE, reading).await;
        let new = loaded
            .map_err(|_| kept(self.unread(), self))?
            .map_err(|error| Failure::new(Exit::Bug, format!("reading the file: {error}")))?
            .map_err(|failure| kept(failure, self))?;
        let old = self.config();
        let fixed = start_only_changes(&old, &new);
        if !fixed.is_empty() {
            let message = format!(
                "{}: {} cannot change while the forwarder runs; restart it, or take the change back",
                self.file.display(),
                fixed.join(", "),
            );
            return Err(kept(Failure::new(Exit::Config, message), self));
        }
        apply(&new).await.map_err(|failure| kept(failure, self))?;
        let changes = listener_changes(&old, &new);
        let shown = |listeners: &[(Listener, _)]| {
            listeners.iter().map(|(listener, _)| listener.to_string()).collect()
        };
        let reloaded = Reloaded {
            config_rev: new.revision.clone(),
            changed: new.revision != old.revision,
            listeners_added: shown(&changes.added),
            listeners_removed: shown(&changes.removed),
            applied: None,
            warnings: new.warnings.to_string(),
        };
        self.config.store(Arc::new(new));
        Ok(reloaded)
    }

    fn unread(&self) -> Failure {
        let (file, seconds) = (self.file.display(), READ_PATIENCE.as_secs());
        let text = format!(
            "cannot read the configuration {file}: it, or a file that it names, took longer than \
             {seconds} s: is it a pipe, or on a file system that hangs?"
        );
        Failure::new(Exit::Io, text)
    }
}

/// Tells the log and the account how a reload went: from a change of the configuration on, the
/// rows of sessions follow other rules.
pub fn report(outcome: &Result<Reloaded, Failure>, account: &Account, now: Timestamp) {
    let (severity, message) = match outcome {
        Ok(reloaded) => {
            let (added, removed) =
                (reloaded.listeners_added.join(" "), reloaded.listeners_removed.join(" "));
            tracing::info!(
                revision = reloaded.config_rev,
                added,
                removed,
                "configuration in force"
            );
            if !reloaded.warnings.is_empty() {
                tracing::warn!("{}", reloaded.warnings.trim_end());
            }
            let mut message = format!("configuration {} is in force", reloaded.config_rev);
            if let Some(applied) = reloaded.applied {
                tracing::info!(
                    ended = applied.ended,
                    unjudged = applied.unjudged,
                    "asked the rules about running sessions"
                );
                message += &format!(", running sessions it ended: {}", applied.ended);
            }
            (Severity::Info, message)
        }
        Err(failure) => {
            tracing::error!("reload refused: {failure}");
            let first = failure.message.lines().next().unwrap_or_default();
            (Severity::Warning, format!("reload refused: {first}"))
        }
    };
    account.event(Event {
        ts: now.0,
        severity: severity.as_str().to_owned(),
        kind: "config".to_owned(),
        message,
        ..Event::default()
    });
}

/// A failed reload, with the comfort that nothing changed.
fn kept(failure: Failure, live: &Live) -> Failure {
    let rest = format!("configuration {} stays in force", live.config().revision);
    Failure::new(failure.exit, format!("{}\n{rest}", failure.message))
}
