//! Where counter tables lie: `/dev/shm/weir-<16 hex of SHA-256 of the spool's canonical path>/<boot>`.
//!
//! The directory is on tmpfs, so a table survives its process and not the kernel, and a store to it
//! costs no disk. It belongs to its user alone (0700). A table is locked for as long as its process
//! lives.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;

use forwarder_core::accounting::{Geometry, Header, Ledger};
use forwarder_sys::mapping::Mapping;
use rustix::fs::{FlockOperation, OFlags, flock};
use sha2::{Digest, Sha256};

const TMPFS: &str = "/dev/shm";
/// `TMPFS_MAGIC` of statfs(2).
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The directory of one spool's counter tables.
#[derive(Debug)]
pub(super) struct TableDir {
    path: PathBuf,
}

/// A counter table of a boot that is no more.
#[derive(Debug)]
pub(super) struct DeadTable {
    /// Whose it was.
    pub(super) header: Header,
    mapping: Mapping,
    path: PathBuf,
    _lock: File,
}

impl TableDir {
    /// The directory for a spool, made if it is not there.
    pub(super) fn open(spool: &Path) -> io::Result<Self> {
        let filesystem = rustix::fs::statfs(TMPFS)?;
        if filesystem.f_type != TMPFS_MAGIC {
            return Err(io::Error::other(format!("{TMPFS} is not a tmpfs")));
        }
        let digest = Sha256::digest(spool.as_os_str().as_encoded_bytes());
        let name: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = Path::new(TMPFS).join(format!("weir-{name}"));
        make_private_dir(&path)?;
        let found = fs::symlink_metadata(&path)?;
        let ours = rustix::process::geteuid().as_raw();
        if !found.is_dir() || found.uid() != ours || found.mode() & 0o077 != 0 {
            let what = format!("{} is not a directory of ours with mode 0700", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        Ok(Self { path })
    }

    /// Makes the table's file: new, locked, fully allocated and mapped for the life of the process.
    pub(super) fn create(
        &self,
        boot: &str,
        geometry: Geometry,
    ) -> io::Result<(&'static [AtomicU64], PathBuf, File)> {
        let path = self.path.join(boot);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .custom_flags(nofollow())
            .open(&path)?;
        let mapped = flock(&file, FlockOperation::NonBlockingLockExclusive)
            .map_err(io::Error::from)
            .and_then(|()| Mapping::create(&file, geometry.words()));
        match mapped {
            Ok(mapping) => Ok((mapping.leak(), path, file)),
            Err(error) => {
                // Half a table is none; the error that matters is the first one.
                drop(fs::remove_file(&path));
                Err(error)
            }
        }
    }

    /// The tables whose process is gone, oldest first. What is no table is deleted with a warning:
    /// whoever holds the spool's lock is the only one here.
    pub(super) fn dead(&self) -> io::Result<Vec<DeadTable>> {
        let mut dead = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let path = entry.path();
            if !entry.file_type()?.is_file() {
                // Not of our making, and no table whatever it is: it may stay.
                tracing::warn!(path = %path.display(), "passing over what is no file among the counter tables");
                continue;
            }
            let named = |error| named(&path, &error);
            let Some(lock) = lock_dead(&path).map_err(named)? else { continue };
            let table = Mapping::open(&lock).map_err(|error| error.to_string()).and_then(|m| {
                let header = Ledger::identify(m.words()).map_err(|error| error.to_string())?;
                Ok((header, m))
            });
            match table {
                Ok((header, mapping)) => {
                    dead.push(DeadTable { header, mapping, path, _lock: lock });
                }
                Err(error) => {
                    // It was killed while it made its table: no session had begun.
                    tracing::warn!(path = %path.display(), error, "deleting what is no counter table");
                    fs::remove_file(&path).map_err(named)?;
                }
            }
        }
        dead.sort_by_key(|table| table.header.started);
        Ok(dead)
    }
}

impl DeadTable {
    pub(super) fn words(&self) -> &[AtomicU64] {
        self.mapping.words()
    }

