//! A configuration as aligned text: tables of what every service and rule has, then what some have.

use std::time::Duration;

use forwarder_core::config::{
    Action, CaptureMode, Config, CongestionControl, LogChoice, Origin, Pass, ProxySend,
    ProxyVersion, Refuse, Rule, Service, Source, Tcp, Timeouts, UdpReplies, WhenBehind,
    show_duration, show_size,
};

use super::when_full;
use crate::admin::show::{grouped, table};

/// The configuration as text.
pub(super) fn text_of(config: &Config) -> String {
    let facts = facts(config);
    let mut text: String = facts.iter().map(|(name, fact)| format!("{name:<12}{fact}\n")).collect();
    let head = ["service", "listener", "target"].map(String::from);
    text += &format!("\n{}\n", table(&head, 3, config.services.iter().flat_map(service_rows)));
    let head = ["rule", "service", "client", "verdict", "target", "customer", "capture", "log"]
        .map(String::from);
    // What no rule matches stands where it is decided: behind the last.
    let others = ["(no rule)", "every service", "everyone else", "block", "-", "-", "-", "-"];
    let rules = config.rules.iter().flat_map(rule_rows).chain([others.map(String::from).into()]);
    text += &format!("\n{}\n", table(&head, 8, rules));
    for service in &config.services {
        text += &details("service", service.name.as_str(), &service_details(service));
    }
    for rule in &config.rules {
        text += &details("rule", rule.name.as_str(), &rule_details(config, rule));
    }
    if !config.alerts.is_empty() {
        let head = ["alert", "strikes at", "service", "rule", "target"].map(String::from);
        let rows = config.alerts.iter().flat_map(|alert| {
            side_by_side(&[
                vec![alert.name.to_string()],
                vec![alert.condition()],
                or_one(texts(&alert.services), "every service"),
                or_one(texts(&alert.rules), "every rule"),
                or_one(texts(&alert.targets), "every target"),
            ])
        });
        text += &format!("\n{}\n", table(&head, 5, rows));
    }
    text
}

/// What the file says of the forwarder as a whole.
fn facts(config: &Config) -> Vec<(&'static str, String)> {
    let when_full = when_full(config.recorder.when_full);
    let metrics = config.metrics.map(|at| format!(", metrics http://{at}/metrics"));
    let spool = format!(
        "{}, at most {}, then {when_full}",
        config.recorder.spool.display(),
        show_size(config.recorder.spool_max_bytes)
    );
    let accounting = format!(
        "slots of {} s, {} sessions at once",
        config.accounting.slot_len_s,
        grouped(config.accounting.table_slots as u64)
    );
    let timeouts =
        format!("{}, drain {}", timeouts_text(&config.timeouts), or_never(config.timeouts.drain));
    vec![
        ("node", config.node.to_string()),
        ("threads", threads_text(config.threads)),
        ("revision", config.revision.clone()),
        ("recorder", format!("unix:{}", config.recorder.socket.display())),
        ("spool", spool),
        ("accounting", accounting),
        ("admin", format!("{}{}", config.admin_socket.display(), metrics.unwrap_or_default())),
        ("log", format!("{} to {}, {}", config.log.level, config.log.to, config.log.format)),
        ("dns", dns_text(config)),
        ("timeouts", timeouts),
        ("tcp", tcp_text(&config.tcp)),
    ]
}

fn dns_text(config: &Config) -> String {
    let dns = &config.dns;
    let servers = or_one(texts(&dns.servers), "the system's servers").join(", ");
    let required = match (dns.require_ptr, dns.require_confirmed) {
        (_, true) => "; a client needs a confirmed name",
        (true, false) => "; a client needs a name",
        (false, false) => "",
    };
    format!("{servers}{required}")
}

/// A paragraph about one service or rule; nothing if there is nothing to say.
fn details(what: &str, name: &str, lines: &[(&str, String)]) -> String {
    if lines.is_empty() {
        return String::new();
    }
    let lines: String = lines.iter().map(|(key, text)| format!("  {key:<14}{text}\n")).collect();
    format!("\n{what} {name}\n{lines}")
}

fn service_details(service: &Service) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    if service.targets.len() > 1 {
        lines.push(("balance", service.balance.to_string()));
    }
    if let Some(health) = service.health {
        let (every, timeout) = (show_duration(health.every), show_duration(health.timeout));
        let text = format!(
            "checked every {every} for {timeout}, up after {}, down after {}",
            health.rise, health.fall
        );
        lines.push(("health", text));
    }
    if service.source != Source::Kernel {
        lines.push(("source", service.source.to_string()));
    }
    if let Some(accept) = &service.proxy_accept {
        let version = accept.version.map_or("any".to_owned(), |version| version.to_string());
        let trusted = texts(&accept.trusted).join(", ");
        lines.push(("PROXY taken", format!("{version}, from {trusted}")));
    }
    if let Some(version) = service.proxy_send {
        lines.push(("PROXY sent", version.to_string()));
    }
    if let Some(most) = service.max_udp_sessions {
        lines.push(("UDP", format!("at most {} associations", grouped(most))));
    }
    lines
}

