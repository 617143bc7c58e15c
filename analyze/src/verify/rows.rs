//! The checks that are questions to the rows.

use schemas::manifest::{BootMark, SeqRange};

use super::{Bound, Check, KEPT, Place};
use crate::cell::Cell;
use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::report::unit::{Unit, counted};
use crate::sql;

/// Runs the checks from `seq` to `captures`, in this order.
pub(super) fn checks(dataset: &Dataset, database: &Database) -> Result<Vec<Check>, Failure> {
    let boots = counted(i128::try_from(dataset.boots().count()).unwrap_or_default(), "boot");
    let count = |table: &str, thing: &str| count(database, table).map(|rows| counted(rows, thing));
    let usage = count("usage", "row")?;
    let questions = [
        (
            "seq",
            format!("{boots}: no row missing, none twice"),
            include_str!("../query/verify_seq.sql"),
        ),
        (
            "sessions",
            format!("{}: none missing, none twice", count("sessions", "session")?),
            include_str!("../query/verify_sessions.sql"),
        ),
        (
            "totals",
            format!("{usage} of usage compared with the totals of their sessions"),
            include_str!("../query/verify_totals.sql"),
        ),
        (
            "slots",
            format!("{} compared with their usage", count("slots", "slot")?),
            include_str!("../query/verify_slots.sql"),
        ),
        (
            "values",
            "nothing is negative, usage lies in its slot".to_owned(),
            include_str!("../query/verify_values.sql"),
        ),
        (
            "captures",
            format!("{}, each leads to its file", count("captures", "row")?),
            include_str!("../query/verify_captures.sql"),
        ),
    ];
    let (marks, elsewhere, retired) = (marks(dataset), elsewhere(dataset), retired(dataset));
    questions
        .into_iter()
        .map(|(name, examined, statement)| {
            let statement = statement
                .replace("{marks}", &marks)
                .replace("{elsewhere}", &elsewhere)
                .replace("{retired}", &retired);
            ask(database, Check::new(name, examined), &statement)
        })
        .collect()
}

/// The check that was made last.
pub(super) fn last(checks: &mut [Check]) -> &mut Check {
    checks.last_mut().expect("checks were made before this is asked")
}

/// Runs a check that is a question. Its answer: place, message, fault, and the place in fields.
fn ask(database: &Database, mut check: Check, statement: &str) -> Result<Check, Failure> {
    let question = format!("check {}", check.name);
    // Enough of each kind for the list; the total stands beside every row.
    let order = "node, boot, session_first, slot_start, seq_first, message";
    let limited = format!(
        "SELECT message, fault, count(*) OVER (PARTITION BY fault) AS total,
             place, node, boot, session_first, session_last, seq_first, seq_last, slot_start, clock_pass
         FROM ({statement})
         QUALIFY row_number() OVER (PARTITION BY fault ORDER BY {order}) <= {KEPT}
         ORDER BY {order}"
    );
    let answer = database.query(&question, &limited)?;
    for row in answer.cells() {
        if let [Cell::Text(message), Cell::Bool(fault), Cell::Int(all), place @ ..] = &row[..] {
            let findings = if *fault { &mut check.faults } else { &mut check.notes };
            findings.add(Place::of_row(place), message.to_string());
            findings.total = usize::try_from(*all).unwrap_or(usize::MAX);
        }
    }
    Ok(check)
}

/// The honest bound for sessions cut off by a crash.
pub(super) fn bound(database: &Database) -> Result<(Check, Bound), Failure> {
    let answer = database
        .query("add up what a crash left open", include_str!("../query/verify_bound.sql"))?;
    let first = answer.cells().next();
    let Some([Cell::Int(sessions), Cell::Int(up), Cell::Int(down)]) = first.as_deref() else {
        return Err(Failure::Internal("the bound of crashes has no sums".to_owned()));
    };
    let bound = Bound { sessions: *sessions, up: *up, down: *down };
    let mut check = Check::new("bound", "no session was cut off by a crash".to_owned());
    if bound.sessions > 0 {
        let sessions = counted(bound.sessions, "session");
        check.examined = if (bound.up, bound.down) == (0, 0) {
            format!("{sessions} cut off by a crash had delivered all that was read")
        } else {
            let (up, down) = (Unit::Bytes.show(bound.up), Unit::Bytes.show(bound.down));
            format!(
                "{sessions} cut off by a crash may have delivered up to {up} up and {down} down more than billed"
            )
        };
        let place = Place { text: "sessions with end_reason lost".to_owned(), ..Place::default() };
        let (up, down) = (bound.up, bound.down);
        check.note(place, format!("received exceeds bytes by {up} up and {down} down"));
    }
    Ok((check, bound))
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
    relation(
        "node VARCHAR, boot VARCHAR, last_seq BIGINT, ended BOOLEAN, end_last_seq BIGINT, \
         last_session_no BIGINT, unopened BIGINT, exact BOOLEAN",
        dataset.boots().map(row),
    )
}

/// The rows of boots that went to other recorders, as a relation.
pub(crate) fn elsewhere(dataset: &Dataset) -> String {
    let rows = dataset.boots().flat_map(|mark| {
        let (node, boot) = (sql::text(&mark.node), sql::text(&mark.boot));
        let range =
            move |rows: &SeqRange| format!("({node}, {boot}, {}, {})", rows.first, rows.last);
        mark.elsewhere.iter().map(range)
    });
    relation("node VARCHAR, boot VARCHAR, seq_first BIGINT, seq_last BIGINT", rows)
}

/// Up to when retention has emptied which table, as a relation.
pub(crate) fn retired(dataset: &Dataset) -> String {
    let rows = schemas::table::TABLES.iter().filter_map(|table| {
        let before = dataset.retired(table.name)?;
        Some(format!("({}, {})", sql::text(table.name), sql::time(before)))
    });
    relation("name VARCHAR, before TIMESTAMP", rows)
}

/// Rows of literals as a relation, also of none.
pub(crate) fn relation(columns: &str, rows: impl Iterator<Item = String>) -> String {
    let names: Vec<&str> = columns.split(", ").filter_map(|c| c.split(' ').next()).collect();
    let types = columns.split(", ").filter_map(|c| c.split(' ').nth(1));
    // The first row gives the types and is none.
    let nothing = types.map(|kind| format!("NULL::{kind}")).collect::<Vec<_>>().join(", ");
    let values = std::iter::once(format!("({nothing})")).chain(rows).collect::<Vec<_>>();
    format!(
        "SELECT * FROM (VALUES {}) AS relation({}) WHERE {} IS NOT NULL",
        values.join(", "),
        names.join(", "),
        names[0]
    )
}
