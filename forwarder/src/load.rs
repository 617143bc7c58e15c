//! From the name of a configuration file to its meaning on this machine.

use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::Path;

use forwarder_core::config::{Config, Environment};

use crate::tcp_options;
use schemas::exit::{Exit, Failure};

/// Longest configuration file, in bytes: ten thousand rules fit many times over.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/weir/forwarder.toml";

/// Reads and resolves the configuration in `path`.
///
/// # Errors
/// The file cannot be read, or it has faults; the message then shows them all.
pub fn config(path: &Path) -> Result<Config, Failure> {
    let source = source(path)?;
    let name = path.display().to_string();
    Config::parse(&source, &name, &environment())
        .map_err(|faults| Failure::new(Exit::Config, faults.to_string().trim_end()))
}

/// The text of the configuration in `path`.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is no configuration by its size.
pub fn source(path: &Path) -> Result<String, Failure> {
    let attempt = format!("cannot read the configuration {}", path.display());
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Config,
            format!("{attempt}: there is no such file; name another with -c FILE"),
        ),
        io::ErrorKind::InvalidData => {
            Failure::new(Exit::Config, format!("{attempt}: it is not UTF-8 text"))
        }
        _ => Failure::io(&error, &attempt),
    };
    let mut source = String::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut source).map_err(failed)?;
    if source.len() as u64 > MAX_FILE_BYTES {
        let text = format!("{attempt}: it is longer than {MAX_FILE_BYTES} bytes");
        return Err(Failure::new(Exit::Config, text));
    }
    Ok(source)
}

/// What this machine adds to the meaning of a file. What it does not tell is left out: the relay
/// finds a target that is ourselves again when it dials.
pub fn environment() -> Environment {
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Environment {
        host_name,
        local_addresses: local_addresses().unwrap_or_default(),
        congestion_controls: tcp_options::congestion_controls(),
        files: std::collections::BTreeMap::new(),
    }
}

fn local_addresses() -> Result<Vec<IpAddr>, nix::Error> {
    let interfaces = nix::ifaddrs::getifaddrs()?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    });
    Ok(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name_and_a_loopback_address() {
        let environment = environment();
        assert!(!environment.host_name.is_empty());
        assert!(environment.local_addresses.iter().any(IpAddr::is_loopback));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        assert_eq!(config(&path).unwrap_err().exit, Exit::Config);
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(config(&path).unwrap_err().message.contains("UTF-8"));
        std::fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
        assert!(config(&path).unwrap_err().message.contains("longer"));
        std::fs::write(&path, "node = 1\n").unwrap();
        let faults = config(&path).unwrap_err();
        assert!(faults.message.contains("f.toml:1:8: node: expected"), "{faults}");
    }
}
