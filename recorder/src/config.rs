//! `recorder.toml` as meant: a [`Config`] cannot be wrong, because only a file without faults becomes
//! one.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemas::config::{
    Diagnostics, Document, Findings, Refusal, Section, Value, show_duration, show_size,
};
use schemas::vocab::NodeName;

use crate::compact::Rhythm;
use crate::data_dir;
use crate::retain::Keep;

/// Where the configuration is looked for.
pub const DEFAULT_FILE: &str = "/etc/weir/recorder.toml";

/// Every key this version knows, as `docs/recorder.md` must describe it.
pub const KEYS: [&str; 12] = [
    "data",
    "listen",
    "allow",
    "accounting.publish_every",
    "accounting.compact",
    "accounting.keep.sessions",
    "accounting.keep.usage",
    "accounting.keep.denied",
    "accounting.keep.events",
    "admin.socket",
    "capture.rotate.size",
    "capture.rotate.every",
];

/// Longest path of a Unix socket, in bytes (`sun_path` less its final zero).
const MAX_SOCKET_PATH: usize = 107;
const PUBLISH_EVERY: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_secs(3600);
const KEEP: RangeInclusive<Duration> =
    Duration::from_secs(86_400)..=Duration::from_secs(1000 * 86_400);
const ROTATE_EVERY: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const ROTATE_SIZE: RangeInclusive<u64> = (64 << 10)..=(1 << 40);

const LISTEN_HELP: &str = r#"write listen = ["unix:/run/weir/recorder.sock"]"#;
const COMPACT_HELP: &str = r#"write "hourly", "daily" or "off""#;
const ALLOW_HELP: &str =
    r#"write allow = ["edge-1"] or allow = [{ node = "edge-1", uid = "weir-forwarder" }]"#;

/// Everything a recorder is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The directory of everything that is kept.
    pub data: PathBuf,
    /// Unix sockets that forwarders connect to.
    pub listen: Vec<PathBuf>,
    /// Who may be which node; empty: peers of our own uid or root may be any node.
    pub allow: Vec<Allow>,
    /// How often what was received becomes Parquet.
    pub publish_every: Duration,
    /// How often parts are merged into larger ones; `None`: never.
    pub compact: Option<Rhythm>,
    /// How long rows are kept.
    pub keep: Keep,
    /// The admin socket.
    pub admin_socket: PathBuf,
    /// When a capture file gives way to a new one.
    pub rotate: Rotate,
}

/// A node that may connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Allow {
    /// Its name.
    pub node: NodeName,
    /// The user its forwarder runs as; `None`: our own user or root.
    pub uid: Option<u32>,
}

/// When a capture file gives way to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotate {
    /// At this size in bytes.
    pub size_bytes: u64,
    /// At this age.
    pub every: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data: "/var/lib/weir".into(),
            listen: vec!["/run/weir/recorder.sock".into()],
            allow: Vec::new(),
            publish_every: Duration::from_secs(10),
            compact: Some(Rhythm::Hourly),
            keep: Keep::default(),
            admin_socket: "/run/weir/recorder-admin.sock".into(),
            rotate: Rotate { size_bytes: 1 << 30, every: Duration::from_secs(15 * 60) },
        }
    }
}

