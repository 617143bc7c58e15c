//! `recorder recover`: the manifest made again from the parts.
//!
//! Every part is read from its first to its last byte. Those that make up the tables
//! (`choose`) are written to a checkpoint above every version there was; that one file is the
//! commit, so that a recovery cut off anywhere is simply done again. Nothing is deleted: what is not
//! part of the tables is moved to `replaced/` or `orphans/`, the old manifest to a directory beside
//! the new one.

mod choose;
mod old;
mod part;

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use schemas::exit::{Exit, Failure};
use schemas::manifest::{Checkpoint, REPLACED, Retired, UNCOMMITTED};
use schemas::table::{TABLES, Table};

use self::choose::{Candidate, Fate, choose};
use self::old::Known;
pub(crate) use self::part::PartMarks;
use self::part::{Examined, examine};
use crate::data_dir::{ACCOUNTING, DataDir};
use crate::files::Files;
use crate::manifest::{self, Manifest};
use crate::publish::{LOST, ORPHANS};

/// How often the progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Makes the manifest again in the data directory of the configuration in `file`, and says what was
/// done.
///
/// # Errors
/// A recorder runs on the directory (75), a newer version of Weir made it (78), it cannot be read or
/// written (74, 77); or parts were left out (1).
pub fn recover(file: &Path) -> Result<String, Failure> {
    let config = crate::load::config(file)?;
    if !config.data.join(ACCOUNTING).is_dir() {
        let message = format!("{} is no data directory of a recorder", config.data.display());
        return Err(Failure::new(Exit::NoData, message));
    }
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let data = DataDir::claim(&config.data)?;
    recover_in(&Files::new(data.path(), *data.group()))
}

/// A part of the tables' directories, whole or not.
struct Found {
    /// Path below the data directory, without `.new`.
    path: String,
    named: bool,
    examined: Result<Examined, String>,
}

fn recover_in(files: &Files) -> Result<String, Failure> {
    let mut known = Known::read(files)?;
    let log_first = first_frame_of_log(files)?;
    let found = find(files, &known)?;
    let whole: Vec<&Found> = found.iter().filter(|found| found.examined.is_ok()).collect();
    let candidates: Vec<Candidate> = whole.iter().filter_map(|found| candidate(found)).collect();
    // Without a log nothing will be published again.
    let fates = choose(&candidates, log_first.unwrap_or(u64::MAX));
    let mut checkpoint =
        Checkpoint { version: newest(&known, &found) + 1, ..Checkpoint::default() };
    let mut log_through = known.log_through;
    for (found, fate) in whole.iter().zip(&fates) {
        let Ok(examined) = &found.examined else { continue };
        if *fate == Fate::Uncommitted {
            continue;
        }
        let marks = examined.marks.clone();
        known.take_marks(marks.spools, marks.boots);
        for ((node, boot), seq) in &examined.seqs {
            let mark = known.boot(node, boot);
            mark.last_seq = mark.last_seq.max(*seq);
        }
        log_through = log_through.max(examined.frames.map_or(0, |(_, last)| last));
        if *fate == Fate::Taken {
            checkpoint.parts.push(examined.part.clone());
        }
    }
    checkpoint.log_through = log_through.max(log_first.map_or(0, |first| first.saturating_sub(1)));
    checkpoint.spools = known.spools.values().cloned().collect();
    checkpoint.boots = known.boots.values().cloned().collect();
    let retired = known.retired.iter();
    checkpoint.retired = retired
        .map(|(table, before_us)| Retired { table: table.clone(), before_us: *before_us })
        .collect();
    Manifest::begin_with(files, &checkpoint).map_err(|error| Failure::new(Exit::Io, error))?;

    let mut report = Report::new(&checkpoint);
    let mut fates = fates.into_iter();
    for found in &found {
        let fate = found.examined.as_ref().ok().and_then(|_| fates.next());
        settle(files, found, fate.unwrap_or(Fate::Uncommitted), &mut report)?;
    }
    set_manifest_aside(files, &known, checkpoint.version, &mut report)?;
    report.finish()
}

