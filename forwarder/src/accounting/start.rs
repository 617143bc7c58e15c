//! Starting the account: the spool is opened, the accounts of earlier boots are closed, oldest
//! first, and only then does this boot take its first row number.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use forwarder_core::accounting::{
    CounterTable, Geometry, Header, Ledger, MAX_SPOOL_PATH_BYTES, Recovered, SpoolHistory,
    TableError,
};
use forwarder_core::config::{Config, WhenFull};
use journal::{Journal, JournalError, Settings};
use schemas::table::Event;
use schemas::vocab::{BootId, Severity, SpoolId, Timestamp};
use schemas::wire::BootEnd;

use super::Account;
use super::history::Historian;
use super::spool::{BoundedSpool, SpoolError};
use super::tables::{DeadTable, TableDir, kernel_boot, remove_orphans};
use super::thread::{JournalThread, OwnTable};
use crate::clock::Clock;
use schemas::exit::Exit;

/// Why the account cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The spool could not be opened or read.
    #[error("cannot open the spool: {0}")]
    Spool(#[from] JournalError),
    /// Somebody else has the spool.
    #[error(
        "cannot open the spool: {path} is in use by {holder}: stop it, or name another directory as \
         `recorder.spool`", path = path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Who has it.
        holder: String,
    },
    /// The spool's path is of no use.
    #[error("cannot use {path} as the spool: {source}")]
    Path {
        /// The directory as configured.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The account of an earlier boot could not be closed.
    #[error("cannot close the account of an earlier run: {0}")]
    Recovery(String),
    /// The counter table could not be made.
    #[error("cannot make the counter table: {0}")]
    Table(#[from] TableError),
    /// The random source, tmpfs or a thread failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

impl StartError {
    /// The code that the program ends with.
    pub fn exit(&self) -> Exit {
        let source = match self {
            Self::Spool(JournalError::Locked { .. }) | Self::InUse { .. } => return Exit::Locked,
            Self::Spool(JournalError::Io { source, .. })
            | Self::Path { source, .. }
            | Self::Io { source, .. } => source,
            Self::Spool(_) | Self::Recovery(_) => return Exit::Io,
            Self::Table(_) => return Exit::Bug,
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => Exit::Permission,
            _ => Exit::Io,
        }
    }

    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, source }
    }
}

/// Opens the spool, closes the accounts of earlier boots, and starts the journal thread.
///
/// # Errors
/// The spool cannot be used, or an earlier account could not be closed: forwarding would lose rows.
pub fn start(config: &Config, clock: Clock) -> Result<(Account, JournalThread), StartError> {
    let boot = BootId::from_random(random()?);
    let journal = open_spool(&config.recorder.spool)?;
    let spool_path = canonical(&config.recorder.spool)?;
    let mut spool = BoundedSpool::new(journal, u64::MAX);
    let historian = Historian { node: config.node.as_str(), boot, now: clock.wall(clock.now()) };
    let (closed, own) = match TableDir::open(Path::new(&spool_path)) {
        Ok(tables) => (close_earlier(config, historian, &mut spool, &tables)?, Ok(tables)),
        Err(error) => {
            let history = historian.read(&mut spool.journal)?;
            (close_lost(config, &mut spool, history)?, Err(error))
        }
    };
    spool.max_bytes = config.recorder.spool_max_bytes;

    let geometry = Geometry { slots: config.accounting.table_slots };
    let created = own.and_then(|tables| tables.create(boot.as_str(), geometry));
    let (words, table_file, no_tmpfs) = match created {
        Ok((words, path, lock)) => (words, Some(OwnTable { path, _lock: lock }), None),
        Err(error) => {
            let memory = forwarder_sys::mapping::Mapping::anonymous(geometry.words())
                .map_err(StartError::io("allocate the counter table"))?;
            (memory.leak(), None, Some(error))
        }
    };
    let now = clock.wall(clock.now());
    let header = Header {
        node: config.node.as_str().to_owned(),
        boot,
        started: now,
        slot_len_s: config.accounting.slot_len_s,
        spool_id: spool.journal.id(),
        spool_path,
        kernel_boot: kernel_boot(),
    };
    let mut table = CounterTable::create(words, geometry, &header)?;
    if config.recorder.when_full == WhenFull::KeepForwarding {
        table = table.with_overflow();
    }
    let table: &'static CounterTable = Box::leak(Box::new(table));
    let account = Account::new(boot, table, config.recorder.when_full);
    first_events(&account, now, config, &closed.recovered, no_tmpfs.as_ref());
    let since = closed.nothing_ran_since;
    let thread = JournalThread::spawn(account.clone(), table, table_file, spool, clock, since)?;
    Ok((account, thread))
}

pub(super) fn random() -> Result<u64, StartError> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())
        .map_err(|error| StartError::io("draw a random number")(error.into()))?;
    Ok(u64::from_le_bytes(bytes))
}