    /// The account of the boot is closed and durable: its table goes.
    pub(super) fn remove(self) -> io::Result<()> {
        fs::remove_file(&self.path)
    }
}

fn nofollow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

fn make_private_dir(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The same error with the path it is about.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Opens and locks a table; `None`: its process lives.
fn lock_dead(path: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(nofollow()).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the tables of spools that are gone: nobody will ever recover them. Only tables of ours
/// that nobody holds; what vanishes meanwhile is somebody else's work.
pub(super) fn remove_orphans() -> io::Result<()> {
    let ours = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(TMPFS)? {
        let dir = entry?.path();
        let name = dir.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_tables = name.strip_prefix("weir-").is_some_and(|hex| hex.len() == 16);
        let Ok(metadata) = fs::symlink_metadata(&dir) else { continue };
        if !is_tables || !metadata.is_dir() || metadata.uid() != ours {
            continue;
        }
        let mut removed = false;
        for table in fs::read_dir(&dir).into_iter().flatten().flatten() {
            removed |= remove_orphan(&table.path()).unwrap_or(false);
        }
        if removed {
            // Fails while a table is left in it, which is what is wanted.
            drop(fs::remove_dir(&dir));
        }
    }
    Ok(())
}

/// Deletes a table whose spool is gone; one that cannot be looked for, as on a disk that fails or is
/// closed to us, may be there. Its header is read before it is locked: a lock, however
/// short, would look like a living process to the forwarder that comes to recover it.
fn remove_orphan(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(nofollow()).open(path)?;
    let header = Ledger::identify(Mapping::open(&file)?.words()).map_err(io::Error::other)?;
    if Path::new(&header.spool_path).try_exists()? || lock_dead(path)?.is_none() {
        return Ok(false);
    }
    fs::remove_file(path)?;
    Ok(true)
}

/// The kernel's id of its own boot, from `/proc/sys/kernel/random/boot_id`; 0 where there is none.
pub(super) fn kernel_boot() -> u128 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    u128::from_str_radix(&id.trim().replace('-', ""), 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use forwarder_core::accounting::CounterTable;
    use schemas::vocab::{BootId, SpoolId, Timestamp};

    use super::*;

    #[test]
    fn what_is_no_file_among_the_tables_is_passed_over_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let tables = TableDir { path: dir.path().to_owned() };
        let (folder, link) = (dir.path().join("folder"), dir.path().join("link"));
        fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        fs::write(dir.path().join("half a table"), "").unwrap();
        assert_eq!(tables.dead().unwrap().len(), 0);
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        left.sort();
        assert_eq!(left, [folder, link]);
    }

    /// A table for a spool, and the lock on it.
    fn table_of(spool: &Path, boot: u64) -> (PathBuf, File) {
        let geometry = Geometry { slots: 1 };
        let boot = BootId::from_random(boot);
        let tables = TableDir::open(spool).unwrap();
        let (words, path, lock) = tables.create(boot.as_str(), geometry).unwrap();
        let header = Header {
            node: "edge".to_owned(),
            boot,
            started: Timestamp(0),
            slot_len_s: 1,
            spool_id: SpoolId(1),
            spool_path: spool.display().to_string(),
            kernel_boot: kernel_boot(),
        };
        CounterTable::create(words, geometry, &header).unwrap();
        (path, lock)
    }

    #[test]
    fn tables_of_spools_that_are_gone_are_removed_unless_somebody_holds_them() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path().canonicalize().unwrap();
        let [kept, gone, held] = ["kept", "gone", "held"].map(|name| base.join(name));
        fs::create_dir(&kept).unwrap();
        let [(in_use, first), (orphan, second), (locked, third)] =
            [(&kept, 1), (&gone, 2), (&held, 3)].map(|(spool, boot)| table_of(spool, boot));
        // Mapped memory holds the lock until the process ends; those boots' processes have ended.
        flock(&first, FlockOperation::Unlock).unwrap();
        flock(&second, FlockOperation::Unlock).unwrap();
        remove_orphans().unwrap();
        assert!(in_use.exists(), "its spool may be started again");
        assert!(!orphan.parent().unwrap().exists(), "the directory goes with its last table");
        assert!(locked.exists(), "its process lives");
        flock(&third, FlockOperation::Unlock).unwrap();
        for table in [in_use, locked] {
            fs::remove_dir_all(table.parent().unwrap()).unwrap();
        }
    }

    #[test]
    fn a_table_stays_when_nobody_can_tell_whether_its_spool_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().canonicalize().unwrap().join("loop");
        std::os::unix::fs::symlink("loop", &spool).unwrap();
        let (table, lock) = table_of(&spool, 4);
        flock(&lock, FlockOperation::Unlock).unwrap();
        remove_orphans().unwrap();
        let stays = table.exists();
        drop(fs::remove_dir_all(table.parent().unwrap()));
        assert!(stays);
    }

    #[test]
    fn a_table_that_cannot_be_opened_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let error = lock_dead(dir.path()).map_err(|error| named(dir.path(), &error)).unwrap_err();
        assert!(error.to_string().starts_with(&dir.path().display().to_string()), "{error}");
    }
}
