//! The proof that the account is whole, check by check.
//!
//! Every check names the exact place of each fault. A note is something a reader should know that
//! is no fault: what a crash made unknowable, what could not be looked at.

mod captures;
mod output;
mod parts;

use schemas::manifest::BootMark;

use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::report::unit::{Unit, counted};
use crate::sql;

pub use output::write;
pub use parts::damage;

/// Faults and notes that are listed per check; further ones are counted.
const LISTED: usize = 20;

/// The result of one check.
#[derive(Debug, Default)]
pub struct Check {
    /// Its name: `parts`, `seq`, `sessions`, `totals`, `slots`, `captures`, `bound`.
    pub name: &'static str,
    /// What was looked at, in words.
    pub examined: String,
    /// What is wrong.
    pub faults: Findings,
    /// What a reader should know.
    pub notes: Findings,
}

/// Findings of one kind: the first ones, and how many there are.
#[derive(Debug, Default)]
pub struct Findings {
    /// The first ones.
    pub listed: Vec<Finding>,
    /// All of them.
    pub total: usize,
}

impl Findings {
    /// How many are not listed.
    pub fn unlisted(&self) -> usize {
        self.total.saturating_sub(self.listed.len())
    }
}

/// One thing found at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where: a part, a boot, a session, a slot.
    pub place: String,
    /// What.
    pub message: String,
}

impl Check {
    fn new(name: &'static str, examined: String) -> Self {
        Self { name, examined, ..Self::default() }
    }

    fn add(&mut self, fault: bool, place: String, message: String) {
        let findings = if fault { &mut self.faults } else { &mut self.notes };
        findings.total += 1;
        if findings.listed.len() < LISTED {
            findings.listed.push(Finding { place, message });
        }
    }
}

/// Runs every check. Parts that are missing or damaged are left out of the later ones, so their
/// rows show up there as gaps too.
///
/// # Errors
/// 70 or 74 when a check could not be made at all.
pub fn run(dataset: Dataset) -> Result<Vec<Check>, Failure> {
    let progress = Progress::start("comparing checksums");
    let (mut parts, damaged) = parts::checksums(&dataset);
    drop(progress);
    let dataset = dataset.without(&damaged);
    let _progress = Progress::start("checking rows");
    let database = match Database::open(&dataset, &[]) {
        Ok(database) => database,
        Err(Failure::Io(text)) => {
            // The recorder wrote what nobody can read: checksums match, no row can be checked.
            parts.add(true, "tables".to_owned(), text);
            return Ok(vec![parts]);
        }
        Err(other) => return Err(other),
    };
    parts::rows(&dataset, &database, &mut parts)?;
    let marks = marks(&dataset);
    let boots = counted(i128::try_from(dataset.boots().count()).unwrap_or_default(), "boot");
    let count = |table: &str, thing: &str| count(&database, table).map(|rows| counted(rows, thing));
    let usage = count("usage", "row")?;
    Ok(vec![
        parts,
        ask(
            &database,
            Check::new("seq", format!("{boots}: no row missing, none twice")),
            include_str!("../query/verify_seq.sql"),
            &marks,
        )?,
        ask(
            &database,
            Check::new(
                "sessions",
                format!("{}: none missing, none twice", count("sessions", "session")?),
            ),
            include_str!("../query/verify_sessions.sql"),
            &marks,
        )?,
        ask(
            &database,
            Check::new(
                "totals",
                format!("{usage} of usage compared with the totals of their sessions"),
            ),
            include_str!("../query/verify_totals.sql"),
            &marks,
        )?,
        ask(
            &database,
            Check::new("slots", format!("{} compared with their usage", count("slots", "slot")?)),
            include_str!("../query/verify_slots.sql"),
            &marks,
        )?,
        captures::check(
            &dataset,
            &database,
            ask(
                &database,
                Check::new(
                    "captures",
                    format!("{}, each leads to its file", count("captures", "row")?),
                ),
                include_str!("../query/verify_captures.sql"),
                &marks,
            )?,
        )?,
        bound(&database)?,
    ])
}