fn open_spool(dir: &Path) -> Result<Journal, StartError> {
    let opened = Journal::open(dir, Settings::new(SpoolId(random()?)));
    let (journal, found) = opened.map_err(|error| match error {
        JournalError::Locked { path } => {
            let holder = lock_holder(&path).map_or_else(
                || "another process".to_owned(),
                |process| format!("process {process}"),
            );
            StartError::InUse { path, holder }
        }
        error => StartError::Spool(error),
    })?;
    if found.cut_frames {
        tracing::warn!(
            bytes = found.cut_bytes,
            "cut off the spool's torn tail with whole frames in it, as a power loss leaves them; it is kept as .suspect in {}",
            dir.display()
        );
    } else if found.cut_bytes > 0 {
        tracing::info!(bytes = found.cut_bytes, "cut a torn frame off the spool's tail");
    }
    Ok(journal)
}

/// The process that holds the lock on a directory, from `/proc/locks`; `None`: that does not tell,
/// as where the process lives in a container of its own.
fn lock_holder(dir: &Path) -> Option<u32> {
    let metadata = std::fs::metadata(dir).ok()?;
    let (dev, inode) = (metadata.dev(), metadata.ino());
    let (major, minor) = (rustix::fs::major(dev), rustix::fs::minor(dev));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let held = locks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    // proc_locks(5): number, kind, mode, access, process, file, and the range.
    let mut held = held.filter(|words| words.get(1) == Some(&"FLOCK"));
    let found = held.find(|words| words.get(5) == Some(&file.as_str()))?;
    found.get(4)?.parse().ok().filter(|process| *process > 0)
}

fn canonical(spool: &Path) -> Result<String, StartError> {
    let error = |source| StartError::Path { path: spool.display().to_string(), source };
    let path = spool.canonicalize().map_err(error)?;
    let text = path.to_str().filter(|text| text.len() <= MAX_SPOOL_PATH_BYTES);
    let unusable = "its path must be UTF-8 of at most 1024 bytes";
    text.map(str::to_owned).ok_or_else(|| error(io::Error::other(unusable)))
}

/// Closes every earlier boot: from its table where it has one, as lost where it has none.
fn close_earlier(
    config: &Config,
    historian: Historian<'_>,
    spool: &mut BoundedSpool,
    tables: &TableDir,
) -> Result<Closed, StartError> {
    remove_orphans().unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot look for counter tables of spools that are gone");
    });
    let mut recovered = Vec::new();
    let dead = tables.dead().map_err(StartError::io("look for counter tables"))?;
    let found = spool.journal.last_frame();
    let mut unusable = Vec::new();
    for table in dead {
        let history = historian.read(&mut spool.journal)?;
        let ours = table.header.kernel_boot == kernel_boot()
            && spool.journal.has_had_id(table.header.spool_id);
        if history.has_ended(table.header.boot) {
            remove(table)?;
            continue;
        }
        if !ours {
            unusable.push(table);
            continue;
        }
        if let Err(error) = Ledger::check_spool(table.words(), found) {
            recovered.push(Recovery::RolledBack(table.header.boot, error));
            unusable.push(table);
            continue;
        }
        match Ledger::recover(table.words(), &history, spool) {
            Err(TableError::Ahead) => unusable.push(table),
            done => {
                recovered.push(Recovery::Table(done?.map_err(failed)?));
                spool.sync()?;
                remove(table)?;
            }
        }
    }
    let mut history = historian.read(&mut spool.journal)?;
    unusable.iter().for_each(|table| history.table(&table.header));
    let lost = close_lost(config, spool, history)?;
    recovered.extend(lost.recovered);
    unusable.into_iter().try_for_each(remove)?;
    Ok(Closed { recovered, ..lost })
}

/// Ends the boots that have neither an end nor a table.
fn close_lost(
    config: &Config,
    spool: &mut BoundedSpool,
    mut history: SpoolHistory,
) -> Result<Closed, StartError> {
    let lost = history.end_lost_boots(config.node.as_str(), spool).map_err(failed)?;
    spool.sync()?;
    Ok(Closed {
        recovered: lost.into_iter().map(Recovery::Lost).collect(),
        nothing_ran_since: history.nothing_ran_since(),
    })
}

/// The accounts of earlier boots, closed.
#[derive(Debug)]
struct Closed {
    recovered: Vec<Recovery>,
    /// Up to when they tell what moved. `None`: not known.
    nothing_ran_since: Option<Timestamp>,
}

