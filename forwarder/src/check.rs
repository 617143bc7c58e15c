//! `forwarder check`: what a configuration file means.

use std::path::Path;
use std::thread::available_parallelism;
use std::time::Duration;

use forwarder_core::config::{
    Action, CaptureMode, Config, CongestionControl, LogChoice, Pass, Rule, Service, Target, Tcp,
    Timeouts, WhenBehind, WhenFull, show_duration, show_size,
};
use rustix::fs::{Access, access};
use serde_json::{Value, json};

use crate::admin::show::{grouped, table, write_out};
use crate::load;
use crate::tcp_options;
use schemas::exit::Failure;

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
    warnings.extend(tcp_options::warnings(&config.tcp));
    warnings
}

/// The configuration as aligned text.
fn text_of(config: &Config) -> String {
    let when_full = when_full(config.recorder.when_full);
    let facts = [
        ("node", config.node.to_string()),
        ("threads", threads_text(config.threads)),
        ("revision", config.revision.clone()),
        ("recorder", format!("unix:{}", config.recorder.socket.display())),
        (
            "spool",
            format!(
                "{}, at most {}, then {when_full}",
                config.recorder.spool.display(),
                show_size(config.recorder.spool_max_bytes)
            ),
        ),
        (
            "accounting",
            format!(
                "slots of {} s, {} sessions at once",
                config.accounting.slot_len_s,
                grouped(config.accounting.table_slots as u64)
            ),
        ),
        ("admin", config.admin_socket.display().to_string()),
        (
            "timeouts",
            format!(
                "{}, drain {}",
                timeouts_text(&config.timeouts),
                or_never(config.timeouts.drain)
            ),
        ),
        ("tcp", tcp_text(&config.tcp)),
    ];
    let mut text: String = facts.iter().map(|(name, fact)| format!("{name:<12}{fact}\n")).collect();
    let head = ["service", "listener", "target"].map(String::from);
    text += &format!("\n{}\n", table(&head, 3, config.services.iter().flat_map(service_rows)));
    let head = ["rule", "service", "client", "verdict", "target", "customer", "capture", "log"]
        .map(String::from);
    // What no rule matches stands where it is decided: behind the last.
    let others = ["(no rule)", "every service", "everyone else", "block", "-", "-", "-", "-"];
    let rules = config.rules.iter().flat_map(rule_rows).chain([others.map(String::from).into()]);
    text += &format!("\n{}\n", table(&head, 8, rules));
    for rule in &config.rules {
        if let Action::Pass(pass) = &rule.action
            && pass.timeouts != config.timeouts
        {
            text += &format!("\ntimeouts of rule {}: {}", rule.name, timeouts_text(&pass.timeouts));
        }
    }
    text.trim_end().to_owned() + "\n"
}

