//! Sampling for alerts, and telling what they find: a line in the log, a row in `events`, a metric.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use forwarder_core::alert::{Alerts, Change, Cleared, Finding, Sample};
use forwarder_core::config::{Alert, Config, EndedBy, Watch, show_duration};
use schemas::table::Event;
use schemas::vocab::{Severity, Timestamp};
use tokio::time::{MissedTickBehavior, interval};

use crate::accounting::Account;
use crate::clock::Clock;
use crate::relay::{Counters, Flow};
use crate::reload::Live;

/// How often the counters are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What alerts have come to, for whoever looks. Clones are of the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<BTreeMap<String, Standing>>>);

/// Where one alert stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Standing {
    /// Whether it is on.
    pub(crate) is_on: bool,
    /// How often it began.
    pub(crate) times: u64,
}

impl Board {
    /// Every alert in force, by name.
    pub(crate) fn read(&self) -> BTreeMap<String, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, alerts: &Alerts, changes: &[Change]) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *board);
        for (alert, is_on) in alerts.list() {
            let name = alert.name.to_string();
            let begun = changes.iter().filter(|one| one.lasted.is_none() && one.alert == *alert);
            let times = before.get(&name).map_or(0, |one| one.times) + begun.count() as u64;
            board.insert(name, Standing { is_on, times });
        }
    }
}

/// Looks after the alerts of the configuration in force, for ever. Cancel-safe.
pub(crate) async fn watch(
    live: Arc<Live>,
    counters: Arc<Counters>,
    account: Account,
    clock: Clock,
    board: Board,
) {
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut alerts, mut in_force) = (Alerts::default(), None::<Arc<Config>>);
    loop {
        ticks.tick().await;
        let now = clock.now();
        let config = live.config();
        if in_force.as_ref().is_none_or(|old| !Arc::ptr_eq(old, &config)) {
            for cleared in alerts.reload(&config.alerts, now) {
                tell_cleared(&cleared, &account, clock.wall(now));
            }
            in_force = Some(config);
        }
        let flows =
            if alerts.list().next().is_some() { counters.figures.flows() } else { Vec::new() };
        let samples: Vec<Sample> = alerts.list().map(|(alert, _)| sample(alert, &flows)).collect();
        let changes: Vec<Change> = samples
            .into_iter()
            .enumerate()
            .flat_map(|(index, sample)| alerts.sample(index, now, sample))
            .collect();
        for change in &changes {
            tell(change, &account, clock.wall(now));
        }
        board.note(&alerts, &changes);
    }
}

/// What is counted of the sessions that an alert watches.
fn sample(alert: &Alert, flows: &[Arc<Flow>]) -> Sample {
    let watched = flows.iter().filter(|flow| watches(alert, flow));
    watched.map(|flow| flow.totals().sample).fold(Sample::default(), |all, one| Sample {
        bytes: all.bytes + one.bytes,
        begun: all.begun + one.begun,
        over: all.over + one.over,
        by_client: all.by_client + one.by_client,
        by_target: all.by_target + one.by_target,
    })
}

fn watches(alert: &Alert, flow: &Flow) -> bool {
    let is_target = alert.targets.iter().any(|target| {
        flow.target.as_ref().is_some_and(|of| {
            target.host == of.host && target.port.is_none_or(|port| of.port == Some(port))
        })
    });
    (alert.services.is_empty() || alert.services.contains(&flow.service))
        && (alert.rules.is_empty()
            || flow.rule.as_ref().is_some_and(|rule| alert.rules.contains(rule)))
        && (alert.targets.is_empty() || is_target)
}

fn tell(change: &Change, account: &Account, now: Timestamp) {
    let Change { alert, value, threshold, lasted, .. } = change;
    let (name, every) = (&alert.name, show_duration(alert.every));
    let message = message(change);
    match lasted {
        None => tracing::warn!(alert = %name, value, threshold, every, "{message}"),
        Some(lasted) => {
            let lasted_s = lasted.as_secs();
            tracing::info!(alert = %name, value, threshold, every, lasted_s, "{message}");
        }
    }
    let severity = if lasted.is_none() { Severity::Warning } else { Severity::Info };
    account.event(Event {
        value: Some(*value as f64),
        threshold: Some(*threshold as f64),
        attributes: Some(attributes(alert, *lasted)),
        ..event(alert, severity, message, now)
    });
}

