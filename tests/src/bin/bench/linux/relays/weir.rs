//! Ours: forwarder and recorder with their defaults, and an account that must be right. Capture files
//! alone are larger than by default, so that none is closed while the CPU is being taken.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e_tests::scene::Scene;
use e2e_tests::wait;
use serde_json::Value;

use super::super::load::{PATIENCE, Seen};
use super::super::ports::Service;

/// What no cell reaches: closing a file makes its digest, which would be part of a test or not as
/// chance has it.
const ROTATE: &str = "rotate = { size = \"1 TiB\", every = \"24h\" }";

/// The forwarder that keeps no account; `make bench` builds it beside the one that does.
pub(in super::super) const NO_ACCOUNT: &str = "forwarder-no-account";

pub(in super::super) struct Weir {
    scene: Scene,
    program: &'static str,
    capture: &'static str,
}

impl Weir {
    /// Starts recorder and `program`, the forwarder; `capture` is what the rule says about it.
    pub(super) fn start(program: &'static str, capture: &'static str) -> Self {
        let mut scene = Scene::new();
        let dir = scene.path("");
        let dir = dir.display();
        let recorder = format!(
            "data = \"{dir}data\"\nlisten = [\"unix:{dir}recorder.sock\"]\n\n\
             [admin]\nsocket = \"{dir}recorder-admin.sock\"\n\n[capture]\n{ROTATE}\n"
        );
        fs::write(scene.recorder_config(), recorder).expect("the scene's directory is writable");
        let services: Vec<String> = Service::TCP
            .into_iter()
            .chain([Service::UdpEcho])
            .map(|service| {
                let (listener, target) = (service.listener(), service.target());
                let name = format!("{service:?}").to_lowercase();
                let scheme = if service == Service::UdpEcho { "udp" } else { "tcp" };
                format!(
                    "[[service]]\nname = \"{name}\"\nlisten = [\"{scheme}://{listener}\"]\n\
                     target = [\"{target}\"]\n\n"
                )
            })
            .collect();
        let kept = match capture {
            "off" => String::new(),
            kept => format!("capture = \"{kept}\"\ncapture_when_behind = \"slow\"\n"),
        };
        let rule = format!("[[rule]]\nname = \"everyone\"\naction = \"pass\"\n{kept}");
        scene.write_forwarder_config("", &(services.concat() + &rule));
        scene.start_recorder();
        scene.start_forwarder_program(program);
        Self { scene, program, capture }
    }

    pub(super) fn forwarder(&mut self) -> u32 {
        self.scene.forwarder().id()
    }

    pub(super) fn recorder(&mut self) -> u32 {
        self.scene.recorder().id()
    }

    /// Ends the forwarder in order and compares the account with what the clients saw.
    pub(super) fn end(mut self, seen: &Seen) -> Result<()> {
        let early = self.scene.forwarder().exited();
        let log = self.scene.forwarder().log();
        ensure!(early.is_none(), "the forwarder ended by itself ({early:?}):\n{log}");
        let status = self.scene.stop_forwarder();
        ensure!(status.success(), "the forwarder ended with {status}:\n{log}");
        if self.program == NO_ACCOUNT {
            return Ok(());
        }
        self.scene.flush();
        let rows = self.scene.rows(&[
            "sql",
            "select count(*) filter (transport = 'tcp') as sessions, \
             sum(bytes_up) filter (transport = 'tcp') as up, \
             sum(bytes_down) filter (transport = 'tcp') as down, \
             sum(received_up + received_down) as received \
             from sessions",
        ]);
        let row = rows.first().context("the account has no row about all sessions")?;
        let number = |column: &str| number(row, column);
        let account = ["sessions", "up", "down"].map(number);
        let made = [seen.sessions, seen.up, seen.down];
        ensure!(
            account == made,
            "the account says {account:?} sessions, bytes up and down; made were {made:?}"
        );
        if self.capture == "off" {
            return Ok(());
        }
        let (received, passed) = (number("received"), seen.up + seen.down);
        ensure!(received >= passed, "of {passed} bytes the account says {received} were received");
        self.kept(received)
    }

    /// Compares what lies in the capture files with what was received. The recorder may still be
    /// reading the last of it when the forwarder has ended.
    fn kept(&self, received: u64) -> Result<()> {
        let mut last = [0, 0];
        let complete = wait::within(PATIENCE, || {
            self.scene.flush();
            let sums =
                "select sum(captured_bytes) as kept, sum(dropped_bytes) as dropped from captures";
            let rows = self.scene.rows(&["sql", sums]);
            last = ["kept", "dropped"].map(|sum| rows.first().map_or(0, |row| number(row, sum)));
            (last[0] + last[1] >= received).then_some(())
        });
        let [kept, dropped] = last;
        ensure!(
            complete.is_some() && kept == received && dropped == 0,
            "of {received} bytes the captures hold {kept}, and {dropped} were dropped; with `slow` \
             none may be missing"
        );
        Ok(())
    }
}

fn number(row: &Value, column: &str) -> u64 {
    row.get(column).and_then(Value::as_u64).unwrap_or(0)
}