/// Runs a check that is a question: its answer is (place, message, fault).
fn ask(
    database: &Database,
    mut check: Check,
    statement: &str,
    marks: &str,
) -> Result<Check, Failure> {
    let question = format!("check {}", check.name);
    let statement = statement.replace("{marks}", marks);
    // Enough of each kind for the list; the total stands beside every row.
    let limited = format!(
        "SELECT place, message, fault, count(*) OVER (PARTITION BY fault) AS total FROM ({statement})
         QUALIFY row_number() OVER (PARTITION BY fault ORDER BY place, message) <= {LISTED}
         ORDER BY place, message"
    );
    let answer = database.query(&question, &limited)?;
    for row in answer.cells() {
        if let [Cell::Text(place), Cell::Text(message), Cell::Bool(fault), Cell::Int(all)] =
            &row[..]
        {
            check.add(*fault, place.to_string(), message.to_string());
            let findings = if *fault { &mut check.faults } else { &mut check.notes };
            findings.total = usize::try_from(*all).unwrap_or(usize::MAX);
        }
    }
    Ok(check)
}

/// The honest bound for sessions cut off by a crash.
fn bound(database: &Database) -> Result<Check, Failure> {
    let answer = database
        .query("add up what a crash left open", include_str!("../query/verify_bound.sql"))?;
    let mut check = Check::new("bound", "no session was cut off by a crash".to_owned());
    for row in answer.cells() {
        if let [Cell::Int(sessions), Cell::Int(up), Cell::Int(down)] = row[..]
            && sessions > 0
        {
            let sessions = counted(sessions, "session");
            check.examined = if (up, down) == (0, 0) {
                format!("{sessions} cut off by a crash had delivered all that was read")
            } else {
                let (up, down) = (Unit::Bytes.show(up), Unit::Bytes.show(down));
                format!(
                    "{sessions} cut off by a crash may have delivered up to {up} up and {down} down more than billed"
                )
            };
            check.add(
                false,
                "sessions with end_reason lost".to_owned(),
                format!("received exceeds bytes by {up} up and {down} down"),
            );
        }
    }
    Ok(check)
}

fn count(database: &Database, table: &str) -> Result<i128, Failure> {
    let question = format!("count the rows of {table}");
    let answer =
        database.query(&question, &format!("SELECT count(*) FROM {}", sql::name(table)))?;
    let first = answer.cells().next().and_then(|row| row.into_iter().next());
    Ok(if let Some(Cell::Int(rows)) = first { rows } else { 0 })
}

/// The manifest's boots as a relation.
fn marks(dataset: &Dataset) -> String {
    let row = |mark: &BootMark| {
        let (node, boot) = (sql::text(&mark.node), sql::text(&mark.boot));
        let end = mark.end.as_ref().map_or_else(
            || "false, NULL, NULL, NULL, NULL".to_owned(),
            |end| {
                format!(
                    "true, {}, {}, {}, {}",
                    end.last_seq, end.last_session_no, end.unopened, end.exact
                )
            },
        );
        format!("({node}, {boot}, {}, {end})", mark.last_seq)
    };
    let nobody = "(NULL::VARCHAR, NULL::VARCHAR, NULL::BIGINT, NULL::BOOLEAN, NULL::BIGINT, \
        NULL::BIGINT, NULL::BIGINT, NULL::BOOLEAN)";
    // The first row gives the types and is no boot.
    let values =
        std::iter::once(nobody.to_owned()).chain(dataset.boots().map(row)).collect::<Vec<_>>();
    format!(
        "SELECT * FROM (VALUES {}) AS mark(node, boot, last_seq, ended, end_last_seq, last_session_no, unopened, exact)
         WHERE boot IS NOT NULL",
        values.join(", ")
    )
}
