//! Watching on a terminal, which may go away.

use std::os::fd::OwnedFd;
use std::process::Child;

use e2e_tests::process::kill;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::support::*;

/// Somebody who watches on a terminal of the test's own.
struct Watching {
    process: Child,
    /// The side of whoever looks at the screen.
    viewer: OwnedFd,
    /// The side of the program.
    terminal: OwnedFd,
}

impl Watching {
    fn start(forwarder: &Running) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let viewer = openpt(flags).unwrap();
        grantpt(&viewer).unwrap();
        unlockpt(&viewer).unwrap();
        let terminal = ioctl_tiocgptpeer(&viewer, flags).unwrap();
        let process = command(forwarder.dir.path(), &["status", "--watch", "3600"])
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal.try_clone().unwrap())
            .spawn()
            .unwrap();
        let watching = Self { process, viewer, terminal };
        watching.see("edge-1");
        watching
    }

    /// Waits until the screen has shown this.
    fn see(&self, what: &str) {
        const PATIENT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
        let mut shown = Vec::new();
        while !String::from_utf8_lossy(&shown).contains(what) {
            let mut events = [PollFd::new(&self.viewer, PollFlags::IN)];
            assert_eq!(poll(&mut events, Some(&PATIENT)), Ok(1), "{what:?} was never shown");
            let mut part = [0; 4096];
            let count = rustix::io::read(&self.viewer, &mut part).unwrap();
            shown.extend_from_slice(&part[..count]);
        }
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn end(&mut self) -> Option<i32> {
        wait_for("its end", || self.process.try_wait().unwrap()).code()
    }
}

fn serving() -> Running {
    Running::start(&format!(
        "{}{EVERYONE}",
        service("web", "\"tcp://127.0.0.1:0\"", server("hello"))
    ))
}

impl Drop for Watching {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

/// It is no terminal of the watching program's session, so no SIGHUP tells of its end.
#[test]
fn a_watch_on_a_terminal_that_hangs_up_ends_without_a_signal() {
    let forwarder = serving();
    let mut watching = Watching::start(&forwarder);
    watching.viewer = watching.terminal.try_clone().unwrap();
    assert_eq!(watching.end(), Some(0));
}

#[test]
fn sigterm_during_a_watch_gives_the_terminal_back() {
    let forwarder = serving();
    for signal in [Signal::TERM, Signal::HUP] {
        let mut watching = Watching::start(&forwarder);
        assert!(watching.is_raw());
        let id = Pid::from_raw(watching.process.id().try_into().unwrap()).unwrap();
        kill_process(id, signal).unwrap();
        watching.see("\x1b[?1049l");
        assert_eq!(watching.end(), Some(0));
        assert!(!watching.is_raw());
    }
}

#[test]
fn a_watch_redraws_until_q_is_pressed() {
    let forwarder = serving();
    let mut watching = Watching::start(&forwarder);
    for key in [&b"x"[..], b"q"] {
        rustix::io::write(&watching.viewer, key).unwrap();
    }
    assert_eq!(watching.end(), Some(0));
}