fn rule_details(config: &Config, rule: &Rule) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut list = |key, texts: Vec<String>| {
        if !texts.is_empty() {
            lines.push((key, texts.join(", ")));
        }
    };
    list("listeners", texts(&rule.listeners));
    list("transport", texts(rule.transport.as_slice()));
    list("not from", origins(&rule.not_from));
    list("client port", rule.client_port.iter().map(ports_text).collect());
    list("server name", texts(&rule.server_name));
    let needs = needs_text(config, rule);
    if !needs.is_empty() {
        let unknown = match config.needs(rule).own_names {
            true => format!("; unknown: {}", rule.unknown_name),
            false => String::new(),
        };
        lines.push(("needs", needs.join(", ") + &unknown));
    }
    if rule.refuse != Refuse::default() {
        lines.push(("refuses by", rule.refuse.to_string()));
    }
    for (index, limit) in rule.limits.iter().enumerate() {
        lines.push((if index == 0 { "limits per" } else { "" }, limit.to_string()));
    }
    if let Action::Pass(pass) = &rule.action {
        pass_details(config, pass, &mut lines);
    }
    lines
}

fn pass_details(config: &Config, pass: &Pass, lines: &mut Vec<(&'static str, String)>) {
    if let Some(source) = pass.source {
        lines.push(("source", source.to_string()));
    }
    if let Some(word) = proxy_word(pass.proxy_send) {
        lines.push(("PROXY sent", word));
    }
    if pass.udp_replies != UdpReplies::default() {
        lines.push(("UDP replies", format!("from {}", pass.udp_replies)));
    }
    if let Some(ratio) = pass.udp_reply_ratio {
        let text = format!("{ratio} bytes for each, until the client proves itself");
        lines.push(("UDP replies", text));
    }
    if pass.timeouts != config.timeouts {
        lines.push(("timeouts", timeouts_text(&pass.timeouts)));
    }
}

/// A rule's word about PROXY headers, if it has one.
pub(super) fn proxy_word(send: ProxySend) -> Option<String> {
    match send {
        ProxySend::AsService => None,
        ProxySend::Off => Some("off".to_owned()),
        ProxySend::On(version @ (ProxyVersion::V1 | ProxyVersion::V2)) => Some(version.to_string()),
    }
}

/// What a rule waits for or follows.
fn needs_text(config: &Config, rule: &Rule) -> Vec<String> {
    let needs = config.needs(rule);
    let mut texts = Vec::new();
    if needs.reverse_name {
        let most = show_duration(config.timeouts.resolve);
        texts.push(format!("the client's name by PTR (waits at most {most})"));
    }
    if needs.server_name {
        let preread = match &rule.action {
            Action::Pass(pass) => pass.timeouts.preread,
            Action::Block => config.timeouts.preread,
        };
        let most = show_duration(preread);
        texts.push(format!("the server's name by TLS or HTTP (waits at most {most})"));
    }
    let followed = needs.names.iter().map(|name| format!("the addresses of {name} (followed)"));
    let interfaces = needs.interfaces.iter().map(|name| format!("those of interface {name}"));
    texts.extend(followed.chain(interfaces));
    texts
}

/// Lists of different lengths side by side, the names on the first row only.
fn side_by_side(columns: &[Vec<String>]) -> Vec<Vec<String>> {
    let rows = columns.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |column: &Vec<String>, row: usize| column.get(row).cloned().unwrap_or_default();
    (0..rows).map(|row| columns.iter().map(|column| cell(column, row)).collect()).collect()
}

fn service_rows(service: &Service) -> Vec<Vec<String>> {
    let listeners = [texts(&service.listeners), texts(&service.interfaces)].concat();
    side_by_side(&[
        vec![service.name.to_string()],
        listeners,
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
        or_one(origins(&rule.from), "everyone"),
        vec![verdict.to_owned()],
        targets,
        vec![rule.customer.as_ref().map_or("-".to_owned(), ToString::to_string)],
        vec![capture],
        vec![log_text(rule.log)],
    ])
}

/// Origins as the file has them; of a file also how much it holds.
fn origins(origins: &[Origin]) -> Vec<String> {
    let text = |origin: &Origin| match origin {
        Origin::File(file) => {
            format!("{origin} ({} networks)", grouped(file.networks.len() as u64))
        }
        _ => origin.to_string(),
    };
    origins.iter().map(text).collect()
}

/// A range of ports as the file has it.
pub(super) fn ports_text(ports: &std::ops::RangeInclusive<u16>) -> String {
    match (ports.start(), ports.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }
}

/// What is kept, and at what price when that is not the usual one.
fn capture_text(pass: &Pass) -> String {
    match (pass.capture, pass.capture_when_behind) {
        (CaptureMode::Off, _) | (_, WhenBehind::Drop) => pass.capture.to_string(),
        (_, WhenBehind::Slow) => format!("{}, slow when behind", pass.capture),
    }
}

/// Everything in a list as it shows itself.
pub(super) fn texts<T: ToString>(list: &[T]) -> Vec<String> {
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
