//! Closed invoices: a directory of months, in each a file per contract that was billed.
//!
//! `DIR/2026-10/acme.json` is the invoice of the customer acme, `DIR/2026-10/rule/NAME.json` and
//! `service/NAME.json` those of contracts for rules and services; a second contract of the same
//! name in one period has the day it begins behind an `@`. A file appears whole or not at all and is
//! never written again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process;

use super::Month;
use super::invoice::{FORMAT, Invoice};
use crate::failure::Failure;
use crate::scratch;
use crate::tariff::Subject;

/// The directories of subjects that are no customers.
const SUBDIRECTORIES: [&str; 2] = ["rule", "service"];
/// Who may read invoices: their owner and group.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// The closed invoices of a directory, by month and file.
#[derive(Debug)]
pub struct Ledger {
    root: PathBuf,
    months: BTreeMap<Month, BTreeSet<String>>,
}

/// A closed invoice.
#[derive(Debug, Clone)]
pub struct Kept {
    /// The month in which its period began.
    pub month: Month,
    /// Its file below the month's directory.
    pub file: String,
    /// What it says.
    pub invoice: Invoice,
}

impl Ledger {
    /// Lists the directory `root`. One that is not there has no invoices.
    ///
    /// # Errors
    /// 74 or 77 when it cannot be read.
    pub fn open(root: &Path) -> Result<Self, Failure> {
        let mut months = BTreeMap::new();
        for name in list(root)? {
            let Some(month) = Month::parse(&name) else { continue };
            let directory = root.join(&name);
            let mut files: BTreeSet<String> = list(&directory)?.into_iter().collect();
            for kind in SUBDIRECTORIES {
                let names = list(&directory.join(kind))?;
                files.extend(names.into_iter().map(|name| format!("{kind}/{name}")));
            }
            files.retain(|file| file.ends_with(".json") && !is_hidden(file));
            months.insert(month, files);
        }
        Ok(Self { root: root.to_owned(), months })
    }

    /// The invoices of a subject, those of the earliest month first.
    ///
    /// # Errors
    /// 74 when one cannot be read or is not as it was written, 77 when it may not be read, 78 when it
    /// is of a newer format.
    pub fn of(&self, subject: &Subject) -> Result<Vec<Kept>, Failure> {
        let stem = stem(subject);
        let (first, later) = (format!("{stem}.json"), format!("{stem}@"));
        let mut kept = Vec::new();
        for (month, files) in &self.months {
            let mine = files.get(&first).into_iter();
            let mine =
                mine.chain(files.range(later.clone()..).take_while(|f| f.starts_with(&later)));
            for file in mine {
                let invoice = read(&self.path(*month, file))?;
                kept.push(Kept { month: *month, file: file.clone(), invoice });
            }
        }
        Ok(kept)
    }

    /// Where an invoice is kept.
    pub fn path(&self, month: Month, file: &str) -> PathBuf {
        self.root.join(month.to_string()).join(file)
    }

    /// Keeps an invoice that is not kept yet.
    ///
    /// # Errors
    /// 74 or 77 when it cannot be written, 64 when somebody else kept another one meanwhile.
    pub fn keep(&self, month: Month, file: &str, invoice: &Invoice) -> Result<(), Failure> {
        let path = self.path(month, file);
        let directory = path.parent().unwrap_or(&self.root);
        let text = invoice.text();
        match write(directory, &path, &text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match fs::read_to_string(&path) {
                    Ok(there) if there == text => Ok(()),
                    Ok(_) => Err(differs(&path)),
                    Err(error) => Err(Failure::file("read", &path, &error)),
                }
            }
            written => {
                written.map_err(|error| Failure::writing(&path.display().to_string(), &error))
            }
        }
    }
}

/// What is said of an invoice that was closed with other figures.
pub fn differs(path: &Path) -> Failure {
    Failure::Usage(format!(
        "{} is closed with other figures and stays as it is: bill the next period, whose adjustments carry the difference",
        path.display()
    ))
}

/// The name of a subject's files, without the ending.
pub fn stem(subject: &Subject) -> String {
    match subject {
        Subject::Customer(name) => name.to_string(),
        Subject::Rule(name) => format!("rule/{name}"),
        Subject::Service(name) => format!("service/{name}"),
    }
}

/// The names in a directory; none when it is not there.
fn list(directory: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: &io::Error| Failure::file("list", directory, error);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| failed(&error))?,
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<Result<_, _>>().map_err(|error| failed(&error))
}

/// Whether a file is one that is being written.
fn is_hidden(file: &str) -> bool {
    file.rsplit('/').next().is_some_and(|name| name.starts_with('.'))
}

fn read(path: &Path) -> Result<Invoice, Failure> {
    /// What every format has.
    #[derive(serde::Deserialize)]
    struct Head {
        format: u32,
    }
    let text = fs::read_to_string(path).map_err(|error| Failure::file("read", path, &error))?;
    if let Ok(Head { format }) = serde_json::from_str(&text)
        && format > FORMAT
    {
        return Err(Failure::Format(format!(
            "{} is an invoice of format {format}, this analyze reads up to {FORMAT}; use the one that closed it",
            path.display()
        )));
    }
    Invoice::parse(&text).map_err(|fault| {
        Failure::Io(format!(
            "cannot understand the closed invoice {}: {fault}; restore the file from a backup",
            path.display()
        ))
    })
}

/// Writes a file that is not there yet, whole or not at all, so that it outlives a power loss.
fn write(directory: &Path, path: &Path, text: &str) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}.part", process::id()));
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&temporary)?;
    scratch::guard(&temporary);
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    // A link takes no name that is taken, unlike a rename.
    let linked = scratch::release(&temporary, || {
        let linked = written.and_then(|()| fs::hard_link(&temporary, path));
        fs::remove_file(&temporary).and(linked)
    });
    linked.and_then(|()| File::open(directory)?.sync_all())
}
