//! From the name of a configuration file to its meaning on this machine.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use forwarder_core::config::{Config, Environment, files_of};

use crate::tcp_options;
use schemas::exit::{Exit, Failure};

/// Longest configuration file, in bytes: ten thousand rules fit many times over.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Longest files that a configuration names, all together, in bytes: as many networks as they may
/// hold fit twice over.
const MAX_NAMED_BYTES: u64 = 64 << 20;

/// Where the configuration is when nobody says otherwise.
pub const DEFAULT_FILE: &str = "/etc/weir/forwarder.toml";

/// Reads and resolves the configuration in `path`, with the files that it names.
///
/// # Errors
/// The file cannot be read, or it has faults; the message then shows them all.
pub fn config(path: &Path) -> Result<Config, Failure> {
    let source = source(path)?;
    let name = path.display().to_string();
    let environment = Environment { files: named_files(&source, path), ..environment() };
    Config::parse(&source, &name, &environment)
        .map_err(|faults| Failure::new(Exit::Config, faults.to_string().trim_end()))
}

/// The files that a configuration in `path` names with an `@`, each with what it holds or why that
/// cannot be told: which matters only if the configuration is right otherwise.
fn named_files(source: &str, path: &Path) -> BTreeMap<PathBuf, Result<String, String>> {
    let directory = path.parent().unwrap_or(Path::new(""));
    let mut room = MAX_NAMED_BYTES;
    let mut read = |named: PathBuf| {
        let content = named_file(&directory.join(&named), &mut room);
        (named, content)
    };
    files_of(source).into_iter().map(&mut read).collect()
}

fn named_file(path: &Path, room: &mut u64) -> Result<String, String> {
    let told = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => error.to_string(),
    };
    // Opening a FIFO would wait for whoever writes to it.
    if !std::fs::metadata(path).map_err(told)?.is_file() {
        return Err("it is not a regular file".to_owned());
    }
    let mut content = String::new();
    File::open(path).map_err(told)?.take(*room + 1).read_to_string(&mut content).map_err(told)?;
    *room = room.checked_sub(content.len() as u64).ok_or_else(|| {
        format!("all files that the configuration names have more than {MAX_NAMED_BYTES} bytes")
    })?;
    Ok(content)
}

/// The text of the configuration in `path`.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is no configuration by its size.
pub fn source(path: &Path) -> Result<String, Failure> {
    let missing = (Exit::Config, "there is no such file; name another with -c FILE");
    text(path, "the configuration", missing)
}

/// The text of a configuration of another program in `path`.
///
/// # Errors
/// As for [`source`], but a file that is not there is what was asked for and does not exist.
pub fn foreign_source(path: &Path) -> Result<String, Failure> {
    text(path, "the file", (Exit::NoData, "there is no such file"))
}

/// The text in `path`; `missing`: what to say when there is nothing.
fn text(path: &Path, what: &str, missing: (Exit, &str)) -> Result<String, Failure> {
    let attempt = format!("cannot read {what} {}", path.display());
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(missing.0, format!("{attempt}: {}", missing.1)),
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

/// What this machine adds to the meaning of a configuration, without the files that it names. What
/// it does not tell is left out: the relay finds a target that is ourselves again when it dials.
pub fn environment() -> Environment {
    let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Environment {
        host_name,
        local_addresses: local_addresses().unwrap_or_default(),
        congestion_controls: tcp_options::congestion_controls(),
        files: BTreeMap::new(),
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

    /// A configuration that takes its clients and customers from files beside it.
    const WITH_FILES: &str = "node = \"edge-1\"\n[[service]]\nname = \"web\"\n\
        listen = [\"tcp://127.0.0.1:8080\"]\ntarget = [\"10.0.0.5:80\"]\n\
        [[rule]]\nname = \"r\"\naction = \"pass\"\nfrom = [\"@nets.txt\"]\n\
        customer = \"@sub/customers.toml\"\n";

    #[test]
    fn files_that_a_configuration_names_are_read_from_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        std::fs::write(&path, WITH_FILES).unwrap();
        let told = config(&path).unwrap_err().to_string();
        assert!(told.contains("cannot read nets.txt: there is no such file"), "{told}");
        std::fs::write(dir.path().join("nets.txt"), "10.0.0.0/8\n").unwrap();
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        let customers = dir.path().join("sub/customers.toml");
        std::fs::write(&customers, "\"10.0.0.1/8\" = \"acme\"\n").unwrap();
        let told = config(&path).unwrap_err().to_string();
        let place = format!("{}:1:1: \"10.0.0.1/8\" has bits set", customers.display());
        assert!(told.starts_with(&place), "{told}");
        std::fs::write(&customers, "\"10.0.0.0/8\" = \"acme\"\n").unwrap();
        let before = config(&path).unwrap().revision;
        assert_eq!(config(&path).unwrap().revision, before);
        std::fs::write(dir.path().join("nets.txt"), "10.0.0.0/9\n").unwrap();
        assert_ne!(config(&path).unwrap().revision, before, "the files are part of the revision");
        std::fs::remove_file(&customers).unwrap();
        std::fs::create_dir(&customers).unwrap();
        assert!(config(&path).unwrap_err().to_string().contains("not a regular file"));
    }

    #[test]
    fn a_file_of_many_networks_is_read_in_no_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.toml");
        let source = WITH_FILES.replace("customer = \"@sub/customers.toml\"\n", "");
        std::fs::write(&path, source).unwrap();
        let nets =
            (0..100_000u32).map(|n| format!("10.{}.{}.{}\n", n >> 16, n >> 8 & 255, n & 255));
        std::fs::write(dir.path().join("nets.txt"), nets.collect::<String>()).unwrap();
        let begin = std::time::Instant::now();
        assert_eq!(config(&path).unwrap().rules.len(), 1);
        // A tenth of this on a quiet machine, without optimization.
        assert!(begin.elapsed().as_secs() < 5, "{:?}", begin.elapsed());
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