fn candidate(found: &Found) -> Option<Candidate> {
    let examined = found.examined.as_ref().ok()?;
    Some(Candidate {
        path: found.path.clone(),
        named: found.named,
        segment: examined.frames,
        replaces: examined.replaces.clone(),
    })
}

/// A version that no recorder comes to: a name with a larger one is a stranger's.
const BEYOND_VERSIONS: u64 = 1 << 60;

/// The newest version that anything is named for: names of merged parts come from versions too.
fn newest(known: &Known, found: &[Found]) -> u64 {
    let numbers = found.iter().flat_map(|found| {
        let name = found.path.rsplit('/').next().unwrap_or_default();
        let merged = if name.starts_with("log-") || name.starts_with(LOST) { "" } else { name };
        merged.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok())
    });
    numbers.filter(|number| *number < BEYOND_VERSIONS).fold(known.version, u64::max)
}

/// Looks at every part below `accounting/`.
fn find(files: &Files, known: &Known) -> Result<Vec<Found>, Failure> {
    let mut found = Vec::new();
    let (began, mut told) = (Instant::now(), Instant::now());
    for table in TABLES {
        for directory in list(files, &files.at(ACCOUNTING).join(table.name))? {
            for path in list(files, &files.at(&directory))? {
                found.extend(look_at(files, known, table, &path)?);
                if told.elapsed() >= TELL_EVERY {
                    told = Instant::now();
                    let seconds = began.elapsed().as_secs();
                    eprintln!("read {} parts in {seconds} s, at {path}", found.len());
                }
            }
        }
    }
    Ok(found)
}

fn look_at(
    files: &Files,
    known: &Known,
    table: &Table,
    path: &str,
) -> Result<Option<Found>, Failure> {
    let (committed, named) = match path.strip_suffix(UNCOMMITTED) {
        Some(committed) => (committed, false),
        None => (path, true),
    };
    if !committed.ends_with(".parquet") {
        return Ok(None);
    }
    let place = files.at(path);
    let examined = match files.fs().read(&place) {
        Ok(content) => examine(table, committed, content),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Failure::io(&error, format_args!("cannot read {}", place.display())));
        }
        Err(error) => Err(error.to_string()),
    };
    let examined = examined.and_then(|examined| match known.hashes.get(committed) {
        Some(hash) if *hash != examined.part.sha256 => {
            Err("its SHA-256 is not the one in the manifest".to_owned())
        }
        _ => Ok(examined),
    });
    Ok(Some(Found { path: committed.to_owned(), named, examined }))
}

/// What a directory holds: paths below the data directory, in order. One that is not there is empty.
fn list(files: &Files, directory: &Path) -> Result<Vec<String>, Failure> {
    let entries = match files.fs().list(directory) {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            return Ok(Vec::new());
        }
        entries => entries.map_err(|error| {
            Failure::io(&error, format_args!("cannot list {}", directory.display()))
        })?,
    };
    let below = |path: &Path| path.strip_prefix(files.data()).ok()?.to_str().map(str::to_owned);
    let mut paths: Vec<String> = entries.iter().filter_map(|entry| below(&entry.path)).collect();
    paths.sort_unstable();
    Ok(paths)
}

/// The first frame that the log holds; `None`: there is no log.
fn first_frame_of_log(files: &Files) -> Result<Option<u64>, Failure> {
    let paths = list(files, &files.at(crate::log::DIRECTORY))?;
    let segments = paths.iter().filter_map(|path| {
        let digits = path.rsplit('/').next()?.strip_suffix(".seg")?;
        digits.parse::<u64>().ok()
    });
    Ok(segments.min())
}