impl Config {
    /// The configuration that `text`, the content of `file`, means.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut findings = Findings::new(text);
        let document = Document::parse(text, &mut findings);
        let config = Self::read(document.root(), &mut findings);
        if findings.has_faults() { Err(findings.into_diagnostics(file)) } else { Ok(config) }
    }

    /// The admin socket that `text` names, whatever else is wrong with it; the default when it
    /// names none.
    pub fn admin_socket_of(text: &str) -> PathBuf {
        let mut ignored = Findings::new(text);
        let document = Document::parse(text, &mut ignored);
        let mut root = document.root();
        let mut admin = root.section("admin", &mut ignored);
        let socket = admin.as_mut().and_then(|admin| admin.get("socket"));
        let path = socket.and_then(|socket| socket_path(&socket, &mut ignored));
        path.unwrap_or(Self::default().admin_socket)
    }

    fn read(mut root: Section<'_>, findings: &mut Findings<'_>) -> Self {
        let mut config = Self::default();
        if let Some(value) = root.get("data") {
            config.data = path(&value, findings).unwrap_or(config.data);
        }
        if let Some(value) = root.get("listen") {
            config.listen = listeners(&value, findings);
        }
        if let Some(value) = root.get("allow") {
            config.allow = allowed(&value, findings);
        }
        if let Some(section) = root.section("accounting", findings) {
            config.read_accounting(section, findings);
        }
        if let Some(section) = root.section("admin", findings) {
            config.read_admin(section, findings);
        }
        if let Some(section) = root.section("capture", findings) {
            config.read_capture(section, findings);
        }
        if !findings.has_faults() && config.listen.contains(&config.admin_socket) {
            let message = "forwarders are listened for on the default admin socket";
            findings.fault_of_file(Refusal::new(message, "give one of them another path"));
        }
        root.later(&["tls", "log"]);
        root.finish(findings);
        config
    }

    fn read_accounting(&mut self, mut section: Section<'_>, findings: &mut Findings<'_>) {
        if let Some(value) = section.get("publish_every") {
            let every = duration_within(&value, &PUBLISH_EVERY, findings);
            self.publish_every = every.unwrap_or(self.publish_every);
        }
        if let Some(value) = section.get("compact") {
            let compact = value.read(COMPACT_HELP, rhythm, findings);
            self.compact = compact.unwrap_or(self.compact);
        }
        if let Some(section) = section.section("keep", findings) {
            self.read_keep(section, findings);
        }
        section.finish(findings);
    }

    fn read_keep(&mut self, mut section: Section<'_>, findings: &mut Findings<'_>) {
        let Keep { sessions, usage, denied, events } = &mut self.keep;
        for (name, keep) in
            [("sessions", sessions), ("usage", usage), ("denied", denied), ("events", events)]
        {
            *keep = match section.get(name) {
                None => *keep,
                Some(value) if value.as_str() == Some("forever") => Keep::FOREVER,
                Some(value) => duration_within(&value, &KEEP, findings).unwrap_or(*keep),
            };
        }
        section.finish(findings);
    }

    fn read_admin(&mut self, mut section: Section<'_>, findings: &mut Findings<'_>) {
        if let Some(value) = section.get("socket")
            && let Some(socket) = socket_path(&value, findings)
        {
            if self.listen.contains(&socket) {
                let message = "forwarders are listened for on the same socket";
                value.fault(Refusal::new(message, "give it a path of its own"), findings);
            }
            self.admin_socket = socket;
        }
        section.later(&["metrics"]);
        section.finish(findings);
    }

    fn read_capture(&mut self, mut section: Section<'_>, findings: &mut Findings<'_>) {
        if let Some(mut rotate) = section.section("rotate", findings) {
            if let Some(value) = rotate.get("size") {
                let size = size_within(&value, &ROTATE_SIZE, findings);
                self.rotate.size_bytes = size.unwrap_or(self.rotate.size_bytes);
            }
            if let Some(value) = rotate.get("every") {
                let every = duration_within(&value, &ROTATE_EVERY, findings);
                self.rotate.every = every.unwrap_or(self.rotate.every);
            }
            rotate.finish(findings);
        }
        section.later(&["keep", "max_total", "min_free"]);
        section.finish(findings);
    }
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data       {}", self.data.display())?;
        for socket in &self.listen {
            writeln!(f, "listen     unix:{}", socket.display())?;
        }
        if self.allow.is_empty() {
            writeln!(f, "allow      any node whose forwarder runs as our user or as root")?;
        }
        for Allow { node, uid } in &self.allow {
            match uid {
                Some(uid) => writeln!(f, "allow      {node}, run by uid {uid}")?,
                None => writeln!(f, "allow      {node}, run by our user or root")?,
            }
        }
        writeln!(f, "accounting published every {}", show_duration(self.publish_every))?;
        let compacted = match self.compact {
            Some(Rhythm::Hourly) => "compacted after each hour and each day",
            Some(Rhythm::Daily) => "compacted after each day",
            None => "never compacted",
        };
        writeln!(f, "           {compacted}")?;
        let Keep { sessions, usage, denied, events } = self.keep;
        writeln!(
            f,
            "           kept: sessions {}, usage and slots {}, denied {}, events {}",
            show_keep(sessions),
            show_keep(usage),
            show_keep(denied),
            show_keep(events)
        )?;
        let (size, every) = (show_size(self.rotate.size_bytes), show_duration(self.rotate.every));
        writeln!(f, "capture    a new file at {size} and every {every}")?;
        writeln!(f, "admin      {}", self.admin_socket.display())
    }
}

fn show_keep(keep: Duration) -> String {
    if keep == Keep::FOREVER { "forever".to_owned() } else { show_duration(keep) }
}

