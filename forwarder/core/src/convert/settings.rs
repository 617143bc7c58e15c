//! What `barefootd.conf` says in front of its rules.

use schemas::config::show_duration;
use schemas::vocab::Transport;

use super::Notes;
use super::statement::{Statement, shorten};
use super::write::quote;

/// What follows from leaving out something that may have kept clients away.
pub(super) const ADMITS_MORE: &str =
    "without this the rules would pass more, so those that pass stand in comments";

/// Longest time that is carried over: what the new file takes at most.
const MAX_SECONDS: u64 = 1000 * 86_400;

/// What stands for never where never is not allowed.
const A_DAY: u64 = 86_400;

/// The settings of a file, or of one rule, which has fewer.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) notes: Notes,
    pub(super) log_to: Option<String>,
    pub(super) require_ptr: bool,
    pub(super) require_confirmed: bool,
    pub(super) timeouts: Timeouts,
    pub(super) any_replies: bool,
    /// Which address of ours targets see.
    pub(super) source: Option<String>,
    /// Whether something that may have kept clients away had to be left out.
    pub(super) admits_more: bool,
}

impl Settings {
    /// Barefoot's defaults.
    pub(super) fn new() -> Self {
        Self {
            notes: Notes::default(),
            log_to: None,
            require_ptr: false,
            require_confirmed: false,
            timeouts: Timeouts {
                connect: Some(30),
                half_closed: Some(0),
                tcp_idle: Some(0),
                udp_idle: Some(3600),
            },
            any_replies: false,
            source: None,
            admits_more: false,
        }
    }

    /// One setting of the file.
    pub(super) fn take(&mut self, statement: &Statement<'_>, line: usize) {
        let values: Vec<&str> = statement.values.iter().map(|word| word.text).collect();
        match statement.key.as_str() {
            "logoutput" => self.log(statement, &values, line),
            "srchost" => {
                for value in values {
                    match value {
                        "nodnsunknown" => self.require_ptr = true,
                        "nodnsmismatch" => {
                            self.require_ptr = true;
                            self.require_confirmed = true;
                        }
                        odd => {
                            self.admits_more = true;
                            let odd = shorten(odd);
                            let text = format!("srchost: {odd}: not carried over: {ADMITS_MORE}");
                            self.notes.add(line, &text);
                        }
                    }
                }
            }
            key if key.starts_with("timeout.") => {
                self.timeouts.take(statement, line, &mut self.notes);
            }
            "udp.connectdst" => self.any_replies = values == ["no"],
            "external" => self.external(statement, &values, line),
            "external.rotation" => match values[..] {
                ["none"] => {}
                ["route"] => self.source = None,
                ["same-same"] => self.source = Some("same".to_owned()),
                _ => self.notes.lost(line, statement, "it is none, route or same-same"),
            },
            "method" | "clientmethod" if values.contains(&"none") => {}
            "method" | "clientmethod" => {
                self.lost(line, statement, "Weir knows clients by their addresses alone");
            }
            "libwrap.hosts_access" if values == ["no"] => {}
            key if admits_all(key) => self.notes.lost(line, statement, why_lost(key)),
            key => self.lost(line, statement, why_lost(key)),
        }
    }

    /// Leaves out what may have kept clients away, and with it the rules that let them in.
    fn lost(&mut self, line: usize, statement: &Statement<'_>, why: &str) {
        self.admits_more = true;
        self.notes.lost(line, statement, &format!("{why}; {ADMITS_MORE}"));
    }

    fn log(&mut self, statement: &Statement<'_>, values: &[&str], line: usize) {
        let to = |value: &str| match value {
            "stderr" => Some("stderr".to_owned()),
            _ if value == "syslog" || value.starts_with("syslog/") => Some("syslog".to_owned()),
            _ if value.starts_with('/') && !value.ends_with('/') => Some(value.to_owned()),
            _ => None,
        };
        let first = values.first().and_then(|value| to(value));
        if first.is_none() {
            let why = "log.to is \"stderr\", \"syslog\" or the whole path of a file";
            self.notes.lost(line, statement, why);
        } else if values.len() > 1 || values[0].starts_with("syslog/") {
            let why = "log.to has one destination, and no facility: the first is taken";
            self.notes.lost(line, statement, why);
        }
        self.log_to = first.or(self.log_to.take());
    }

    fn external(&mut self, statement: &Statement<'_>, values: &[&str], line: usize) {
        // Rotation by the client's address was asked for before.
        if self.source.as_deref() == Some("same") {
            return;
        }
        match values {
            [one] if self.source.is_none() && crate::config::is_source(one) => {
                self.source = Some((*one).to_owned());
            }
            [_] if self.source.is_some() => {
                let why = "one source address is enough: the first is taken";
                self.notes.lost(line, statement, why);
            }
            _ => {
                let why = "source is an address; the kernel chooses one";
                self.notes.lost(line, statement, why);
            }
        }
    }
}

