//! Ours: forwarder and recorder with their defaults, and an account that must be right.

use std::fs;

use anyhow::{Context, Result, ensure};
use e2e_tests::scene::Scene;
use serde_json::Value;

use super::super::load::Seen;
use super::super::ports::Service;

pub(in super::super) struct Weir {
    scene: Scene,
    capture: &'static str,
}

impl Weir {
    /// Starts both; `capture` is what the rule says about it.
    pub(super) fn start(capture: &'static str) -> Self {
        let mut scene = Scene::new();
        let dir = scene.path("");
        let dir = dir.display();
        let recorder = format!(
            "data = \"{dir}data\"\nlisten = [\"unix:{dir}recorder.sock\"]\n\n\
             [admin]\nsocket = \"{dir}recorder-admin.sock\"\n"
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
        scene.start_forwarder();
        Self { scene, capture }
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
        self.scene.flush();
        let rows = self.scene.rows(&[
            "sql",
            "select count(*) filter (transport = 'tcp') as sessions, \
             sum(bytes_up) filter (transport = 'tcp') as up, \
             sum(bytes_down) filter (transport = 'tcp') as down, \
             sum(received_up + received_down) as received, sum(captured_bytes) as captured \
             from sessions",
        ]);
        let row = rows.first().context("the account has no row about all sessions")?;
        let number = |column: &str| row.get(column).and_then(Value::as_u64).unwrap_or(0);
        let account = ["sessions", "up", "down"].map(number);
        let made = [seen.sessions, seen.up, seen.down];
        ensure!(
            account == made,
            "the account says {account:?} sessions, bytes up and down; made were {made:?}"
        );
        let (received, captured) = (number("received"), number("captured"));
        ensure!(
            self.capture == "off" || received == captured,
            "of {received} bytes {captured} were captured; with `slow` none may be missing"
        );
        Ok(())
    }
}
