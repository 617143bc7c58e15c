//! The data directory: made, locked, its format told, its permissions.
//!
//! ```text
//! <data>/
//!   lock          flock'ed by the one recorder that runs on the directory; holds its process id
//!   weir.json     the format ([`schemas::manifest::Format`])
//!   manifest/     which parts make up the tables
//!   accounting/   the parts: <table>/date=YYYY-MM-DD/log-<first frame of the segment>.parquet
//!   replaced/     parts that left the tables less than an hour ago, under the same paths
//!   upkeep.json   what compaction and retention know over restarts
//!   captures/     pcapng files
//!   log/          the write-ahead log
//! ```
//! We run with umask 0077. What reports need (the directory itself, `manifest/`, `accounting/`,
//! `weir.json`) is opened to the group `weir` for reading, if there is such a group; `captures/` is
//! to `weir-capture`.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use schemas::manifest::{DATA_FORMAT, Format};
use schemas::table::SCHEMA_VERSION;

use crate::manifest;
use schemas::exit::{Exit, Failure};

/// The group that may read the account.
pub const GROUP: &str = "weir";
/// The group that may read captured payload.
pub const CAPTURE_GROUP: &str = "weir-capture";
/// The directory of the parts.
pub const ACCOUNTING: &str = "accounting";
const FORMAT_FILE: &str = "weir.json";
const LOCK_FILE: &str = "lock";

/// A data directory that is ours for as long as this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    group: Group,
    /// Held for its lock.
    _lock: File,
}

impl DataDir {
    /// Makes the directory if need be, locks it and checks its format.
    ///
    /// # Errors
    /// Another recorder has it (75), we may not (77), a newer version of Weir made it (78), or it
    /// cannot be used for another reason (74).
    pub fn claim(path: &Path) -> Result<Self, Failure> {
        let group = Group::find(GROUP);
        claim_directory(path, &group).map_err(failure("create the data directory", path))?;
        let lock = lock(path)?;
        let data = Self { path: path.to_owned(), group, _lock: lock };
        data.check_format()?;
        for directory in [manifest::DIRECTORY, ACCOUNTING] {
            data.make(directory)?;
        }
        sync_directory(path).map_err(failure("fsync", path))?;
        Ok(data)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Who may read what reports need.
    pub fn group(&self) -> &Group {
        &self.group
    }

    fn make(&self, name: &str) -> Result<(), Failure> {
        let path = self.path.join(name);
        make_directory(&path, &self.group).map_err(failure("create", &path))
    }

    fn check_format(&self) -> Result<(), Failure> {
        let path = self.path.join(FORMAT_FILE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return self.write_format(),
            Err(error) => return Err(failure("read", &path)(error)),
        };
        let format: Format = serde_json::from_slice(&text).map_err(|error| {
            let path = path.display();
            Failure::new(Exit::Io, format!("{path} is damaged: {error}; restore it from a copy"))
        })?;
        if format.format > DATA_FORMAT {
            let message = format!(
                "{} has format {}, written by a newer version of Weir; this one knows formats up \
                 to {DATA_FORMAT}: upgrade, or name another directory as data",
                self.path.display(),
                format.format
            );
            return Err(Failure::new(Exit::Config, message));
        }
        Ok(())
    }

    fn write_format(&self) -> Result<(), Failure> {
        let path = self.path.join(FORMAT_FILE);
        let temporary = self.path.join(format!("{FORMAT_FILE}.tmp"));
        let format = Format { format: DATA_FORMAT, schema: SCHEMA_VERSION.to_owned() };
        let mut text = serde_json::to_vec(&format).expect("a format is a number and a text");
        text.push(b'\n');
        let write = || {
            let mut file = File::create(&temporary)?;
            file.write_all(&text)?;
            self.group.admit(&temporary, FILE_MODE)?;
            file.sync_all()?;
            fs::rename(&temporary, &path)?;
            sync_directory(&self.path)
        };
        write().map_err(failure("write", &path))
    }
}

/// Mode of what is made, until its group is let in.
pub(crate) const NEW_FILE_MODE: u32 = 0o600;
/// As [`NEW_FILE_MODE`], for directories.
pub(crate) const NEW_DIRECTORY_MODE: u32 = 0o700;
/// Mode of files that the group may read.
const FILE_MODE: u32 = 0o640;
/// Mode of directories that the group may read.
const DIRECTORY_MODE: u32 = 0o750;
/// Mode of the data directory.
const DATA_MODE: u32 = 0o751;

/// The group that may read the account, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Group(Option<u32>);

impl Group {
    /// The group of this name in `/etc/group`, if it is one of ours. That it is not is a warning.
    pub fn find(name: &str) -> Self {
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let Some(gid) = number_of(&groups, name) else {
            tracing::warn!(
                "there is no group {name}: only our own user can read what is meant for it; \
                 groupadd --system {name} makes one"
            );
            return Self::nobody();
        };
        if !is_ours(gid) {
            tracing::warn!(
                "our user is not in the group {name}, which therefore cannot read what is meant \
                 for it; usermod -aG {name} and our user's name mends that"
            );
            return Self::nobody();
        }
        Self(Some(gid))
    }

    /// Nobody but ourselves may read.
    pub const fn nobody() -> Self {
        Self(None)
    }