/// Moves a part to where it belongs now.
fn settle(files: &Files, found: &Found, fate: Fate, report: &mut Report) -> Result<(), Failure> {
    let path = &found.path;
    let here = if found.named { path.clone() } else { format!("{path}{UNCOMMITTED}") };
    let there = match (&found.examined, fate) {
        (Err(reason), _) => {
            report.damaged(&here, reason, found.named);
            format!("{ORPHANS}/{here}")
        }
        (Ok(_), Fate::Taken) if found.named => return Ok(()),
        (Ok(_), Fate::Taken) => path.clone(),
        (Ok(_), Fate::Replaced) => {
            report.replaced += 1;
            format!("{REPLACED}/{path}")
        }
        (Ok(_), Fate::Uncommitted) => {
            report.uncommitted += 1;
            format!("{ORPHANS}/{here}")
        }
    };
    rename(files, &here, &there)
}

fn rename(files: &Files, from: &str, to: &str) -> Result<(), Failure> {
    let move_it = || {
        if let Some(directory) = files.at(to).parent() {
            files.make_directory(directory)?;
        }
        files.fs().rename(&files.at(from), &files.at(to))?;
        files.sync_parents([to, from]).map_err(|(_, error)| error)
    };
    move_it().map_err(|error| {
        Failure::io(&error, format_args!("cannot move {} to {to}", files.at(from).display()))
    })
}

fn set_manifest_aside(
    files: &Files,
    known: &Known,
    version: u64,
    report: &mut Report,
) -> Result<(), Failure> {
    let aside = format!("{}.before-{version}", manifest::DIRECTORY);
    for path in &known.files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        rename(files, &format!("{}/{name}", manifest::DIRECTORY), &format!("{aside}/{name}"))?;
    }
    for (path, reason) in &known.unreadable {
        report.line(format_args!("could not read {}: {reason}", path.display()));
    }
    if !known.files.is_empty() {
        report.line(format_args!("kept the manifest before as {}", files.at(aside).display()));
    }
    Ok(())
}

/// What was done, in words.
struct Report {
    text: String,
    replaced: usize,
    uncommitted: usize,
    /// Committed parts that cannot be read.
    lost: usize,
}

impl Report {
    fn new(checkpoint: &Checkpoint) -> Self {
        let mut report = Self { text: String::new(), replaced: 0, uncommitted: 0, lost: 0 };
        for table in TABLES {
            let of_table = || checkpoint.parts.iter().filter(|part| part.table == table.name);
            let rows: u64 = of_table().map(|part| part.rows).sum();
            let parts = of_table().count();
            report.line(format_args!("{}: {rows} rows in {parts} parts", table.name));
        }
        report.line(format_args!(
            "made version {} of the manifest, with {} boots, {} spools and the log up to frame {}",
            checkpoint.version,
            checkpoint.boots.len(),
            checkpoint.spools.len(),
            checkpoint.log_through
        ));
        report
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.text += &format!("{line}\n");
    }

    fn damaged(&mut self, path: &str, reason: &str, named: bool) {
        self.lost += usize::from(named);
        self.line(format_args!("left out {path}: {reason}; it is in {ORPHANS}/"));
    }

    fn finish(mut self) -> Result<String, Failure> {
        let Self { replaced, uncommitted, .. } = self;
        if replaced > 0 {
            self.line(format_args!(
                "moved {replaced} parts whose rows are in others to {REPLACED}/"
            ));
        }
        if uncommitted > 0 {
            self.line(format_args!(
                "moved {uncommitted} parts that were never committed to {ORPHANS}/: the log or \
                 other parts have their rows"
            ));
        }
        if self.lost > 0 {
            let message = format!(
                "{}{} parts cannot be read: the rows in them are lost unless a copy has them. Bring \
                 those files back and run this again",
                self.text, self.lost
            );
            return Err(Failure::new(Exit::No, message));
        }
        Ok(self.text)
    }
}

#[cfg(test)]
mod tests;