/// Lists of different lengths side by side, the names on the first row only.
fn side_by_side(columns: &[Vec<String>]) -> Vec<Vec<String>> {
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |column: &Vec<String>, row: usize| column.get(row).cloned().unwrap_or_default();
    (0..rows).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

fn service_rows(service: &Service) -> Vec<Vec<String>> {
    side_by_side(&[
        vec![service.name.to_string()],
        texts(&service.listeners),
        or_one(texts(&service.targets), "as the rule says"),
    ])
}

fn rule_rows(rule: &Rule) -> Vec<Vec<String>> {
    let (verdict, targets, capture) = match &rule.action {
        Action::Block => ("block", vec!["-".to_owned()], "-".to_owned()),
        Action::Pass(pass) => {
            ("pass", or_one(texts(&pass.targets), "the service's"), capture_text(pass))
        }
    };
    side_by_side(&[
        vec![rule.name.to_string()],
        or_one(texts(&rule.services), "every service"),
        or_one(texts(&rule.from), "everyone"),
        vec![verdict.to_owned()],
        targets,
        vec![rule.customer.as_ref().map_or("-".to_owned(), ToString::to_string)],
        vec![capture],
        vec![log_text(rule.log)],
    ])
}

/// What is kept, and at what price when that is not the usual one.
fn capture_text(pass: &Pass) -> String {
    match (pass.capture, pass.capture_when_behind) {
        (CaptureMode::Off, _) | (_, WhenBehind::Drop) => pass.capture.to_string(),
        (_, WhenBehind::Slow) => format!("{}, slow when behind", pass.capture),
    }
}

fn texts<T: ToString>(list: &[T]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

fn or_one(list: Vec<String>, otherwise: &str) -> Vec<String> {
    if list.is_empty() { vec![otherwise.to_owned()] } else { list }
}

fn log_text(log: LogChoice) -> String {
    match log == LogChoice::default() {
        true => "-".to_owned(),
        false => log.to_string(),
    }
}

fn timeouts_text(timeouts: &Timeouts) -> String {
    format!(
        "preread {}, resolve {}, connect {}, half_closed {}, tcp_idle {}, udp_idle {}, \
         max_duration {}",
        show_duration(timeouts.preread),
        show_duration(timeouts.resolve),
        show_duration(timeouts.connect),
        or_never(timeouts.half_closed),
        or_never(timeouts.tcp_idle),
        show_duration(timeouts.udp_idle),
        or_never(timeouts.max_duration),
    )
}

fn threads_text(threads: usize) -> String {
    match threads {
        0 => "one for each core".to_owned(),
        threads => threads.to_string(),
    }
}

fn tcp_text(tcp: &Tcp) -> String {
    let congestion = |side: &Option<_>| {
        side.as_ref().map_or_else(|| "the system's".to_owned(), CongestionControl::to_string)
    };
    let user_timeout = match tcp.user_timeout {
        Duration::ZERO => "the system's".to_owned(),
        timeout => show_duration(timeout),
    };
    format!(
        "congestion {} to clients, {} to targets, keepalive {}, user_timeout {user_timeout}, \
         buffer {}, pipe {}",
        congestion(&tcp.congestion_client),
        congestion(&tcp.congestion_target),
        or_never(tcp.keepalive.after),
        show_size(tcp.buffer_bytes as u64),
        show_size(tcp.pipe_bytes as u64),
    )
}

fn or_never(timeout: Duration) -> String {
    if timeout.is_zero() { "never".to_owned() } else { show_duration(timeout) }
}

fn when_full(when_full: WhenFull) -> &'static str {
    match when_full {
        WhenFull::KeepForwarding => "keep-forwarding",
        WhenFull::RefuseNew => "refuse-new",
    }
}

/// The configuration as one JSON object, with the keys of the file and every default in place.
fn json_of(config: &Config) -> Value {
    json!({
        "node": config.node.as_str(),
        "threads": config.threads,
        "revision": config.revision,
        "recorder": {
            "endpoint": format!("unix:{}", config.recorder.socket.display()),
            "spool": config.recorder.spool,
            "spool_max": config.recorder.spool_max_bytes,
            "when_full": when_full(config.recorder.when_full),
        },
        "accounting": {
            "slot": config.accounting.slot_len_s,
            "table": config.accounting.table_slots,
        },
        "admin": { "socket": config.admin_socket },
        "timeouts": timeouts_json(&config.timeouts, true),
        "tcp": tcp_json(&config.tcp),
        "service": config.services.iter().map(service_json).collect::<Vec<_>>(),
        "rule": config.rules.iter().map(rule_json).collect::<Vec<_>>(),
    })
}

fn tcp_json(tcp: &Tcp) -> Value {
    json!({
        "congestion_client": tcp.congestion_client.as_ref().map(CongestionControl::as_str),
        "congestion_target": tcp.congestion_target.as_ref().map(CongestionControl::as_str),
        "keepalive": tcp.keepalive.after.as_secs_f64(),
        "user_timeout": tcp.user_timeout.as_secs_f64(),
        "buffer": tcp.buffer_bytes,
        "pipe": tcp.pipe_bytes,
    })
}

fn service_json(service: &Service) -> Value {
    json!({
        "name": service.name.as_str(),
        "listen": texts(&service.listeners),
        "target": texts(&service.targets),
    })
}

fn rule_json(rule: &Rule) -> Value {
    let mut value = json!({
        "name": rule.name.as_str(),
        "services": texts(&rule.services),
        "from": texts(&rule.from),
        "customer": rule.customer.as_ref().map(ToString::to_string),
        "log": log_json(rule.log),
    });
    match &rule.action {
        Action::Block => value["action"] = json!("block"),
        Action::Pass(pass) => {
            value["action"] = json!("pass");
            value["target"] = json!(texts::<Target>(&pass.targets));
            value["capture"] = json!(pass.capture.to_string());
            value["capture_when_behind"] = json!(pass.capture_when_behind.to_string());
            value["timeouts"] = timeouts_json(&pass.timeouts, false);
        }
    }
    value
}

fn log_json(log: LogChoice) -> Vec<String> {
    log.to_string().split(", ").filter(|moment| !moment.is_empty()).map(str::to_owned).collect()
}

/// Timeouts in seconds.
fn timeouts_json(timeouts: &Timeouts, with_drain: bool) -> Value {
    let mut value = json!({
        "preread": timeouts.preread.as_secs_f64(),
        "resolve": timeouts.resolve.as_secs_f64(),
        "connect": timeouts.connect.as_secs_f64(),
        "half_closed": timeouts.half_closed.as_secs_f64(),
        "tcp_idle": timeouts.tcp_idle.as_secs_f64(),
        "udp_idle": timeouts.udp_idle.as_secs_f64(),
        "max_duration": timeouts.max_duration.as_secs_f64(),
    });
    if with_drain {
        value["drain"] = json!(timeouts.drain.as_secs_f64());
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use forwarder_core::config::Environment;

    use super::*;

    fn named_files() -> BTreeMap<PathBuf, Result<String, String>> {
        let files = [
            ("guests.txt", include_str!("../core/tests/config/named/guests.txt")),
            ("customers.toml", include_str!("../core/tests/config/named/customers.toml")),
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
        let source = include_str!("../core/tests/config/valid/every-key.toml");
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
    fn a_directory_that_may_not_be_written_is_warned_about() {
        // A file where a directory should be: not even root can write into that.
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        let source = include_str!("../core/tests/config/valid/every-key.toml")
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