    /// Lets the group read a file.
    ///
    /// # Errors
    /// The owner or mode of the file cannot be changed.
    pub fn admit_file(&self, path: &Path) -> io::Result<()> {
        self.admit(path, FILE_MODE)
    }

    /// Lets the group read a directory.
    ///
    /// # Errors
    /// As [`Self::admit_file`].
    pub fn admit_directory(&self, path: &Path) -> io::Result<()> {
        self.admit(path, DIRECTORY_MODE)
    }

    /// Gives a file or directory to the group with this mode.
    ///
    /// # Errors
    /// As [`Self::admit_file`].
    pub fn admit(&self, path: &Path, mode: u32) -> io::Result<()> {
        let Some(gid) = self.0 else { return Ok(()) };
        chown(path, None, Some(gid))?;
        fs::set_permissions(path, Permissions::from_mode(mode))
    }
}

/// Whether we may give files to the group.
fn is_ours(gid: u32) -> bool {
    let root = rustix::process::geteuid().is_root();
    let ours = rustix::process::getgroups().unwrap_or_default();
    root || rustix::process::getegid().as_raw() == gid || ours.iter().any(|g| g.as_raw() == gid)
}

/// The number of the user or group `name` in `list`, the content of `/etc/passwd` or `/etc/group`.
pub(crate) fn number_of(list: &str, name: &str) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == name).then(|| fields.nth(1)?.parse().ok())?
    })
}

/// Makes the data directory itself. Everybody may pass through it, to what their groups let them
/// read, but not list it.
fn claim_directory(path: &Path, group: &Group) -> io::Result<()> {
    let exists = path.exists();
    make_directory(path, group)?;
    if exists { Ok(()) } else { group.admit(path, DATA_MODE) }
}

/// Makes a directory and those above it, and fsyncs the one that holds it. One that exists is left
/// as it is.
///
/// # Errors
/// It could not be made, or something else has its name.
pub fn make_directory(path: &Path, group: &Group) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent.filter(|parent| !parent.exists()) {
        make_directory(parent, group)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            group.admit(path, DIRECTORY_MODE)?;
            sync_directory(parent.unwrap_or(Path::new(".")))
        }
    }
}

/// Makes what was created, renamed or removed in a directory durable.
///
/// # Errors
/// The directory cannot be opened or fsynced.
pub fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn lock(data: &Path) -> Result<File, Failure> {
    let path = data.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .map_err(failure("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            let message = format!(
                "{} is in use by another recorder (process {}): stop it, or name another directory \
                 as data",
                data.display(),
                if holder.trim().is_empty() { "unknown" } else { holder.trim() }
            );
            return Err(Failure::new(Exit::Locked, message));
        }
        Err(error) => return Err(failure("lock", &path)(error.into())),
    }
    // For people only: the lock is what counts.
    let named = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    named.map_err(failure("write", &path))?;
    Ok(file)
}

fn failure(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Failure {
    let path = path.display().to_string();
    move |error| {
        let help = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "; give the recorder's user write access, or name another directory as data"
            }
            _ => "",
        };
        Failure::of_kind(error.kind(), format!("cannot {action} {path}: {error}{help}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_made_with_all_that_belongs_into_it() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("a/b");
        let data = DataDir::claim(&path).unwrap();
        assert_eq!(data.path(), path);
        let format = fs::read_to_string(path.join(FORMAT_FILE)).unwrap();
        assert_eq!(format, "{\"format\":1,\"schema\":\"1.0\"}\n");
        for name in ["manifest", "accounting"] {
            assert!(path.join(name).is_dir(), "{name}");
        }
        drop(data);
        DataDir::claim(&path).unwrap();
    }

    #[test]
    fn a_directory_in_use_is_refused_with_75() {
        let scratch = tempfile::tempdir().unwrap();
        let _held = DataDir::claim(scratch.path()).unwrap();
        let refused = DataDir::claim(scratch.path()).unwrap_err();
        assert_eq!(refused.exit, Exit::Locked);
        let process = format!("(process {})", std::process::id());
        assert!(refused.message.contains(&process), "{refused}");
    }

    #[test]
    fn a_newer_format_is_refused_with_78_and_left_alone() {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join(FORMAT_FILE);
        fs::write(&file, r#"{"format":2,"schema":"9.0"}"#).unwrap();
        let refused = DataDir::claim(scratch.path()).unwrap_err();
        assert_eq!(refused.exit, Exit::Config);
        assert!(refused.message.contains("format 2"), "{refused}");
        assert!(!scratch.path().join("manifest").exists());
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_io_error() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("data");
        fs::write(&path, "").unwrap();
        assert_eq!(DataDir::claim(&path).unwrap_err().exit, Exit::Io);
    }

    #[test]
    fn a_directory_without_permission_is_refused_with_77() {
        let denied = failure("create", Path::new("/x"))(io::ErrorKind::PermissionDenied.into());
        assert_eq!(denied.exit, Exit::Permission);
        assert!(denied.message.contains("give the recorder's user write access"), "{denied}");
    }

    #[test]
    fn a_group_is_found_by_its_name() {
        let groups = "root:x:0:\nweirdo:x:7:\nweir:x:998:alice,bob\nbroken\n";
        assert_eq!(number_of(groups, "weir"), Some(998));
        assert_eq!(number_of(groups, "nobody"), None);
        assert_eq!(number_of(groups, "broken"), None);
    }
}
