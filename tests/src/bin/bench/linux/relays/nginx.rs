//! nginx with its stream module: a worker per core, with listeners of their own.

use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::super::ports::Service;
use super::{SESSIONS, threads, written};

/// Where Debian puts it.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub(super) fn command(dir: &Path) -> Result<Command> {
    let here = dir.display();
    // Where the module is compiled in, there is nothing to load.
    let module = match Path::new(MODULE).exists() {
        true => format!("load_module {MODULE};\n"),
        false => String::new(),
    };
    let (workers, connections) = (threads(), SESSIONS * 2);
    let mut text = format!(
        "{module}daemon off;\nuser root;\nworker_processes {workers};\n\
         pid {here}/nginx.pid;\nerror_log {here}/nginx-error.log crit;\n\
         events {{ worker_connections {connections}; }}\nstream {{\n  proxy_timeout 1h;\n"
    );
    for service in Service::TCP.into_iter().chain([Service::UdpEcho]) {
        let (listener, target) = (service.listener(), service.target());
        let udp = if service == Service::UdpEcho { " udp" } else { "" };
        text += &format!("  server {{ listen {listener}{udp} reuseport; proxy_pass {target}; }}\n");
    }
    let config = written(dir, "nginx.conf", &(text + "}\n"))?;
    let mut command = Command::new("nginx");
    command.arg("-c").arg(config).arg("-p").arg(dir);
    Ok(command)
}
