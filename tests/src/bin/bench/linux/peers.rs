//! The other relays: whether they are there, how they come here, which versions they are.

use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{self, Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e_tests::binary;

use super::plan::Relay;
use super::relays::NO_ACCOUNT;

/// Programs that Debian has: what starts them, and the packages they are in.
const DEBIAN: [(&str, &[&str]); 3] = [
    ("haproxy", &["haproxy"]),
    ("nginx", &["nginx", "libnginx-mod-stream"]),
    ("nfdump", &["nfdump"]),
];
/// Asked by Debian's packages whether a service may be started.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// How the file begins when we wrote it.
const OURS: &[u8] =
    b"#!/bin/sh\n# Weir's comparison of relays installs packages without starting services.\n";

const REALM: &str = "realm is not in PATH, and not in Debian. To compare with it, please type: \
    cargo install --git https://github.com/zhboner/realm --tag v2.9.4 --no-default-features \
    --features default-slim realm";

/// Those of `relays` that can be started, after what is missing was installed if that may be.
pub(super) fn present(relays: Vec<Relay>, install: bool) -> Result<Vec<Relay>> {
    let wanted = |name: &str| {
        // No relay: it is for the comparison of reports.
        name == "nfdump" || relays.iter().any(|relay| relay.to_string() == name)
    };
    let missing: Vec<_> =
        DEBIAN.iter().filter(|(name, _)| wanted(name) && !installed(name)).collect();
    let packages: Vec<&str> =
        missing.iter().flat_map(|(_, packages)| packages.iter().copied()).collect();
    if !packages.is_empty() && install && found("apt-get") {
        let services: Vec<&str> = missing.iter().map(|(name, _)| *name).collect();
        apt_get(&packages, &services)?;
    } else if !packages.is_empty() {
        let packages = packages.join(" ");
        eprintln!(
            "bench: going on without what is missing. To have it, please type: sudo apt-get install {packages}"
        );
    }
    if relays.contains(&Relay::Realm) && !found("realm") {
        eprintln!("bench: {REALM}");
    }
    Ok(relays
        .into_iter()
        .filter(|relay| match relay {
            Relay::Direct | Relay::Weir | Relay::WeirCapture => true,
            Relay::WeirNoAccount => binary::beside(NO_ACCOUNT).is_some(),
            Relay::Haproxy | Relay::Nginx | Relay::Realm => installed(&relay.to_string()),
        })
        .collect())
}

/// What a program says of its version; `None` when it is not there.
pub(super) fn version(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program).arg(argument).stdin(Stdio::null()).output().ok()?;
    // nginx says it on stderr.
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let word = said
        .split([' ', '/', '\n'])
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    word.map(str::to_owned)
}

fn installed(name: &str) -> bool {
    let module = Path::new("/usr/share/nginx/modules-available/mod-stream.conf");
    let debian = Path::new("/etc/debian_version").exists();
    found(name) && (name != "nginx" || !debian || module.exists())
}

fn found(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).is_file())
}

/// Installs packages without letting their services start, now or at the next boot.
fn apt_get(packages: &[&str], services: &[&str]) -> Result<()> {
    eprintln!("bench: installing {}", packages.join(" "));
    // Somebody else's policy stays as it is; one that an interrupted run left behind is ours.
    let own_policy =
        !Path::new(POLICY).exists() || fs::read(POLICY).is_ok_and(|text| text.starts_with(OURS));
    if own_policy {
        fs::write(POLICY, policy(process::id()))
            .and_then(|()| fs::set_permissions(POLICY, Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot write {POLICY}"))?;
    }
    let done = apt(&["update"])
        .and_then(|()| apt(&[&["install", "--yes", "--no-install-recommends"], packages].concat()));
    if own_policy {
        fs::remove_file(POLICY).with_context(|| format!("cannot remove {POLICY}"))?;
    }
    // What a failed installation left half done may have services too.
    let disable = Command::new("systemctl")
        .arg("disable")
        .args(services)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    // Without systemd nothing starts them at boot.
    drop(disable);
    done
}

/// Forbids services to start for as long as the process lives: a run that is interrupted leaves the
/// file behind, but not the ban.
fn policy(process: u32) -> Vec<u8> {
    let rule = format!("kill -0 {process} 2>/dev/null && exit 101\nexit 0\n");
    [OURS, rule.as_bytes()].concat()
}

fn apt(arguments: &[&str]) -> Result<()> {
    let output = Command::new("apt-get")
        .args(["-q", "-o", "DPkg::Lock::Timeout=300"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    ensure!(
        output.status.success(),
        "apt-get {} ended with {}:\n{}",
        arguments.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_may_start_again_once_the_installing_process_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("policy-rc.d");
        let answer = |process| {
            fs::write(&path, policy(process)).unwrap();
            Command::new("sh").arg(&path).status().unwrap().code()
        };
        assert_eq!(answer(process::id()), Some(101));
        let mut gone = Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        assert_eq!(answer(gone.id()), Some(0));
    }
}
