//! A cell's surroundings: a process that starts itself again in namespaces of its own.
//!
//! - *Network*: nobody else's ports, and no connection of an earlier run in TIME_WAIT.
//! - *Processes*: when the cell's process ends, however it ends, the kernel kills all it started.
//! - *Mounts*: `/dev/shm` is its own, so everything written there is gone with it.
//!
//! The cell reads its standard input only to notice that the program that started it is gone.

use std::env;
use std::fs;
use std::io::{self, Read};
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::mount::{MountFlags, mount};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::plan::Profile;
use super::ports::RESERVED;

/// Those of `profiles` that this kernel has; it is told to load what is a module.
pub(super) fn available(mut profiles: Vec<Profile>) -> Result<Vec<Profile>> {
    for profile in &profiles {
        let mut load = Command::new("modprobe");
        load.arg(format!("tcp_{profile}")).stdin(Stdio::null()).stderr(Stdio::null());
        // What is built in needs no module, and without modprobe there may be none.
        drop(load.status());
    }
    let path = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let known = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    profiles.retain(|profile| {
        let there = known.split_whitespace().any(|name| name == profile.to_string());
        if !there {
            eprintln!("bench: going on without {profile}, which this kernel does not have");
        }
        there
    });
    Ok(profiles)
}

/// Starts this program with `arguments` in new namespaces; its standard output is the caller's.
pub(super) fn start(arguments: &[String]) -> Result<Child> {
    let own = env::current_exe().context("cannot find this program's own file")?;
    let mut command = Command::new("unshare");
    command
        .args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--"])
        .arg(own)
        .args(arguments)
        .env("TMPDIR", "/dev/shm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command.spawn().context("cannot start unshare, of the package util-linux")
}

/// Arranges the namespaces that this process was started in.
pub(super) fn furnish(profile: Profile, longest: Duration) -> Result<()> {
    thread::spawn(leave_with_parent);
    thread::spawn(move || {
        thread::sleep(longest);
        eprintln!("bench: not done after {} s", longest.as_secs());
        process::exit(1);
    });
    mount("bench", "/dev/shm", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)
        .context("cannot mount a tmpfs on /dev/shm in a namespace of our own")?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    let up = up.context("cannot start ip, of the package iproute2")?;
    ensure!(up.success(), "cannot bring up lo in a namespace of our own: ip ended with {up}");
    for (name, value) in [
        ("ip_local_port_range", "1024 65535"),
        ("ip_local_reserved_ports", RESERVED),
        ("tcp_congestion_control", &profile.to_string()),
    ] {
        let path = format!("/proc/sys/net/ipv4/{name}");
        fs::write(&path, value).with_context(|| format!("cannot write {value:?} to {path}"))?;
    }
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
        .context("cannot open as many files as the hard limit allows")?;
    Ok(())
}

/// Ends this process once nobody holds the other end of its standard input.
fn leave_with_parent() {
    let mut byte = [0; 1];
    while io::stdin().read(&mut byte).is_ok_and(|len| len > 0) {}
    process::exit(1);
}
