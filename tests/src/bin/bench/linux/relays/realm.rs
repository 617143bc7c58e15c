//! realm as it comes, with UDP.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::super::ports::Service;
use super::written;

pub(super) fn command(dir: &Path) -> Result<Command> {
    let mut text =
        "[log]\nlevel = \"error\"\n[network]\nno_tcp = false\nuse_udp = true\n".to_owned();
    for service in Service::TCP.into_iter().chain([Service::UdpEcho]) {
        let (listener, target) = (service.listener(), service.target());
        text += &format!("[[endpoints]]\nlisten = \"{listener}\"\nremote = \"{target}\"\n");
    }
    let config = written(dir, "realm.toml", &text)?;
    let mut command = Command::new("realm");
    command.arg("-c").arg(config);
    Ok(command)
}
