//! Where log lines leave: standard error, a file, or the system's log.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};

/// The mode of a log file that we make.
const FILE_MODE: u32 = 0o640;

/// Where the system's log listens (syslog(3)).
pub(super) const SYSLOG: &str = "/dev/log";

/// How long one look at an outlet that takes nothing lasts.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Where lines go.
#[derive(Debug)]
pub(super) enum Outlet {
    /// Standard error.
    Stderr,
    /// A file; `true`: its last line is cut short, because the disk took no more.
    File(File, bool),
    /// The system's log.
    Syslog(Syslog),
}

/// The lines did not get out.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// Somebody wants another outlet meanwhile, and this one takes nothing.
    Abandoned,
    /// What the system says.
    Failed(io::Error),
}

impl From<io::Error> for Unwritten {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

impl Outlet {
    /// Writes a line, which may take as long as the reader likes, until `abandon` says so.
    pub(super) fn write(
        &mut self,
        urgency: u8,
        line: &str,
        abandon: impl Fn() -> bool,
    ) -> Result<(), Unwritten> {
        match self {
            Self::Stderr => {
                wait(io::stderr().as_fd(), abandon)?;
                Ok(io::stderr().write_all(format!("{line}\n").as_bytes())?)
            }
            Self::File(file, is_cut) => {
                wait(file.as_fd(), abandon)?;
                let start = if *is_cut { "\n" } else { "" };
                let text = format!("{start}{line}\n");
                *is_cut = false;
                write_or_note(file, text.as_bytes(), is_cut)
            }
            Self::Syslog(syslog) => syslog.write(urgency, line, abandon),
        }
    }
}

/// Writes all, or notes that some of it was written.
fn write_or_note(file: &mut File, mut bytes: &[u8], is_cut: &mut bool) -> Result<(), Unwritten> {
    while !bytes.is_empty() {
        match file.write(bytes) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            Ok(written) => {
                bytes = &bytes[written..];
                *is_cut = !bytes.is_empty();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Waits until an outlet takes a line.
fn wait(outlet: BorrowedFd<'_>, abandon: impl Fn() -> bool) -> Result<(), Unwritten> {
    loop {
        match poll(&mut [PollFd::new(&outlet, PollFlags::OUT)], Some(&LOOK)) {
            Ok(0) if abandon() => return Err(Unwritten::Abandoned),
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            // An outlet in error is ready: writing to it tells which.
            Ok(_) => return Ok(()),
            Err(errno) => return Err(io::Error::from(errno).into()),
        }
    }
}

/// Opens a log file to append to it, or makes it.
///
/// # Errors
/// What the system says.
pub(super) fn open(path: &Path) -> io::Result<File> {
    // Without this flag a pipe that nobody reads would hold up whoever opens it.
    let nonblock = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    options.append(true).custom_flags(nonblock | OFlags::NOCTTY.bits().cast_signed());
    let file = match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = options.create_new(true).mode(FILE_MODE).open(path)?;
            // Whatever the umask is: the group may read.
            made.set_permissions(Permissions::from_mode(FILE_MODE))?;
            made
        }
        other => other?,
    };
    fcntl_setfl(&file, OFlags::APPEND)?;
    Ok(file)
}

/// The system's log, as it is reached by datagrams (RFC 3164 in the local form of syslog(3), which
/// journald, rsyslog and syslog-ng all read).
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    /// `None`: it is not there, or was not asked yet.
    socket: Option<UnixDatagram>,
}

impl Syslog {
    /// Facility `daemon`, in its place beside the severity.
    const FACILITY: u8 = 3 << 3;

    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, socket: None }
    }

    /// Whether it is there.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn find(&mut self) -> io::Result<()> {
        if self.socket.is_none() {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            socket.connect(&self.path)?;
            self.socket = Some(socket);
        }
        Ok(())
    }

    fn write(
        &mut self,
        severity: u8,
        line: &str,
        abandon: impl Fn() -> bool,
    ) -> Result<(), Unwritten> {
        let datagram = format!(
            "<{}>{} forwarder[{}]: {line}",
            Self::FACILITY | severity,
            jiff::Zoned::now().strftime("%b %e %H:%M:%S"),
            std::process::id()
        );
        let mut may_be_gone = true;
        loop {
            self.find()?;
            let Some(socket) = &self.socket else { continue };
            match socket.send(datagram.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(socket.as_fd(), &abandon)?;
                }
                // Whoever listened there was restarted: there is another one, perhaps.
                Err(error) => {
                    self.socket = None;
                    if !std::mem::take(&mut may_be_gone) {
                        return Err(error.into());
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn never() -> bool {
        false
    }

    fn log_daemon(path: &Path) -> UnixDatagram {
        let daemon = UnixDatagram::bind(path).unwrap();
        daemon.set_read_timeout(Some(PATIENCE)).unwrap();
        daemon
    }

    fn heard(daemon: &UnixDatagram) -> String {
        let mut datagram = [0; 1000];
        let bytes = daemon.recv(&mut datagram).unwrap();
        String::from_utf8(datagram[..bytes].to_vec()).unwrap()
    }

    #[test]
    fn the_systems_log_is_found_again_after_it_was_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut outlet = Outlet::Syslog(Syslog::new(path.clone()));
        assert!(matches!(outlet.write(6, "lost", never), Err(Unwritten::Failed(_))));

        let daemon = log_daemon(&path);
        outlet.write(6, "session begins rule=a", never).unwrap();
        let line = heard(&daemon);
        let id = std::process::id();
        assert!(line.starts_with("<30>"), "{line}");
        assert!(line.ends_with(&format!(" forwarder[{id}]: session begins rule=a")), "{line}");
        let time = &line[4..line.find(" forwarder").unwrap()];
        jiff::fmt::strtime::parse("%b %e %H:%M:%S", time).unwrap();

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(outlet.write(3, "lost", never), Err(Unwritten::Failed(_))));
        let daemon = log_daemon(&path);
        outlet.write(3, "back", never).unwrap();
        assert!(heard(&daemon).starts_with("<27>"));
    }

    #[test]
    fn a_system_log_that_does_not_read_is_waited_for_and_given_up_when_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let _daemon = log_daemon(&path);
        let mut outlet = Outlet::Syslog(Syslog::new(path));
        let mut taken = 0;
        while outlet.write(6, "a line", || true).is_ok() {
            taken += 1;
            assert!(taken < 100_000, "its queue has a bound");
        }
        assert!(matches!(outlet.write(6, "a line", || true), Err(Unwritten::Abandoned)));
    }

    #[test]
    fn a_log_file_is_ours_to_write_and_its_groups_to_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        drop(open(&path).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        let mut outlet = Outlet::File(open(&path).unwrap(), false);
        outlet.write(6, "one", never).unwrap();
        outlet.write(6, "two", never).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one\ntwo\n");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "who made it has said who may read it");
        assert!(open(dir.path()).is_err());
    }

    #[test]
    fn a_pipe_that_nobody_reads_is_no_log_file_and_holds_up_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
        assert!(open(&path).is_err());
    }

    #[test]
    fn a_line_that_the_disk_cut_short_is_ended_before_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        std::fs::write(&path, "half a li").unwrap();
        let mut outlet = Outlet::File(open(&path).unwrap(), true);
        outlet.write(6, "whole", never).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "half a li\nwhole\n");
        let mut full = Outlet::File(File::options().write(true).open("/dev/full").unwrap(), false);
        assert!(matches!(full.write(6, "x", never), Err(Unwritten::Failed(_))));
    }
}