/// Timeouts in seconds, as far as they were said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Timeouts {
    pub(super) connect: Option<u64>,
    pub(super) half_closed: Option<u64>,
    pub(super) tcp_idle: Option<u64>,
    pub(super) udp_idle: Option<u64>,
}

impl Timeouts {
    /// `timeout.…` of a file or of a rule.
    pub(super) fn take(&mut self, statement: &Statement<'_>, line: usize, notes: &mut Notes) {
        let seconds = match &statement.values[..] {
            [one] => one.text.parse::<u64>().ok(),
            _ => None,
        };
        let Some(seconds) = seconds else {
            notes.lost(line, statement, "a timeout is a whole number of seconds");
            return;
        };
        if seconds > MAX_SECONDS {
            notes.add(line, &format!("{}: 1000d is the longest", statement.show()));
        }
        let seconds = seconds.min(MAX_SECONDS);
        match statement.key.as_str() {
            "timeout.connect" if seconds == 0 => {
                notes.lost(line, statement, "the kernel's own patience is no choice here");
            }
            "timeout.connect" => self.connect = Some(seconds),
            "timeout.tcp_fin_wait" => self.half_closed = Some(seconds),
            "timeout.io.tcp" => self.tcp_idle = Some(seconds),
            "timeout.io.udp" => self.udp(seconds, statement, line, notes),
            "timeout.io" => {
                self.tcp_idle = Some(seconds);
                self.udp(seconds, statement, line, notes);
            }
            "timeout.negotiate" => {
                notes.lost(line, statement, "nothing is negotiated; see timeouts.preread");
            }
            _ => notes.lost(line, statement, "there is no such timeout"),
        }
    }

    fn udp(&mut self, seconds: u64, statement: &Statement<'_>, line: usize, notes: &mut Notes) {
        if seconds == 0 {
            let text = "a UDP association that never ends would cost memory for ever: 1d is taken";
            notes.add(line, &format!("{}: {text}", statement.show()));
        }
        self.udp_idle = Some(if seconds == 0 { A_DAY } else { seconds });
    }

    fn given(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all = [
            ("connect", self.connect),
            ("half_closed", self.half_closed),
            ("tcp_idle", self.tcp_idle),
            ("udp_idle", self.udp_idle),
        ];
        let shown = |seconds| quote(&show_duration(std::time::Duration::from_secs(seconds)));
        all.into_iter().filter_map(move |(key, seconds)| Some((key, shown(seconds?))))
    }

    /// As a table in one line, if there is something in it.
    pub(super) fn inline(&self) -> Option<String> {
        let given: Vec<String> =
            self.given().map(|(key, text)| format!("{key} = {text}")).collect();
        (!given.is_empty()).then(|| format!("{{ {} }}", given.join(", ")))
    }

    /// As lines.
    pub(super) fn lines(&self) -> String {
        self.given().map(|(key, text)| format!("{key:<11} = {text}\n")).collect()
    }
}

/// Whether a key is known to keep no client away: leaving it out lets nobody in who was not before.
/// What is not known here may be a restriction, or a misspelt one.
pub(super) fn admits_all(key: &str) -> bool {
    const KEYS: [&str; 9] = [
        "errorlog",
        "resolveprotocol",
        "compatibility",
        "debug",
        "extension",
        "internal",
        "redirect from",
        "via",
        "external.protocol",
    ];
    // The options of sockets and their log, users and processes, and the way by proxies.
    const STARTS: [&str; 6] = ["internal.", "external.", "child.", "cpu.", "route.", "user."];
    KEYS.contains(&key) || STARTS.iter().any(|start| key.starts_with(start))
}

/// Why a key has no counterpart.
pub(super) fn why_lost(key: &str) -> &'static str {
    let starts = |prefix: &str| key.starts_with(prefix);
    match key {
        "errorlog" => "all lines go to log.to; log.level says how many",
        "resolveprotocol" => "names are looked up over UDP, and over TCP when an answer is long",
        "compatibility" => "the kernel chooses the port towards targets",
        "debug" => "see log.level",
        "redirect from" => "see rule.source, which is an address without a port",
        "redirect to" => "see rule.target",
        "internal" => "services listen where the rules say",
        "via" => "targets are dialled, not reached through proxies",
        _ if starts("libwrap") => "no commands are run, and hosts.allow and hosts.deny not read",
        _ if starts("user.") => "the user is chosen where the service is started (systemd)",
        _ if starts("child.") || starts("cpu.") => "there are no child processes to tune",
        _ if starts("external.protocol") => "write the targets of the wanted kind alone",
        _ if starts("internal.log") || starts("external.log") => "see rule.log and events",
        _ if starts("pam") || starts("bsdauth") || starts("gssapi") => {
            "Weir knows clients by their addresses alone"
        }
        _ if starts("internal.") || starts("external.") => {
            "sockets have the options that [tcp] names, and no others"
        }
        _ => "Weir has nothing like it",
    }
}

/// What `transport` says of both.
pub(super) fn scheme(transports: &[Transport]) -> &'static str {
    match transports {
        [Transport::Tcp] => "tcp://",
        [Transport::Udp] => "udp://",
        _ => "",
    }
}
