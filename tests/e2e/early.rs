//! Signals that come while a program starts: it must neither die of them nor forget them.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use e2e_tests::process::Process;
use e2e_tests::scene::Scene;
use e2e_tests::{binary, wait};
use rustix::fs::OFlags;
use rustix::process::Signal;

/// A program in the middle of its start: it waits for its configuration, which is a pipe.
struct Starting {
    process: Process,
    config: File,
    text: String,
}

impl Starting {
    fn new(scene: &Scene, program: &str) -> Self {
        let pipe = scene.path("pipe.toml");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut command = Command::new(binary::path(program));
        command.args(["run", "-c"]).arg(&pipe).stdin(Stdio::null());
        let process = Process::start(program, &mut command, scene.path("early.log"));
        // It can be opened once somebody reads.
        let config = wait::until("the program reads its configuration", || writable(&pipe));
        let text = fs::read_to_string(scene.path(&format!("{program}.toml"))).unwrap();
        Self { process, config, text }
    }

    /// Lets it go on.
    fn go_on(mut self) -> Process {
        self.config.write_all(self.text.as_bytes()).unwrap();
        self.process
    }
}

fn writable(pipe: &Path) -> Option<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    OpenOptions::new().write(true).custom_flags(flags).open(pipe).ok()
}

fn scene() -> Scene {
    let scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"127.0.0.1:9\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n"
    ));
    scene
}

#[test]
fn a_program_that_is_told_to_end_while_it_starts_ends_in_order() {
    for program in ["forwarder", "recorder"] {
        let scene = scene();
        let starting = Starting::new(&scene, program);
        starting.process.signal(Signal::TERM);
        let mut process = starting.go_on();
        let ended = wait::until("it ends", || process.exited());
        assert!(ended.success(), "{program}: {ended}\n{}", process.log());
    }
}

#[test]
fn a_hangup_while_a_program_starts_does_not_kill_it() {
    for program in ["forwarder", "recorder"] {
        let scene = scene();
        let starting = Starting::new(&scene, program);
        starting.process.signal(Signal::HUP);
        let mut process = starting.go_on();
        wait::until("it answers", || {
            let status = scene.command(program, &["status"]).output().unwrap();
            status.status.success().then_some(())
        });
        assert!(process.terminate().success(), "{program}: {}", process.log());
    }
}
