//! `monitor` blocks as alerts.

use schemas::config::Findings;

use super::Notes;
use super::statement::{Block, Statement};
use super::write::quote;

/// One alarm of a monitor.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) notes: Notes,
    name: String,
    every: u64,
    watch: Watch,
}

#[derive(Debug)]
enum Watch {
    /// Fewer bytes than so many.
    Below(u64),
    /// More ends by one side, and at least so many of a hundred.
    Ends { by: &'static str, above: u64, percent: u64 },
}

/// The alarms of a monitor; what is not one goes to `notes`.
pub(super) fn read(
    block: &Block<'_>,
    name: &str,
    notes: &mut Notes,
    findings: &Findings<'_>,
) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut own = Notes::default();
    for statement in &block.statements {
        let line = findings.line_of(statement.span.clone());
        let name = match alerts.len() {
            0 => name.to_owned(),
            others => format!("{name}-{}", others + 1),
        };
        let key = statement.key.as_str();
        if key.contains("alarm.data") {
            match data(statement, name) {
                Some(mut alert) => {
                    if key != "alarm.data" {
                        let text = "the alert counts both directions of both sides together";
                        alert.notes.add(line, &format!("{}: {text}", statement.show()));
                    }
                    alerts.push(alert);
                }
                None => notes.lost(line, statement, "it is BYTES in SECONDS"),
            }
        } else if key.contains("alarm.disconnect") {
            match disconnect(statement, name) {
                Some(mut alert) => {
                    let text = "the share is of a hundred sessions that there were";
                    alert.notes.add(line, &format!("{}: {text}", statement.show()));
                    alerts.push(alert);
                }
                None => notes.lost(line, statement, "it is NUMBER/SHARE in SECONDS"),
            }
        } else if matches!(key, "from" | "to" | "protocol") {
            let why = "an alert watches services, rules or targets: name them in it";
            own.lost(line, statement, why);
        } else {
            notes.lost(line, statement, "no alert watches that");
        }
    }
    match alerts.first_mut() {
        Some(first) => {
            own.0.append(&mut first.notes.0);
            first.notes = own;
        }
        None => notes.0.append(&mut own.0),
    }
    alerts
}

/// `LIMIT in SECONDS`; the interval is 5 s when none is written.
fn interval<'s>(statement: &'s Statement<'_>) -> Option<(&'s str, u64)> {
    let values: Vec<&str> = statement.values.iter().map(|word| word.text).collect();
    let (limit, seconds) = match values[..] {
        [limit] => (limit, 5),
        [limit, "in", seconds] => (limit, seconds.parse().ok()?),
        _ => return None,
    };
    (1..=86_400).contains(&seconds).then_some((limit, seconds))
}

fn data(statement: &Statement<'_>, name: String) -> Option<Alert> {
    let (limit, every) = interval(statement)?;
    // At most so many bytes: fewer than one more.
    let below = limit.parse::<u64>().ok().filter(|limit| *limit < u64::MAX / 2)? + 1;
    Some(Alert { notes: Notes::default(), name, every, watch: Watch::Below(below) })
}

fn disconnect(statement: &Statement<'_>, name: String) -> Option<Alert> {
    let (limit, every) = interval(statement)?;
    let (least, percent) = limit.split_once('/')?;
    let (least, percent): (u64, u64) = (least.parse().ok()?, percent.parse().ok()?);
    let good = (1..=1_000_000_000).contains(&least) && (1..=100).contains(&percent);
    let by = match statement.key.starts_with("external") {
        true => "target",
        false => "client",
    };
    let watch = Watch::Ends { by, above: least - u64::from(least > 0), percent };
    good.then(|| Alert { notes: Notes::default(), name, every, watch })
}

impl Alert {
    pub(super) fn write(&self) -> String {
        let watch = match &self.watch {
            Watch::Below(bytes) => format!("below = {}\n", quote(&format!("{bytes} B"))),
            Watch::Ends { by, above, percent } => {
                let above = quote(&format!("{above} and {percent}%"));
                format!("ends_by = {}\nabove = {above}\n", quote(by))
            }
        };
        format!(
            "{}[[alert]]\nname  = {}\nevery = {}\n{watch}",
            self.notes.text(),
            quote(&self.name),
            quote(&format!("{}s", self.every)),
        )
    }
}
