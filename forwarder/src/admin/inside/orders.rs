//! What the admin socket may do to the running forwarder.

use std::collections::HashSet;

use forwarder_core::config::Listener;
use schemas::vocab::EndReason;

use super::super::{Draining, Filter, Intake, Killed, NOBODY_TO_KILL};
use super::sessions::is_meant;
use super::{Inside, off_loop};
use crate::relay::Selection;
use schemas::exit::{Exit, Failure};

impl Inside {
    pub(super) async fn kill(self, names: &[String], filter: Filter) -> Result<Killed, Failure> {
        if names.is_empty() && filter.is_empty() {
            return Err(Failure::new(Exit::Usage, NOBODY_TO_KILL));
        }
        let named =
            names.iter().map(|name| self.number(name)).collect::<Result<HashSet<_>, _>>()?;
        let (account, controls) = (self.account.clone(), self.controls.clone());
        let numbers = off_loop(move || {
            let meant = account.live().filter(|session| {
                (named.is_empty() || named.contains(&session.number)) && is_meant(&filter, session)
            });
            let mut numbers: Vec<_> = meant.map(|session| session.number).collect();
            numbers.sort_unstable();
            Ok(numbers)
        })
        .await?;
        let which = Selection::Numbers(numbers.into());
        match u64::try_from(controls.end(which, EndReason::Killed).await).unwrap_or(u64::MAX) {
            0 => Err(Failure::new(Exit::NoData, "no such session runs")),
            ended => {
                tracing::info!(sessions = ended, "sessions were killed by an operator");
                Ok(Killed { ended })
            }
        }
    }

    pub(super) fn pause(&self, which: &[String], paused: bool) -> Result<Intake, Failure> {
        if which.is_empty() {
            let text = "say which services or listeners are meant: one at least";
            return Err(Failure::new(Exit::Usage, text));
        }
        let mut listeners = Vec::new();
        for name in which {
            listeners.extend(self.listeners(name)?);
        }
        let mut changed = Vec::new();
        self.controls.change_intakes(|intakes| {
            listeners.retain(|listener| intakes.set_paused(*listener, paused));
        });
        for listener in &listeners {
            let address = self.live.shown(listener);
            tracing::info!(listener = address, "{}", if paused { "paused" } else { "resumed" });
            changed.push(address);
        }
        let intakes = self.controls.intakes();
        let bound = self.live.bound();
        let all = bound.iter().map(|bound| bound.listener).filter(|l| intakes.is_paused(l));
        Ok(Intake { changed, paused: all.map(|listener| self.live.shown(&listener)).collect() })
    }

    /// The listeners of a service, or the one that is configured or bound like that.
    fn listeners(&self, name: &str) -> Result<Vec<Listener>, Failure> {
        let config = self.live.config();
        if let Some(service) = config.services.iter().find(|s| s.name.as_str() == name) {
            return Ok(self.live.listeners_of(&service.name));
        }
        let bound = self.live.bound();
        let is_it =
            |listener: &Listener| listener.to_string() == name || self.live.shown(listener) == name;
        let found: Vec<_> = bound.iter().map(|bound| bound.listener).filter(is_it).collect();
        if found.is_empty() {
            let text = format!(
                "no service and no listener is called {name:?}: forwarder status shows them all"
            );
            return Err(Failure::new(Exit::NoData, text));
        }
        Ok(found)
    }

    pub(super) fn drain(&self, draining: bool) -> Draining {
        let mut changed = false;
        self.controls.change_intakes(|intakes| changed = intakes.set_draining(draining));
        if changed {
            tracing::info!("{}", if draining { "draining" } else { "taking clients in again" });
        }
        Draining { draining, current: self.account.live().map(|session| session.sessions).sum() }
    }
}