fn path(value: &Value<'_>, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let help = r#"write a path, as in "/var/lib/weir""#;
    let text = value.text(help, findings)?;
    if text.is_empty() || text.contains('\0') {
        value.fault(Refusal::new("this is not a path", help), findings);
        return None;
    }
    Some(PathBuf::from(text))
}

fn socket_path(value: &Value<'_>, findings: &mut Findings<'_>) -> Option<PathBuf> {
    let socket = path(value, findings)?;
    check_socket(value, &socket, findings).then_some(socket)
}

fn check_socket(value: &Value<'_>, socket: &Path, findings: &mut Findings<'_>) -> bool {
    let len = socket.as_os_str().len();
    if len > MAX_SOCKET_PATH {
        let message = format!("the path has {len} bytes, a socket's may have {MAX_SOCKET_PATH}");
        value.fault(Refusal::new(message, "choose a shorter path"), findings);
    }
    len <= MAX_SOCKET_PATH
}

fn listeners(value: &Value<'_>, findings: &mut Findings<'_>) -> Vec<PathBuf> {
    let mut sockets = Vec::new();
    let Some(members) = value.array(LISTEN_HELP, findings) else { return sockets };
    if members.is_empty() {
        value.fault(Refusal::new("nobody could connect", LISTEN_HELP), findings);
    }
    for member in members {
        let Some(socket) = member.read(LISTEN_HELP, listener, findings) else { continue };
        if !check_socket(&member, &socket, findings) {
            continue;
        }
        if sockets.contains(&socket) {
            member.fault(Refusal::new("it stands here twice", "leave one out"), findings);
            continue;
        }
        sockets.push(socket);
    }
    sockets
}

fn listener(text: &str) -> Result<PathBuf, Refusal> {
    if text.starts_with("tls:") {
        return Err(Refusal::later(format!("{text:?}"), LISTEN_HELP));
    }
    match text.strip_prefix("unix:") {
        Some(path) if !path.is_empty() && !path.contains('\0') => Ok(path.into()),
        _ => Err(Refusal::new(format!("{text:?} is not an address to listen on"), LISTEN_HELP)),
    }
}

fn rhythm(text: &str) -> Result<Option<Rhythm>, Refusal> {
    match text {
        "hourly" => Ok(Some(Rhythm::Hourly)),
        "daily" => Ok(Some(Rhythm::Daily)),
        "off" => Ok(None),
        _ => Err(Refusal::new(format!("{text:?} is no rhythm of compaction"), COMPACT_HELP)),
    }
}

fn allowed(value: &Value<'_>, findings: &mut Findings<'_>) -> Vec<Allow> {
    let mut allowed = Vec::new();
    let mut seen = HashSet::new();
    for member in value.array(ALLOW_HELP, findings).unwrap_or_default() {
        let Some(allow) = allow(&member, findings) else { continue };
        if !seen.insert(allow.clone()) {
            member.fault(Refusal::new("it stands here twice", "leave one out"), findings);
            continue;
        }
        allowed.push(allow);
    }
    allowed
}

fn allow(member: &Value<'_>, findings: &mut Findings<'_>) -> Option<Allow> {
    if !member.is_table() {
        let node = member.parse(ALLOW_HELP, findings)?;
        return Some(Allow { node, uid: None });
    }
    let mut table = member.section(findings)?;
    let node = table
        .require("node", ALLOW_HELP, findings)
        .and_then(|node| node.parse("write the node's name", findings));
    let uid = table.get("uid").map(|uid| user(&uid, findings));
    table.finish(findings);
    let uid = match uid {
        None => None,
        Some(uid) => Some(uid?),
    };
    Some(Allow { node: node?, uid })
}

/// A user's number, or the name that it has on this machine.
fn user(value: &Value<'_>, findings: &mut Findings<'_>) -> Option<u32> {
    let Some(name) = value.as_str() else {
        // The largest 32-bit number is the kernel's word for "no user".
        let number = value.integer(0..=u64::from(u32::MAX - 1), findings)?;
        return u32::try_from(number).ok();
    };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = data_dir::number_of(&users, name);
    if uid.is_none() {
        let help = "write a user of this machine (/etc/passwd), or the number";
        value.fault(Refusal::new(format!("there is no user {name:?}"), help), findings);
    }
    uid
}

