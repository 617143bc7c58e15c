//! `--by`: keys as columns.

use crate::cli::Key;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::period::Period;
use crate::sql;

/// The columns that rows are grouped by.
#[derive(Debug)]
pub(super) struct Grouping {
    /// `expression AS name, …`
    pub(super) keys: String,
    /// `name, …`
    pub(super) names: String,
    /// The names one by one, quoted.
    pub(super) columns: Vec<String>,
}

impl Grouping {
    /// The keys typed, or `default`, over a table whose time is `time`.
    ///
    /// # Errors
    /// 64 when a key is given twice or the table does not know it.
    pub(super) fn new(
        typed: &[Key],
        default: &[Key],
        unknown: &[Key],
        time: (&str, &str),
        dataset: &Dataset,
        period: &Period,
    ) -> Result<Self, Failure> {
        let (table, column) = time;
        let keys = if typed.is_empty() { default } else { typed };
        let range = dataset.time_range(table).unwrap_or_default();
        let mut expressions = Vec::new();
        let mut columns: Vec<String> = Vec::new();
        for key in keys {
            let name = sql::name(key.column());
            if unknown.contains(key) {
                return Err(Failure::Usage(format!(
                    "--by {}: the table `{table}` does not know it",
                    key.column()
                )));
            }
            if columns.contains(&name) {
                return Err(Failure::Usage(format!("--by gives {} twice", key.column())));
            }
            expressions.push(format!("{} AS {name}", sql::key(*key, column, period, range)));
            columns.push(name);
        }
        Ok(Self { keys: expressions.join(", "), names: columns.join(", "), columns })
    }
}

/// Refuses hours, days and months where periods as a whole are looked at.
///
/// # Errors
/// 64 when one is among the keys.
pub(super) fn refuse_times(command: &str, keys: &[Key]) -> Result<(), Failure> {
    let time = keys.iter().find(|key| matches!(key, Key::Hour | Key::Day | Key::Month));
    time.map_or(Ok(()), |key| {
        Err(Failure::Usage(format!(
            "--by {}: {command} looks at whole periods; `usage` groups by time",
            key.column()
        )))
    })
}