fn tell_cleared(cleared: &Cleared, account: &Account, now: Timestamp) {
    let Cleared { alert, lasted } = cleared;
    let name = &alert.name;
    let Some(lasted) = lasted else {
        tracing::info!(alert = %name, "the configuration has this alert no more");
        return;
    };
    let lasted_s = lasted.as_secs();
    let message = format!("alert {name} is cleared: the configuration has it no more");
    tracing::info!(alert = %name, lasted_s, "{message}");
    account.event(Event {
        attributes: Some(attributes(alert, Some(*lasted))),
        ..event(alert, Severity::Info, message, now)
    });
}

/// An event names service and rule where an alert watches only one of them.
fn event(alert: &Alert, severity: Severity, message: String, now: Timestamp) -> Event {
    let only = |names: Vec<String>| <[String; 1]>::try_from(names).ok().map(|[name]| name);
    Event {
        ts: now.0,
        severity: severity.as_str().to_owned(),
        kind: "alert".to_owned(),
        service: only(alert.services.iter().map(ToString::to_string).collect()),
        rule: only(alert.rules.iter().map(ToString::to_string).collect()),
        message,
        ..Event::default()
    }
}

fn attributes(alert: &Alert, lasted: Option<Duration>) -> String {
    let state = if lasted.is_none() { "on" } else { "off" };
    let every_s = alert.every.as_secs();
    let lasted_s = lasted.map(|lasted| lasted.as_secs());
    serde_json::json!({ "alert": alert.name.as_str(), "state": state, "every_s": every_s, "lasted_s": lasted_s })
        .to_string()
}

fn message(change: &Change) -> String {
    let Change { alert, finding, value, threshold, lasted } = change;
    let every = show_duration(alert.every);
    let side = match alert.watch {
        Watch::Ends { by: EndedBy::Client, .. } => "clients",
        Watch::Ends { by: EndedBy::Target, .. } | Watch::Traffic { .. } => "targets",
    };
    let found = match finding {
        Finding::TooLittle => format!("{value} bytes in {every}, fewer than {threshold}"),
        Finding::TooMuch => format!("{value} bytes in {every}, more than {threshold}"),
        Finding::TooManyEnds => {
            format!("{side} ended {value} sessions in {every}, more than {threshold}")
        }
    };
    match lasted {
        None => format!("alert {}: {found}", alert.name),
        Some(lasted) => {
            let lasted = show_duration(Duration::from_secs(lasted.as_secs()));
            format!("alert {} is over after {lasted}: {value} in {every}", alert.name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(watch: Watch, finding: Finding, lasted: Option<u64>) -> Change {
        Change {
            alert: Alert {
                name: "night".parse().unwrap(),
                services: vec!["web".parse().unwrap()],
                rules: Vec::new(),
                targets: Vec::new(),
                every: Duration::from_secs(300),
                watch,
            },
            finding,
            value: 12,
            threshold: 1000,
            lasted: lasted.map(Duration::from_secs),
        }
    }

    #[test]
    fn what_an_alert_found_reads_well() {
        let traffic = Watch::Traffic { below: Some(1000), above: Some(1000) };
        let ends = Watch::Ends { by: EndedBy::Client, above: 1000, share_permille: 0 };
        let texts = [
            message(&change(traffic, Finding::TooLittle, None)),
            message(&change(traffic, Finding::TooMuch, None)),
            message(&change(ends, Finding::TooManyEnds, None)),
            message(&change(traffic, Finding::TooLittle, Some(75))),
            attributes(&change(traffic, Finding::TooLittle, Some(75)).alert, None),
        ];
        insta::assert_snapshot!(texts.join("\n"), @r#"
        alert night: 12 bytes in 5m, fewer than 1000
        alert night: 12 bytes in 5m, more than 1000
        alert night: clients ended 12 sessions in 5m, more than 1000
        alert night is over after 75s: 12 in 5m
        {"alert":"night","every_s":300,"lasted_s":null,"state":"on"}
        "#);
    }

    #[test]
    fn an_event_names_the_service_if_there_is_one() {
        let change =
            change(Watch::Traffic { below: Some(1), above: None }, Finding::TooLittle, None);
        let event = event(&change.alert, Severity::Warning, String::new(), Timestamp(1));
        assert_eq!((event.service.as_deref(), event.rule), (Some("web"), None));
        assert_eq!((event.kind.as_str(), event.severity.as_str()), ("alert", "warning"));
    }
}
