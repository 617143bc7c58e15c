//! The prompt, on a terminal of the test's own.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command};

use e2e_tests::process::kill;
use e2e_tests::wait;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{read, write};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::Data;
use crate::support::account::Account;

/// Somebody at the prompt.
struct Typing {
    process: Child,
    /// The side of whoever types and looks.
    user: OwnedFd,
    /// The side of the program.
    terminal: OwnedFd,
    /// What the screen has shown since it was last looked at.
    shown: String,
}

const TAB: &str = "\t";
const ENTER: &str = "\r";
const UP: &str = "\x1b[A";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

impl Typing {
    fn start(data: &Data, state: &Path) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let user = openpt(flags).unwrap();
        grantpt(&user).unwrap();
        unlockpt(&user).unwrap();
        let terminal = ioctl_tiocgptpeer(&user, flags).unwrap();
        let size = Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&user, size).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_analyze"))
            .arg("--data")
            .arg(data.path())
            .args(["sql", "--timeout", "50s"])
            .env("XDG_STATE_HOME", state)
            .env("TERM", "xterm")
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal.try_clone().unwrap())
            .spawn()
            .unwrap();
        let mut typing = Self { process, user, terminal, shown: String::new() };
        typing.see("weir> ");
        typing
    }

    fn hit(&self, keys: &str) {
        assert_eq!(write(&self.user, keys.as_bytes()), Ok(keys.len()));
    }

    /// Types a line, and waits until it was taken.
    fn enter(&self, line: &str) {
        self.hit(line);
        self.hit(ENTER);
    }

    /// Waits until the screen has shown this; gives what came before it.
    fn see(&mut self, what: &str) -> String {
        const PATIENT: Timespec = Timespec { tv_sec: 30, tv_nsec: 0 };
        loop {
            if let Some(at) = self.shown.find(what) {
                let rest = self.shown.split_off(at + what.len());
                return std::mem::replace(&mut self.shown, rest);
            }
            let mut events = [PollFd::new(&self.user, PollFlags::IN)];
            let ready = poll(&mut events, Some(&PATIENT));
            assert_eq!(ready, Ok(1), "{what:?} was never shown: {:?}", self.shown);
            let mut part = [0; 4096];
            let count = read(&self.user, &mut part).unwrap();
            self.shown.push_str(&String::from_utf8_lossy(&part[..count]));
        }
    }

    /// Waits for the next prompt at which nothing is typed yet.
    fn prompt(&mut self) -> String {
        let before = self.see("weir> ");
        wait::until("lines are edited", || self.is_raw().then_some(()));
        before
    }

    fn is_raw(&self) -> bool {
        let modes = tcgetattr(&self.terminal).unwrap().local_modes;
        !modes.intersects(LocalModes::ICANON | LocalModes::ECHO)
    }

    fn end(&mut self) -> Option<i32> {
        wait::until("its end", || self.process.try_wait().unwrap()).code()
    }
}

impl Drop for Typing {
    fn drop(&mut self) {
        kill(&mut self.process);
    }
}

#[test]
fn statements_are_answered_until_ctrl_d_and_errors_end_nothing() {
    let data = Data::with(&Account::whole());
    let state = tempfile::tempdir().unwrap();
    let mut typing = Typing::start(&data, state.path());
    // Over two lines; the semicolon in quotes ends nothing.
    typing.enter("select ';' as mark, count(*) as many");
    typing.enter("from usage;");
    typing.see("mark  many");
    typing.see(";        8");
    typing.prompt();
    typing.enter("select colour from usage;");
    typing.see("\"colour\" not found");
    typing.prompt();
    typing.enter("copy usage to '/tmp/stolen.csv';");
    typing.see("sql takes one SELECT and nothing that writes");
    typing.prompt();
    typing.enter("\\d slots");
    typing.see("clock_pass");
    typing.prompt();
    typing.enter("\\f csv");
    typing.prompt();
    typing.enter("from range(2);");
    typing.see("range\r\n0\r\n1\r\n");
    typing.prompt();
    typing.enter("\\frobnicate");
    typing.see("is no command; \\? lists them");
    typing.prompt();
    typing.hit(CTRL_D);
    assert_eq!(typing.end(), Some(0));
    assert!(!typing.is_raw());
}

#[test]
fn words_are_completed_and_lines_are_remembered_by_their_user_alone() {
    let data = Data::with(&Account::whole());
    let state = tempfile::tempdir().unwrap();
    let mut typing = Typing::start(&data, state.path());
    typing.hit("select count(open_ses");
    typing.hit(TAB);
    typing.enter(") as found from slots;");
    typing.see("found\r\n");
    typing.prompt();
    typing.enter("\\q");
    assert_eq!(typing.end(), Some(0));

    let file = state.path().join("weir/sql_history");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(file.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.contains("select count(open_sessions) as found from slots;"), "{kept}");

    let mut typing = Typing::start(&data, state.path());
    typing.hit(UP);
    typing.hit(UP);
    typing.see("as found from slots;");
    typing.hit(ENTER);
    typing.see("found\r\n");
}

#[test]
fn ctrl_c_gives_up_the_line_or_the_statement_and_never_the_session() {
    let data = Data::with(&Account::whole());
    let state = tempfile::tempdir().unwrap();
    let mut typing = Typing::start(&data, state.path());
    typing.hit("select 'never meant'");
    typing.see("meant'");
    typing.hit(CTRL_C);
    typing.prompt();
    typing.enter("select count(*) from range(100000000) a, range(100000000) b;");
    // While it runs the terminal is as it was, and Ctrl-C a signal.
    wait::until("the statement runs", || {
        let id = typing.process.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        (!typing.is_raw() && !children.is_empty()).then_some(())
    });
    kill_process(Pid::from_child(&typing.process), Signal::INT).unwrap();
    typing.see("cancelled");
    typing.prompt();
    typing.enter("select 6 * 7 as answer;");
    typing.see("answer");
    typing.see("42");
    typing.prompt();
    // An end by signal gives the terminal back as it was.
    kill_process(Pid::from_child(&typing.process), Signal::TERM).unwrap();
    assert_eq!(typing.end(), Some(143));
    assert!(!typing.is_raw());
}

#[test]
fn a_file_takes_the_answer_of_one_statement_and_not_of_a_session() {
    let data = Data::with(&Account::whole());
    let state = tempfile::tempdir().unwrap();
    let mut typing = Typing::start(&data, state.path());
    typing.hit(CTRL_D);
    assert_eq!(typing.end(), Some(0));
    let refused = Command::new(env!("CARGO_BIN_EXE_analyze"))
        .arg("--data")
        .arg(data.path())
        .args(["sql", "-o", "answer.csv"])
        .stdin(typing.terminal.try_clone().unwrap())
        .stdout(typing.terminal.try_clone().unwrap())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .map(|mut child| e2e_tests::process::finished("analyze", &mut child))
        .unwrap();
    assert_eq!(refused.status.code(), Some(64));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("-o takes the answer of one"));
}
