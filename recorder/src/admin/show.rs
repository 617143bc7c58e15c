//! Answers as people read them.

use std::fmt;

use jiff::Timestamp;

use super::{Answer, Status};
use crate::upkeep::UpkeepStatus;

/// The answer as text for people; `json`: the answer's content as one JSON object.
pub fn show(answer: &Answer, json: bool) -> String {
    if json {
        let text = match answer {
            Answer::Status(status) => serde_json::to_string(status),
            Answer::Flush(flushed) => serde_json::to_string(flushed),
            Answer::Error(complaint) => serde_json::to_string(complaint),
        };
        return text.expect("an answer is numbers, texts and lists") + "\n";
    }
    match answer {
        Answer::Status(status) => StatusText(status).to_string(),
        Answer::Flush(flushed) => {
            format!("published {} rows in {} parts\n", flushed.rows, flushed.parts)
        }
        Answer::Error(complaint) => format!("{}\n", complaint.message),
    }
}

struct StatusText<'s>(&'s Status);

impl fmt::Display for StatusText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = self.0;
        let uptime = Duration(s.uptime_s);
        writeln!(f, "recorder       {}, process {}, running for {uptime}", s.version, s.pid)?;
        writeln!(f, "configuration  {}", s.config_file)?;
        writeln!(f, "data           {}, manifest version {}", s.data, s.publish.manifest_version)?;
        let (frames, bytes) = (s.log.unpublished_frames, size(s.log.bytes));
        writeln!(f, "log            {frames} frames to be published, {bytes} on disk")?;
        writeln!(f, "published      {}", last_published(s))?;
        if let Some(error) = &s.publish.error {
            writeln!(f, "TROUBLE        {error} (failed {} times)", s.publish.failures)?;
        }
        if s.publish.undecodable > 0 {
            writeln!(f, "TROUBLE        {} frames could not be read", s.publish.undecodable)?;
        }
        upkeep(f, &s.upkeep)?;
        let r = s.received;
        writeln!(
            f,
            "received       {} frames, {}; {} duplicate frames, {} duplicate rows left out",
            r.frames,
            size(r.bytes),
            r.duplicates,
            s.publish.duplicates
        )?;
        let c = s.capture;
        writeln!(
            f,
            "capture        {} sessions open, {} files closed, {} packets, {} lost",
            c.sessions_open,
            c.files,
            c.packets,
            size(c.dropped_bytes)
        )?;
        if c.write_errors > 0 {
            writeln!(f, "TROUBLE        {} writes of captures failed", c.write_errors)?;
        }
        if s.log_lines_dropped > 0 {
            let lines = s.log_lines_dropped;
            writeln!(
                f,
                "TROUBLE        {lines} log lines were dropped: standard error is not read"
            )?;
        }
        connections(f, s)?;
        tables(f, s)
    }
}

fn last_published(status: &Status) -> String {
    let time = status.publish.last_published_us.map(Timestamp::from_microsecond);
    match time {
        Some(Ok(time)) => format!("{time:.0}"),
        _ => "nothing since the start".to_owned(),
    }
}

fn upkeep(f: &mut fmt::Formatter<'_>, u: &UpkeepStatus) -> fmt::Result {
    let last = u.compaction_last_us.map(Timestamp::from_microsecond);
    match last {
        Some(Ok(last)) => {
            let (parts, made, rows) = (u.merged_parts, u.made_parts, grouped(u.merged_rows));
            writeln!(f, "compacted      {last:.0}; {parts} parts became {made}, {rows} rows")?;
        }
        _ => writeln!(f, "compacted      nothing since the start")?,
    }
    if u.retired_rows > 0 {
        let (rows, parts) = (grouped(u.retired_rows), u.retired_parts);
        writeln!(f, "retention      {rows} rows in {parts} parts were past their age")?;
    }
    if u.replaced_files > 0 {
        let (files, bytes) = (u.replaced_files, size(u.replaced_bytes));
        writeln!(f, "replaced       {files} files, {bytes}, to be deleted within an hour")?;
    }
    if let Some(error) = &u.compaction_error {
        writeln!(f, "TROUBLE        {error} (failed {} times)", u.compaction_failures)?;
    }
    if u.left_alone > 0 {
        writeln!(f, "TROUBLE        {} parts cannot be compacted; see the log", u.left_alone)?;
    }
    if u.retention_paused {
        writeln!(f, "TROUBLE        retention pauses: the clock is not believed")?;
    }
    if u.retention_failures > 0 {
        writeln!(f, "TROUBLE        {} removals of old rows failed", u.retention_failures)?;
    }
    Ok(())
}

fn connections(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    if status.connections.is_empty() {
        let refused = status.received.refused;
        return writeln!(f, "connected      nobody ({refused} refused since the start)");
    }
    for c in &status.connections {
        let spool = c.spool.as_ref().map(|spool| format!(", spool {spool}")).unwrap_or_default();
        let (node, boot, lane, age) = (&c.node, &c.boot, &c.lane, Duration(c.seconds));
        writeln!(f, "connected      {node}, boot {boot}, {lane} lane for {age}{spool}")?;
    }
    Ok(())
}

