//! What people are told of the link: once when the recorder is lost, once when it is back.

use std::fmt;
use std::path::PathBuf;

use schemas::table::Event;
use schemas::vocab::Severity;
use tokio::sync::watch;
use tokio::time::Instant;

use super::LinkError;
use super::accounting::LinkStatus;
use crate::clock::Clock;

/// The teller.
pub(super) struct Word {
    socket: PathBuf,
    clock: Clock,
    status: watch::Sender<LinkStatus>,
    report: Box<dyn Fn(Event) + Send + Sync>,
    /// Since when the recorder is lost, once that was said.
    lost_at: Option<Instant>,
    /// What it refuses, as that was said. It is over with the next frame that is acknowledged, not
    /// with the next `Welcome`.
    refusal: Option<String>,
}

impl fmt::Debug for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Word").field("lost_at", &self.lost_at).finish_non_exhaustive()
    }
}

impl Word {
    pub(super) fn new(
        socket: PathBuf,
        clock: Clock,
        status: watch::Sender<LinkStatus>,
        report: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let report = Box::new(report);
        Self { socket, clock, status, report, lost_at: None, refusal: None }
    }

    /// The recorder is lost: said once, and once more when it is there and refuses.
    pub(super) fn lost(&mut self, error: &LinkError) {
        let text = error.to_string();
        self.status.send_modify(|status| {
            status.connected_since_us = None;
            status.unacked_bytes = 0;
            status.last_error = Some(text.clone());
            status.forks += u64::from(matches!(error, LinkError::Forked(_)));
        });
        if matches!(error, LinkError::Forked(_)) {
            // Who gives the spool another id tells.
            return;
        }
        let known = self.lost_at.is_some();
        self.lost_at = self.lost_at.or(Some(Instant::now()));
        if error.is_grave() && self.refusal.as_ref() != Some(&text) {
            tracing::error!("{text}; the account waits in the spool");
            self.refusal = Some(text.clone());
            let message = format!("{text}; the account waits in the spool");
            let is_ours = matches!(error, LinkError::Spool(_));
            let kind = if is_ours { "spool_unreadable" } else { "recorder_refuses" };
            self.tell(Severity::Error, kind, message);
        } else if !known {
            let message = format!("{text}; the account waits in the spool");
            tracing::warn!("{message}");
            self.tell(Severity::Warning, "recorder_lost", message);
        }
    }

    /// The recorder is back, or there for the first time.
    pub(super) fn back(&mut self) {
        let now = self.clock.wall(self.clock.now());
        let refuses = self.refusal.is_some();
        self.status.send_modify(|status| {
            status.connected_since_us = Some(now.0);
            status.connections += 1;
            if !refuses {
                status.last_error = None;
            }
        });
        if !refuses {
            self.say_back();
        }
    }

    /// A frame was acknowledged: whatever the recorder refused, it takes.
    pub(super) fn progress(&mut self) {
        if self.refusal.take().is_some() {
            self.status.send_modify(|status| status.last_error = None);
            self.say_back();
        }
    }

    fn say_back(&mut self) {
        let Some(lost_at) = self.lost_at.take() else {
            tracing::info!("the recorder at {} is connected", self.socket.display());
            return;
        };
        let seconds = lost_at.elapsed().as_secs_f64();
        let message = format!("the recorder is back after {seconds:.1} s");
        tracing::info!("{message}");
        self.tell(Severity::Info, "recorder_back", message);
    }

    fn tell(&self, severity: Severity, kind: &str, message: String) {
        (self.report)(Event {
            ts: self.clock.wall(self.clock.now()).0,
            severity: severity.as_str().to_owned(),
            kind: kind.to_owned(),
            message,
            ..Event::default()
        });
    }
}
