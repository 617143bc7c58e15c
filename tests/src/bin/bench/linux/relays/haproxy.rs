//! HAProxy in TCP mode, with splicing where it finds it worthwhile.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::super::ports::Service;
use super::{SESSIONS, threads, written};

pub(super) fn command(dir: &Path) -> Result<Command> {
    let threads = threads();
    let mut text = format!(
        "global\n  nbthread {threads}\n  maxconn {SESSIONS}\n\
         defaults\n  mode tcp\n  option splice-auto\n  maxconn {SESSIONS}\n  timeout connect 10s\n  \
         timeout client 1h\n  timeout server 1h\n"
    );
    for service in Service::TCP {
        let (listener, target) = (service.listener(), service.target());
        let name = format!("{service:?}").to_lowercase();
        text += &format!("listen {name}\n  bind {listener}\n  server target {target}\n");
    }
    let config = written(dir, "haproxy.cfg", &text)?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(config);
    Ok(command)
}