fn tables(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    if status.publish.tables.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n{:<8} {:>9} {:>17} {:>9}", "table", "parts", "rows", "size")?;
    for (name, t) in &status.publish.tables {
        let (parts, rows) = (grouped(t.parts), grouped(t.rows));
        writeln!(f, "{name:<8} {parts:>9} {rows:>17} {:>9}", size(t.bytes))?;
    }
    Ok(())
}

/// A size with three digits that mean something, cut and not rounded.
fn size(bytes: u64) -> String {
    let units = [("TB", 4), ("GB", 3), ("MB", 2), ("kB", 1)];
    let Some((unit, power)) = units.into_iter().find(|(_, power)| bytes >= 1000_u64.pow(*power))
    else {
        return format!("{bytes} B");
    };
    let hundredths = bytes / (1000_u64.pow(power) / 100);
    match hundredths / 100 {
        whole @ 0..10 => format!("{whole}.{:02} {unit}", hundredths % 100),
        whole @ 10..100 => format!("{whole}.{} {unit}", hundredths % 100 / 10),
        whole => format!("{} {unit}", grouped(whole)),
    }
}

/// A number with a comma between every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Seconds as `2d 3h`, `3h 4m`, `4m 5s` or `5s`.
struct Duration(u64);

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (days, hours) = (self.0 / 86_400, self.0 / 3600 % 24);
        let (minutes, seconds) = (self.0 / 60 % 60, self.0 % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => write!(f, "{seconds}s"),
            (0, 0, _) => write!(f, "{minutes}m {seconds}s"),
            (0, _, _) => write!(f, "{hours}h {minutes}m"),
            _ => write!(f, "{days}d {hours}h"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CaptureStatus, Connection, Flushed, LogStatus, Received};
    use super::*;
    use crate::manifest::Totals;
    use crate::publish::PublishStatus;

    fn status() -> Status {
        let connection = |lane: &str, spool: Option<&str>| Connection {
            node: "edge-1".into(),
            boot: "k3f9x2ab".into(),
            lane: lane.into(),
            spool: spool.map(str::to_owned),
            seconds: 65,
        };
        let usage = Totals { parts: 12, rows: 1_234_567, bytes: 45_678_901 };
        Status {
            version: "0.1.0".into(),
            pid: 42,
            uptime_s: 90_061,
            config_file: "/etc/weir/recorder.toml".into(),
            data: "/var/lib/weir".into(),
            publish: PublishStatus {
                manifest_version: 7,
                log_through: 99,
                last_published_us: Some(1_793_491_199_000_000),
                error: Some("cannot write x: no space left on device".into()),
                failures: 3,
                duplicates: 4,
                undecodable: 1,
                tables: [("usage".to_owned(), usage)].into(),
            },
            upkeep: UpkeepStatus {
                compaction_last_us: Some(1_793_491_199_000_000),
                compactions: 9,
                merged_parts: 720,
                made_parts: 9,
                merged_rows: 1_234_567,
                compaction_failures: 2,
                compaction_error: Some("cannot write y: input/output error".into()),
                left_alone: 1,
                retired_parts: 3,
                retired_rows: 45_000,
                retention_failures: 1,
                retention_paused: true,
                replaced_files: 720,
                replaced_bytes: 98_765_432,
            },
            log: LogStatus { unpublished_frames: 5, bytes: 1_500 },
            connections: vec![
                connection("accounting", Some("00000000000000ff")),
                connection("capture", None),
            ],
            received: Received { frames: 104, bytes: 999, duplicates: 2, ..Received::default() },
            capture: CaptureStatus {
                sessions_open: 1,
                write_errors: 2,
                ..CaptureStatus::default()
            },
            log_lines_dropped: 12,
        }
    }

    #[test]
    fn a_status_reads_well() {
        insta::assert_snapshot!(show(&Answer::Status(Box::new(status())), false));
    }

    #[test]
    fn a_quiet_recorder_reads_well() {
        let quiet = Status {
            publish: PublishStatus::default(),
            upkeep: UpkeepStatus::default(),
            connections: Vec::new(),
            capture: CaptureStatus::default(),
            log_lines_dropped: 0,
            ..status()
        };
        insta::assert_snapshot!(show(&Answer::Status(Box::new(quiet)), false));
    }

    #[test]
    fn json_is_one_line_of_the_content() {
        let flushed = Answer::Flush(Flushed { parts: 3, rows: 1042 });
        assert_eq!(show(&flushed, true), "{\"parts\":3,\"rows\":1042}\n");
        assert_eq!(show(&flushed, false), "published 1042 rows in 3 parts\n");
        let text = show(&Answer::Status(Box::new(status())), true);
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status());
    }
}
