//! Where the figures come from.

use std::fs;
use std::path::Path;

use e2e_tests::binary;
use jiff::Timestamp;
use serde::Serialize;

use super::peers;
use super::plan::Relay;
use super::relays;

/// The machine and what ran on it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    pub(super) date: String,
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
    /// Names and versions of the relays.
    pub(super) relays: Vec<(String, String)>,
}

impl Machine {
    /// This one, with these relays.
    pub(super) fn here(relays: &[Relay]) -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            line.and_then(|line| line.split_once(':')).map(|(_, value)| value.trim().to_owned())
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap_or_default();
        let kib: u64 = memory.trim_end_matches(" kB").parse().unwrap_or(0);
        Self {
            date: Timestamp::now().strftime("%Y-%m-%d").to_string(),
            cpu: field(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".into()),
            cores: relays::threads(),
            memory_gib: (kib + (1 << 19)) >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            relays: relays.iter().filter_map(|&relay| version(relay)).collect(),
        }
    }

    /// In a sentence.
    pub(super) fn sentence(&self) -> String {
        let relays: Vec<String> =
            self.relays.iter().map(|(name, version)| format!("{name} {version}")).collect();
        format!(
            "{}: {} ({} cores), {} GiB, Linux {}; {}. Clients, targets and relay share the cores, over loopback; \
             each relay has as many threads (nginx: workers) as there are cores.",
            self.date,
            self.cpu,
            self.cores,
            self.memory_gib,
            self.kernel,
            relays.join(", ")
        )
    }
}

fn version(relay: Relay) -> Option<(String, String)> {
    let said = match relay {
        Relay::Direct | Relay::WeirCapture | Relay::WeirNoAccount => return None,
        Relay::Weir => peers::version(&binary::path("forwarder"), "--version"),
        Relay::Haproxy => peers::version(Path::new("haproxy"), "-v"),
        Relay::Nginx => peers::version(Path::new("nginx"), "-v"),
        Relay::Realm => peers::version(Path::new("realm"), "-v"),
    };
    Some((relay.to_string(), said.unwrap_or_else(|| "of unknown version".to_owned())))
}