fn duration_within(
    value: &Value<'_>,
    range: &RangeInclusive<Duration>,
    findings: &mut Findings<'_>,
) -> Option<Duration> {
    let duration = value.duration(findings)?;
    let bounds = (show_duration(*range.start()), show_duration(*range.end()));
    within(value, duration, range, &bounds, findings)
}

fn size_within(
    value: &Value<'_>,
    range: &RangeInclusive<u64>,
    findings: &mut Findings<'_>,
) -> Option<u64> {
    let size = value.size(findings)?;
    let bounds = (show_size(*range.start()), show_size(*range.end()));
    within(value, size, range, &bounds, findings)
}

fn within<T: PartialOrd>(
    value: &Value<'_>,
    found: T,
    range: &RangeInclusive<T>,
    (least, most): &(String, String),
    findings: &mut Findings<'_>,
) -> Option<T> {
    if range.contains(&found) {
        return Some(found);
    }
    let text = value.as_str().unwrap_or_default();
    let help = format!("write {least:?} to {most:?}");
    value.fault(Refusal::new(format!("{text:?} is out of range"), help), findings);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_means_the_defaults() {
        assert_eq!(Config::parse("recorder.toml", ""), Ok(Config::default()));
    }

    #[test]
    fn every_key_is_read_and_shown_as_resolved() {
        let text = r#"
data = "/srv/weir"
listen = ["unix:/run/a.sock", "unix:/run/b.sock"]
allow = ["edge-1", { node = "edge-2", uid = 1001 }, { node = "edge-3", uid = "root" }]
[accounting]
publish_every = "2s"
compact = "daily"
keep = { sessions = "30d", usage = "800d", denied = "1d", events = "forever" }
[admin]
socket = "/run/admin.sock"
[capture]
rotate = { size = "10 MiB", every = "1m" }
"#;
        insta::assert_snapshot!(Config::parse("recorder.toml", text).unwrap());
    }

    #[test]
    fn the_documented_keys_are_the_keys() {
        let page = include_str!("../../docs/configuration.md");
        let section = page.split("## recorder.toml").nth(1).unwrap();
        let documented: Vec<_> = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
            .map(|(key, _)| key)
            .collect();
        assert_eq!(documented, KEYS);
    }

    #[test]
    fn a_file_with_every_key_is_taken() {
        let value = |key: &str| match key {
            "data" | "admin.socket" => "\"/x\"",
            "listen" => "[\"unix:/y\"]",
            "allow" => "[]",
            "capture.rotate.size" => "\"1 MiB\"",
            "accounting.compact" => "\"off\"",
            key if key.starts_with("accounting.keep.") => "\"30d\"",
            _ => "\"1m\"",
        };
        let lines = KEYS.map(|key| format!("{key} = {}\n", value(key)));
        Config::parse("recorder.toml", &lines.concat()).unwrap();
    }

    #[test]
    fn every_fault_of_a_file_is_told_in_one_run() {
        let text = r#"
data = ""
listen = ["tls://0.0.0.0:7410", "/run/x.sock", "unix:/run/a.sock", "unix:/run/a.sock"]
allow = ["edge 1", { node = "edge-2", uid = -1 }, { uid = 5 }, { node = "a", gid = 1 }, "b", "b",
  { node = "c", uid = "no such user" }]
dta = "x"
[tls]
cert = "x"
[accounting]
publish_every = "1ms"
compact = "weekly"
keep = { sessions = "4h", captures = "400d" }
[admin]
socket = "/run/a.sock"
metrics = "127.0.0.1:9411"
[capture]
keep = "7d"
max_total = "100 GiB"
min_free = "5%"
rotate = { size = "1", evry = "15m" }
"#;
        let faults = Config::parse("recorder.toml", text).unwrap_err();
        insta::assert_snapshot!(faults);
    }

    #[test]
    fn nobody_to_listen_for_and_a_long_socket_are_faults() {
        let text = format!("listen = []\nadmin.socket = \"/{}\"\n", "x".repeat(200));
        let faults = Config::parse("recorder.toml", &text).unwrap_err().to_string();
        assert!(faults.contains("nobody could connect"), "{faults}");
        assert!(faults.contains("a socket's may have 107"), "{faults}");
    }

    #[test]
    fn the_admin_socket_is_found_in_a_file_with_faults() {
        let text = "nonsense = 1\n[admin]\nsocket = \"/tmp/a.sock\"\n";
        assert_eq!(Config::admin_socket_of(text), PathBuf::from("/tmp/a.sock"));
        assert_eq!(Config::admin_socket_of(""), Config::default().admin_socket);
    }
}
