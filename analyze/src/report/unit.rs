//! How figures read in tables: `1.21 GB`, `12,345`, `2 min 5 s`. Units are decimal.

use schemas::table::TABLES;

/// Columns of reports that count things and are in no table.
const COUNTS: [&str; 9] = [
    "clients",
    "allowed_later",
    "new_sessions",
    "denied",
    "failed",
    "refused",
    "timeouts",
    "unreachable",
    "resets",
];

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// A number that is a name: a port, a session number.
    Plain,
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Bits per second.
    BitsPerSecond,
    /// Microseconds.
    Microseconds,
    /// Seconds.
    Seconds,
    /// Hundredths.
    Percent,
}

impl Unit {
    /// The unit of a column, by the reference of the tables or by its ending.
    pub fn of(column: &str) -> Self {
        if column.ends_with("_bps") {
            return Self::BitsPerSecond;
        }
        if column.ends_with("_percent") {
            return Self::Percent;
        }
        if column.ends_with("_bytes") {
            return Self::Bytes;
        }
        let counts = ["sessions", "slots_", "rows_", "seq_missing"];
        if COUNTS.contains(&column) || counts.iter().any(|of| column.starts_with(of)) {
            return Self::Count;
        }
        let column = column.strip_prefix("previous_").unwrap_or(column);
        let known = TABLES.iter().flat_map(|table| table.columns).find(|c| c.name == column);
        match known.map_or("", |column| column.unit) {
            "" if column.starts_with("bytes_") => Self::Bytes,
            "" if column.ends_with("_us") => Self::Microseconds,
            "" => Self::Plain,
            "bytes" => Self::Bytes,
            "us" => Self::Microseconds,
            "s" => Self::Seconds,
            _ => Self::Count,
        }
    }

    /// The integer for people.
    pub fn show(self, value: i128) -> String {
        match self {
            Self::Plain => value.to_string(),
            Self::Count => thousands(value),
            Self::Bytes => scaled(value, "B"),
            Self::BitsPerSecond => scaled(value, "bit/s"),
            Self::Microseconds => duration(value),
            Self::Seconds => format!("{} s", thousands(value)),
            Self::Percent => format!("{value} %"),
        }
    }
}

/// `1,234,567`.
pub fn thousands(value: i128) -> String {
    let digits = value.unsigned_abs().to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3 + 1);
    if value < 0 {
        text.push('-');
    }
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 row`, `1,234 rows`.
pub fn counted(count: i128, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} {thing}{plural}", thousands(count))
}

/// Three digits that mean something, cut rather than rounded, so that no figure shows more than
/// there was: `999 B`, `1.21 GB`, `34.5 MB`.
fn scaled(value: i128, unit: &str) -> String {
    let size = value.unsigned_abs();
    let sign = if value < 0 { "-" } else { "" };
    if size < 1000 {
        return format!("{sign}{size} {unit}");
    }
    let mut scale: u128 = 1000;
    let mut prefix = 'k';
    for next in ['M', 'G', 'T', 'P', 'E'] {
        if size / scale < 1000 {
            break;
        }
        scale *= 1000;
        prefix = next;
    }
    let whole = size / scale;
    let decimals: usize = match whole {
        0..10 => 2,
        10..100 => 1,
        _ => 0,
    };
    let fraction = format!("{:03}", size % scale / (scale / 1000));
    let point = if decimals > 0 { "." } else { "" };
    format!("{sign}{whole}{point}{} {prefix}{unit}", &fraction[..decimals])
}

/// `85 us`, `12.3 ms`, `4.05 s`, `2 min 5 s`, `3 h 4 min`, `2 d 1 h`.
fn duration(us: i128) -> String {
    let seconds = us / 1_000_000;
    match us {
        ..0 => format!("{} us", thousands(us)),
        0..1000 => format!("{us} us"),
        1000..1_000_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        1_000_000..60_000_000 => format!("{seconds}.{:02} s", us % 1_000_000 / 10_000),
        60_000_000..3_600_000_000 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600_000_000..86_400_000_000 => {
            format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
        }
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well_and_never_show_more_than_there_was() {
        let cases = [
            (Unit::Bytes, 0, "0 B"),
            (Unit::Bytes, 999, "999 B"),
            (Unit::Bytes, 1000, "1.00 kB"),
            (Unit::Bytes, 999_999, "999 kB"),
            (Unit::Bytes, 1_219_999_999, "1.21 GB"),
            (Unit::Bytes, 34_560_000, "34.5 MB"),
            (Unit::Bytes, -1500, "-1.50 kB"),
            (Unit::Bytes, i128::from(i64::MAX), "9.22 EB"),
            (Unit::BitsPerSecond, 12_000_000, "12.0 Mbit/s"),
            (Unit::Count, 1_234_567, "1,234,567"),
            (Unit::Count, -1234, "-1,234"),
            (Unit::Count, 123, "123"),
            (Unit::Plain, 65535, "65535"),
            (Unit::Microseconds, 85, "85 us"),
            (Unit::Microseconds, 12_345, "12.3 ms"),
            (Unit::Microseconds, 4_056_000, "4.05 s"),
            (Unit::Microseconds, 125_000_000, "2 min 5 s"),
            (Unit::Microseconds, 11_040_000_000, "3 h 4 min"),
            (Unit::Microseconds, 176_400_000_000, "2 d 1 h"),
            (Unit::Seconds, 300, "300 s"),
        ];
        for (unit, value, expected) in cases {
            assert_eq!(unit.show(value), expected);
        }
    }

    #[test]
    fn a_column_has_the_unit_that_the_reference_gives_it() {
        let cases = [
            ("bytes_up", Unit::Bytes),
            ("datagrams_down", Unit::Count),
            ("duration_us", Unit::Microseconds),
            ("client_port", Unit::Plain),
            ("session_no", Unit::Plain),
            ("count", Unit::Count),
            ("sessions", Unit::Count),
            ("peak_bps", Unit::BitsPerSecond),
            ("share_percent", Unit::Percent),
            ("slots_missing", Unit::Count),
            ("spool_peak_bytes", Unit::Bytes),
            ("previous_bytes_up", Unit::Bytes),
            ("bytes_p50", Unit::Bytes),
            ("connect_p50_us", Unit::Microseconds),
        ];
        for (column, unit) in cases {
            assert_eq!(Unit::of(column), unit, "{column}");
        }
    }
}
