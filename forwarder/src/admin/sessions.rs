//! What is asked and answered about running sessions.

use schemas::table;
use serde::{Deserialize, Serialize};

use super::place::Place;

/// Which of the running sessions are meant: those that meet every condition given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Filter {
    /// Of this service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Of this rule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// Of this customer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// Whose client, or the client it speaks for, is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<Place>,
    /// Whose target is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<Place>,
}

impl Filter {
    /// Whether every session meets it.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// Which sessions come first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The oldest.
    #[default]
    Age,
    /// Those that have been silent for longest.
    Idle,
    /// The fastest, both directions together, over the last second or more.
    Rate,
    /// Those that have delivered most, both directions together.
    Bytes,
}

/// Sessions that run now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sessions {
    /// How many meet the filter; more than are listed when the limit cut them.
    pub total: u64,
    /// Which of them come first.
    #[serde(default)]
    pub sort: Sort,
    /// The first of them in that order.
    pub list: Vec<SessionLine>,
}

/// A session that runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLine {
    /// `<boot>-<number>`.
    pub session: String,
    /// `tcp` or `udp`.
    pub transport: String,
    /// The service.
    pub service: String,
    /// The rule that let it pass.
    pub rule: String,
    /// Who is billed.
    pub customer: Option<String>,
    /// The socket peer.
    pub client: String,
    /// For whom the peer speaks, by its PROXY header.
    pub proxied_client: Option<String>,
    /// The local address it used.
    pub listen: String,
    /// Whom we dialled; `None`: nobody yet.
    pub target: Option<String>,
    /// Whether the target's connection stands.
    pub connected: bool,
    /// How long ago it began, in seconds.
    pub age_s: u64,
    /// How long ago payload moved last, in seconds.
    pub idle_s: u64,
    /// What makes it wait though payload is there: `capture` or `limit`.
    pub held_by: Option<String>,
    /// Payload delivered to the target so far, in bytes.
    pub bytes_up: u64,
    /// Payload delivered to the client so far, in bytes.
    pub bytes_down: u64,
    /// Delivered to the target lately, in bit/s; `None`: nobody has looked before.
    pub rate_up_bps: Option<u64>,
    /// Delivered to the client lately, in bit/s.
    pub rate_down_bps: Option<u64>,
}

/// Everything about one running session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionDetail {
    /// As it is listed.
    #[serde(flatten)]
    pub line: SessionLine,
    /// Revision of the configuration that it began under.
    pub config_rev: String,
    /// The address that we dialled from.
    pub egress: Option<String>,
    /// The target as the configuration names it, when it names a host.
    pub target_name: Option<String>,
    /// When it began, in microseconds since 1970.
    pub ts_start: i64,
    /// When the target's connection stood.
    pub ts_connected: Option<i64>,
    /// When the client's first payload came.
    pub ts_first_up: Option<i64>,
    /// When the target's first payload came.
    pub ts_first_down: Option<i64>,
    /// How long it took to connect, in microseconds.
    pub connect_us: Option<i64>,
    /// Payload received from the client, in bytes.
    pub received_up: i64,
    /// Payload received from the target, in bytes.
    pub received_down: i64,
    /// Datagrams delivered to the target.
    pub datagrams_up: i64,
    /// Datagrams delivered to the client.
    pub datagrams_down: i64,
    /// Payload handed to the capture, in bytes.
    pub captured_bytes: i64,
    /// Payload that the capture dropped, in bytes.
    pub capture_dropped_bytes: i64,
    /// What TCP knows of the client.
    pub client_tcp: Option<TcpSide>,
    /// What TCP knows of the target.
    pub target_tcp: Option<TcpSide>,
}

/// What TCP knows of one side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpSide {
    /// Smoothed round trip, in microseconds.
    pub rtt_us: u32,
    /// Segments sent again since the connection began.
    pub retransmits: u32,
    /// The congestion window, in segments.
    pub cwnd: u32,
    /// Most payload of a segment, in bytes.
    pub mss: u32,
    /// Payload that it sent and that we have not read yet, in bytes.
    pub unread_bytes: u64,
}

impl SessionDetail {
    /// What a session's row says beyond its line.
    pub fn of(line: SessionLine, row: table::Session) -> Self {
        let egress = row.egress_ip.zip(row.egress_port).map(|(ip, port)| match ip.contains(':') {
            true => format!("[{ip}]:{port}"),
            false => format!("{ip}:{port}"),
        });
        Self {
            line,
            config_rev: row.config_rev,
            egress,
            target_name: row.target_name,
            ts_start: row.ts_start,
            ts_connected: row.ts_connected,
            ts_first_up: row.ts_first_up,
            ts_first_down: row.ts_first_down,
            connect_us: row.connect_us,
            received_up: row.received_up,
            received_down: row.received_down,
            datagrams_up: row.datagrams_up,
            datagrams_down: row.datagrams_down,
            captured_bytes: row.captured_bytes,
            capture_dropped_bytes: row.capture_dropped_bytes,
            client_tcp: None,
            target_tcp: None,
        }
    }
}
