//! Small disks of our own, which are full when we say so: tmpfs in a mount namespace that nobody
//! else sees.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use rustix::fs::statvfs;
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};

/// Room on a disk that is not full: more than a run writes.
const ROOM: u64 = 2 << 30;
/// Tells the program that it has been started in namespaces of its own.
pub(crate) const INSIDE: &str = "--inside";
/// Namespaces of mounts and of processes: when the program ends, whatever it started ends too.
const UNSHARE: [&str; 5] = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// Starts this program again in namespaces of its own and waits for it; `None`: that is not
/// permitted here.
pub(crate) fn again_inside() -> Option<ExitCode> {
    let unshare = || {
        let mut command = Command::new("unshare");
        command.args(UNSHARE).arg("--").stdin(Stdio::null());
        command
    };
    let permitted = unshare().arg("true").stderr(Stdio::null()).status();
    if !permitted.is_ok_and(|status| status.success()) {
        return None;
    }
    let own = env::current_exe().ok()?;
    let ended = unshare().arg(own).args(env::args_os().skip(1)).arg(INSIDE).status().ok()?;
    Some(
        ended.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, Into::into),
    )
}

/// The forwarder's disk and the recorder's.
///
/// Counter tables get a `/dev/shm` of their own too: a forwarder that starts outside sees no spool
/// at the path that a table names, and removes what it takes for an orphan.
#[derive(Debug)]
pub(crate) struct Disks {
    pub(crate) spool: Disk,
    pub(crate) data: Disk,
    _tables: Disk,
}

impl Disks {
    pub(crate) fn mount(dir: &Path) -> Result<Self> {
        let [spool, data] = paths(dir);
        for disk in [&spool, &data] {
            fs::create_dir(disk).with_context(|| format!("cannot make {}", disk.display()))?;
        }
        let tables = Disk::mount("/dev/shm".into())?;
        Ok(Self { spool: Disk::mount(spool)?, data: Disk::mount(data)?, _tables: tables })
    }
}

/// Where the two lie, or plain directories in their place.
pub(crate) fn paths(dir: &Path) -> [PathBuf; 2] {
    ["forwarder-disk", "recorder-disk"].map(|name| dir.join(name))
}

/// One small disk; gone when dropped.
#[derive(Debug)]
pub(crate) struct Disk(PathBuf);

impl Disk {
    /// A disk with room.
    fn mount(at: PathBuf) -> Result<Self> {
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        let options = std::ffi::CString::new(format!("size={ROOM}"))?;
        mount("torture", &at, "tmpfs", flags, Some(options.as_c_str()))
            .with_context(|| format!("cannot mount a tmpfs on {}", at.display()))?;
        Ok(Self(at))
    }

    /// Leaves so many bytes of room.
    pub(crate) fn fill(&self, room: u64) -> Result<()> {
        let now = statvfs(&self.0).context("cannot ask a tmpfs how full it is")?;
        let used = (now.f_blocks - now.f_bfree) * now.f_frsize;
        // What is written at this moment may make it too small; then it stays as it is.
        drop(self.resize(used + room));
        Ok(())
    }

    /// Leaves enough room again.
    pub(crate) fn empty(&self) -> Result<()> {
        self.resize(ROOM)
    }

    fn resize(&self, bytes: u64) -> Result<()> {
        let options = std::ffi::CString::new(format!("size={bytes}"))?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount_remount(&self.0, flags, options.as_c_str())
            .with_context(|| format!("cannot change the size of {}", self.0.display()))
    }

    /// Puts everything where it outlives the disk: below the same directory, as `….kept`.
    pub(crate) fn keep(&self) {
        let to = self.0.with_extension("kept");
        let copied = Command::new("cp").arg("-a").arg(&self.0).arg(&to).status();
        if !copied.is_ok_and(|status| status.success()) {
            eprintln!("torture: cannot copy {} to {}", self.0.display(), to.display());
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A process that still has a file open there takes the disk with it.
        _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