fn remove(table: DeadTable) -> Result<(), StartError> {
    table.remove().map_err(StartError::io("remove the counter table of an earlier run"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: SpoolError) -> StartError {
    let full = matches!(&error, SpoolError::Journal(error) if error.is_full());
    let advice = if full {
        "; make some room on the spool's file system and start again: its rows are safe in the \
         counter table until then, as long as this machine is not restarted"
    } else {
        ""
    };
    StartError::Recovery(format!("{error}{advice}"))
}

/// How an earlier boot's account was closed.
#[derive(Debug)]
enum Recovery {
    Table(Recovered),
    RolledBack(BootId, TableError),
    Lost(BootEnd),
}

fn first_events(
    account: &Account,
    now: Timestamp,
    config: &Config,
    recovered: &[Recovery],
    no_tmpfs: Option<&io::Error>,
) {
    let tell = |severity: Severity, kind: &str, message: String| {
        if severity == Severity::Info {
            tracing::info!("{message}");
        } else {
            tracing::warn!("{message}");
        }
        account.event(Event {
            ts: now.0,
            severity: severity.as_str().to_owned(),
            kind: kind.to_owned(),
            message,
            ..Event::default()
        });
    };
    for recovery in recovered {
        match recovery {
            Recovery::Table(done) => tell(
                Severity::Warning,
                "recovery",
                format!(
                    "boot {} did not end in order: {} ended sessions written, {} running ones \
                     closed as lost; repeats of refused attempts in its last slot are not known",
                    done.boot, done.ended, done.lost
                ),
            ),
            Recovery::RolledBack(boot, error) => tell(
                Severity::Error,
                "spool_rolled_back",
                format!(
                    "{error}: it was put back to an earlier state. The counter table of boot \
                     {boot} goes on from rows that are gone here and perhaps not at the recorder, \
                     so it is not used"
                ),
            ),
            Recovery::Lost(end) => tell(
                Severity::Error,
                "recovery",
                format!(
                    "boot {} did not end in order and its counter table is gone: sessions open \
                     then are known up to their last slot only",
                    end.boot
                ),
            ),
        }
    }
    if let Some(error) = no_tmpfs {
        let message = format!(
            "no counter table on /dev/shm ({error}): counts since the last slot edge would not \
             survive a crash of the forwarder"
        );
        tell(Severity::Warning, "no_tmpfs", message);
    }
    let message = format!("boot {} of {} began", account.boot(), config.node);
    tell(Severity::Info, "boot", message);
}

#[cfg(test)]
mod tests {
    use forwarder_core::config::Environment;
    use rustix::fs::{FlockOperation, flock};

    use journal::Entry;
    use prost::Message;
    use schemas::wire::FrameKind;

    use super::*;

    /// The table of a boot whose rows went to a spool that lay here before.
    fn leave_a_table_of_another_spool(tables: &TableDir, boot: BootId, spool_path: &Path) {
        let geometry = Geometry { slots: 1 };
        let (words, _, lock) = tables.create(boot.as_str(), geometry).unwrap();
        let header = Header {
            node: "edge".to_owned(),
            boot,
            started: Timestamp(1_800_000_000_000_000),
            slot_len_s: 1,
            spool_id: SpoolId(u64::MAX),
            spool_path: spool_path.display().to_string(),
            kernel_boot: kernel_boot(),
        };
        CounterTable::create(words, geometry, &header).unwrap();
        // Mapped memory holds the lock until the process ends; that boot's process has ended.
        flock(&lock, FlockOperation::Unlock).unwrap();
    }

    #[tokio::test]
    async fn a_boot_whose_spool_is_gone_gets_an_end_that_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        std::fs::create_dir(&spool).unwrap();
        let boot = BootId::from_random(7);
        let tables = TableDir::open(&spool.canonicalize().unwrap()).unwrap();
        leave_a_table_of_another_spool(&tables, boot, &spool);
        let text = format!(
            "node = \"edge\"\n[recorder]\nendpoint = \"unix:/nowhere\"\nspool = \"{}\"\n\
             [accounting]\ntable = 64\n[admin]\nsocket = \"/nowhere\"\n\
             [[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:1\"]\ntarget = [\"127.0.0.1:2\"]\n",
            spool.display()
        );
        let environment = Environment {
            host_name: "edge".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: std::collections::BTreeMap::new(),
        };
        let config = Config::parse(&text, "test.toml", &environment).unwrap();
        let (_, mut thread) = start(&config, Clock::start()).unwrap();
        assert!(thread.finish().await);
        thread.close();

        let ends = journal::scan(&spool).unwrap().filter_map(|entry| match entry.unwrap() {
            Entry::Frame(frame, _) if frame.kind == FrameKind::BootEnd => {
                Some(BootEnd::decode(&frame.payload[..]).unwrap())
            }
            _ => None,
        });
        let lost = ends.into_iter().find(|end| end.boot == boot.as_str()).unwrap();
        assert!(!lost.exact);
        let gone = tables.dead().err().map(|error| error.kind());
        assert_eq!(gone, Some(io::ErrorKind::NotFound), "the directory goes with its last table");
    }
}
