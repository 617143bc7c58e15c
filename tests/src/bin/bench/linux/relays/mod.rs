//! The relays: how each is told to do the same, and which processes it is.

mod haproxy;
mod nginx;
mod realm;
mod weir;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e_tests::cpu;
use e2e_tests::process::Process;
use e2e_tests::wait;

pub(super) use weir::{NO_ACCOUNT, Weir};

use super::load::Seen;
use super::plan::Relay;
use super::ports::Service;

/// A relay that runs; killed when dropped.
pub(super) enum Running {
    /// There is none.
    Direct,
    /// Ours.
    Weir(Box<Weir>),
    /// Somebody else's.
    Peer(Process),
}

/// Sessions of each relay at once: no fewer than the idle test may open. HAProxy wants two and a half
/// descriptors for each, and some machines allow 20,000.
const SESSIONS: u32 = 7_500;
/// How long a peer may take to listen.
const START: Duration = Duration::from_secs(10);

impl Running {
    /// Starts a relay of all services in a directory of its own.
    pub(super) fn start(relay: Relay, dir: &Path) -> Result<Self> {
        Ok(match relay {
            Relay::Direct => Self::Direct,
            Relay::Weir => Self::Weir(Box::new(Weir::start("forwarder", "off"))),
            Relay::WeirCapture => Self::Weir(Box::new(Weir::start("forwarder", "full"))),
            Relay::WeirNoAccount => Self::Weir(Box::new(Weir::start(NO_ACCOUNT, "off"))),
            Relay::Haproxy => Self::Peer(peer("haproxy", &mut haproxy::command(dir)?, dir)?),
            Relay::Nginx => Self::Peer(peer("nginx", &mut nginx::command(dir)?, dir)?),
            Relay::Realm => Self::Peer(peer("realm", &mut realm::command(dir)?, dir)?),
        })
    }

    /// The processes that relay.
    pub(super) fn processes(&mut self) -> Vec<u32> {
        match self {
            Self::Direct => Vec::new(),
            Self::Weir(weir) => vec![weir.forwarder()],
            Self::Peer(process) => cpu::with_children(&[process.id()]),
        }
    }

    /// The processes that keep what the relay hands over.
    pub(super) fn keepers(&mut self) -> Vec<u32> {
        match self {
            Self::Direct | Self::Peer(_) => Vec::new(),
            Self::Weir(weir) => vec![weir.recorder()],
        }
    }

    /// Ends it. Our own account must hold everything that `seen` tells.
    pub(super) fn end(self, seen: &Seen) -> Result<()> {
        match self {
            Self::Direct => Ok(()),
            Self::Weir(weir) => weir.end(seen),
            Self::Peer(mut process) => {
                let early = process.exited();
                ensure!(early.is_none(), "it ended by itself ({early:?}):\n{}", process.log());
                Ok(())
            }
        }
    }
}

fn peer(name: &str, command: &mut Command, dir: &Path) -> Result<Process> {
    let mut process = Process::start(name, command, dir.join(format!("{name}.log")));
    for service in Service::TCP {
        let listens = wait::within(START, || {
            let connected = TcpStream::connect(service.listener()).is_ok();
            (connected || process.exited().is_some()).then_some(connected)
        });
        ensure!(
            listens == Some(true),
            "{name} does not listen on {}:\n{}",
            service.listener(),
            process.log()
        );
    }
    Ok(process)
}

/// Threads of a relay, or its workers: as many as there are cores, as with Weir and realm by default.
pub(super) fn threads() -> usize {
    thread::available_parallelism().map_or(1, Into::into)
}

fn written(dir: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}
