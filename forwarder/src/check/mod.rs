//! `forwarder check`: what a configuration file means.

mod json;
mod text;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread::available_parallelism;

use forwarder_core::config::{Config, WhenFull};
use rustix::fs::{Access, access};

use crate::admin::show::write_out;
use crate::load;
use crate::tcp_options;
use json::json_of;
use schemas::exit::Failure;
use text::text_of;

/// Reads a file and writes its meaning to stdout, what is doubtful to stderr.
///
/// # Errors
/// The file cannot be read or has faults.
pub fn check(file: &Path, as_json: bool) -> Result<(), Failure> {
    let config = load::config(file)?;
    eprint!("{}", config.warnings);
    for warning in machine_warnings(&config) {
        eprintln!("{}: warning: {warning}", file.display());
    }
    match as_json {
        true => write_out(&format!("{:#}\n", json_of(&config))),
        false => write_out(&text_of(&config)),
    }
}

/// The data threads of a configuration on this machine.
pub fn threads(config: &Config) -> usize {
    match config.threads {
        0 => available_parallelism().map_or(1, usize::from),
        threads => threads,
    }
}

/// What this machine lacks for the configuration, as far as it can be seen without trying.
pub fn machine_warnings(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if matches!(nix::unistd::Group::from_name("weir"), Ok(None)) {
        warnings.push(
            "there is no group weir: only our own user and group may use the admin socket; \
             groupadd --system weir makes one"
                .to_owned(),
        );
    }
    let places = [
        ("recorder.spool", config.recorder.spool.as_path()),
        ("admin.socket", config.admin_socket.parent().unwrap_or(Path::new("/"))),
    ];
    for (key, directory) in places {
        // What is absent is made at the start, in the nearest directory that exists.
        let exists = directory.ancestors().find(|ancestor| ancestor.exists());
        let Some(exists) = exists else { continue };
        let writable = Access::WRITE_OK | Access::EXEC_OK;
        if let Err(error) = access(exists, writable) {
            warnings.push(format!(
                "{key}: this user cannot write to {}: {}",
                exists.display(),
                std::io::Error::from(error)
            ));
        }
    }
    warnings.extend(unknown_interfaces(config));
    warnings.extend(tcp_options::warnings(&config.tcp));
    warnings
}

/// Rules and listeners that name network interfaces which are not there: they may come, but a
/// domain written without its dot in front looks the same.
fn unknown_interfaces(config: &Config) -> Vec<String> {
    let Ok(known) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let known: BTreeSet<String> = known.map(|interface| interface.interface_name).collect();
    let mut warnings = Vec::new();
    for service in &config.services {
        for listener in &service.interfaces {
            if !known.contains(&listener.interface) {
                warnings.push(format!(
                    "service {}: {listener} waits until there is a network interface {:?}",
                    service.name, listener.interface
                ));
            }
        }
    }
    for rule in &config.rules {
        for name in config.needs(rule).interfaces {
            if !known.contains(name) {
                warnings.push(format!(
                    "rule {}: there is no network interface {name:?} on this machine; a domain is \
                     written \".{name}\", a host name has a dot",
                    rule.name
                ));
            }
        }
    }
    warnings
}

fn when_full(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::KeepForwarding => "keep-forwarding",
        WhenFull::RefuseNew => "refuse-new",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use forwarder_core::config::Environment;

    use super::*;

    fn named_files() -> BTreeMap<PathBuf, Result<String, String>> {
        let files = [
            ("guests.txt", include_str!("../../core/tests/config/named/guests.txt")),
            ("customers.toml", include_str!("../../core/tests/config/named/customers.toml")),
        ];
        files.map(|(path, content)| (PathBuf::from(path), Ok(content.to_owned()))).into()
    }

    fn config() -> Config {
        let environment = Environment {
            host_name: "edge-1".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: named_files(),
        };
        let source = include_str!("../../core/tests/config/valid/every-key.toml");
        Config::parse(source, "every-key.toml", &environment)
            .unwrap_or_else(|faults| panic!("{faults}"))
    }

    #[test]
    fn the_meaning_of_a_file_reads_well() {
        insta::assert_snapshot!(text_of(&config()));
    }

    #[test]
    fn the_meaning_of_a_file_is_there_for_programs_too() {
        insta::assert_snapshot!(format!("{:#}", json_of(&config())));
    }

    #[test]
    fn a_network_interface_that_is_not_there_is_told() {
        let source = "node = \"a\"\n[[service]]\nname = \"web\"\nlisten = [\"tcp://weir-none:80\"]\n\
            target = [\"10.0.0.5:80\"]\n[[rule]]\nname = \"r\"\naction = \"pass\"\n\
            from = [\"lo\", \"guests\"]\n";
        let environment = Environment {
            host_name: "edge-1".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: BTreeMap::new(),
        };
        let config = Config::parse(source, "f", &environment).unwrap();
        let warnings = unknown_interfaces(&config);
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(warnings[0].contains("tcp://weir-none:80 waits"), "{warnings:?}");
        assert!(warnings[1].contains("a domain is written \".guests\""), "{warnings:?}");
    }

    #[test]
    fn a_directory_that_may_not_be_written_is_warned_about() {
        // A file where a directory should be: not even root can write into that.
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let source = include_str!("../../core/tests/config/valid/every-key.toml")
            .replace("/srv/weir/spool", &format!("{path}/spool"));
        let environment = Environment {
            host_name: "edge-1".to_owned(),
            local_addresses: Vec::new(),
            congestion_controls: Vec::new(),
            files: named_files(),
        };
        let config = Config::parse(&source, "f", &environment).unwrap();
        let warnings = machine_warnings(&config).join("\n");
        let expected = format!("recorder.spool: this user cannot write to {path}");
        assert!(warnings.contains(&expected), "{warnings}");
    }
}
