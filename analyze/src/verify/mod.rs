//! The proof that the account is whole, check by check.
//!
//! Every check names the exact place of each fault. A note is something a reader should know that
//! is no fault: what a crash made unknowable, what went to another recorder, what retention deleted.

mod captures;
mod manifest;
mod output;
mod parts;
mod place;
mod rows;

use std::path::Path;

use schemas::manifest::Part;

use crate::database::Database;
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::progress::Progress;

pub use output::write;
pub use parts::damage;
pub use place::Place;
pub(crate) use rows::{elsewhere, relation, retired};

/// Faults and notes that are kept per check; further ones are counted.
pub const KEPT: usize = 1000;

/// What all checks say.
#[derive(Debug)]
pub struct Report {
    /// The checks in their order.
    pub checks: Vec<Check>,
    /// What crashes left open; `None` when the rows could not be asked.
    pub bound: Option<Bound>,
}

impl Report {
    /// Whether no check found a fault.
    pub fn is_whole(&self) -> bool {
        self.checks.iter().all(|check| check.faults.total == 0)
    }
}

/// By how much at most what was delivered exceeds what is billed, over all sessions cut off by a
/// crash: bytes leave inside a system call, so the truth lies between delivered and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Sessions cut off by a crash.
    pub sessions: i128,
    /// Sum of `received_up - bytes_up`.
    pub up: i128,
    /// Sum of `received_down - bytes_down`.
    pub down: i128,
}

/// The result of one check.
#[derive(Debug, Default)]
pub struct Check {
    /// Its name: `manifest`, `parts`, `seq`, `sessions`, `totals`, `slots`, `values`, `captures`,
    /// `bound`.
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
    /// The first ones, [`KEPT`] at most.
    pub kept: Vec<Finding>,
    /// All of them.
    pub total: usize,
}

/// One thing found at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

impl Check {
    fn new(name: &'static str, examined: String) -> Self {
        Self { name, examined, ..Self::default() }
    }

    fn fault(&mut self, place: Place, message: impl Into<String>) {
        self.faults.add(place, message.into());
    }

    fn note(&mut self, place: Place, message: impl Into<String>) {
        self.notes.add(place, message.into());
    }
}

impl Findings {
    fn add(&mut self, place: Place, message: String) {
        self.total += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Finding { place, message });
        }
    }
}

/// Runs every check over the data directory `root`. Parts that are missing or damaged are left out
/// of the later ones, so their rows show up there as gaps too. Without a manifest that can be read
/// there is nothing else to check.
///
/// # Errors
/// 66 when there is no data directory, 78 when it is of a newer format, 70, 74 or 77 when a check
/// could not be made at all.
pub fn run(root: &Path) -> Result<Report, Failure> {
    Dataset::check_format(root)?;
    let manifest = manifest::check(root)?;
    let dataset = match Dataset::open(root) {
        Ok(dataset) => dataset,
        Err(Failure::Io(text)) if manifest.faults.total > 0 => {
            let mut manifest = manifest;
            manifest.note(Place::default(), format!("nothing else could be checked: {text}"));
            return Ok(Report { checks: vec![manifest], bound: None });
        }
        Err(other) => return Err(other),
    };
    let progress = Progress::start("comparing checksums");
    let (mut parts, damaged) = parts::checksums(&dataset);
    drop(progress);
    if damaged.iter().any(|part| has_moved(root, part)) {
        return Err(Failure::Moved("parts were replaced while they were compared".to_owned()));
    }
    let dataset = dataset.without(&damaged);
    let _progress = Progress::start("checking rows");
    let database = match Database::open_all(&dataset) {
        Ok(database) => database,
        Err(Failure::Io(text)) => {
            // The recorder wrote what nobody can read: checksums match, no row can be checked.
            parts.fault(Place::default(), text);
            return Ok(Report { checks: vec![manifest, parts], bound: None });
        }
        Err(other) => return Err(other),
    };
    parts::rows(&dataset, &database, &mut parts)?;
    parts::strangers(&dataset, &mut parts)?;
    let mut checks = vec![manifest, parts];
    checks.extend(rows::checks(&dataset, &database)?);
    captures::files(&dataset, &database, rows::last(&mut checks))?;
    let (check, bound) = rows::bound(&database)?;
    checks.push(check);
    place::find_parts(&dataset, &database, &mut checks)?;
    Ok(Report { checks, bound: Some(bound) })
}

/// Whether a part that could not be found has left the tables since: its file is deleted an hour
/// after that.
fn has_moved(root: &Path, path: &str) -> bool {
    let named = |part: &Part| part.path == path;
    Dataset::open(root).is_ok_and(|now| !now.parts().iter().any(named))
}
