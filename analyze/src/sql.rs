//! Pieces of SQL. Every value from outside enters a query through one of these functions.

use crate::cli::Key;
use crate::failure::Failure;
use crate::period::Period;
use ipnet::IpNet;
use jiff::Timestamp;

/// A text literal.
pub fn text(value: &str) -> String {
    format!("'{}'", value.replace('\'', "''"))
}

/// A timestamp literal of microseconds since 1970 UTC.
pub fn time(us: i64) -> String {
    format!("make_timestamp({us})")
}

/// A quoted identifier.
pub fn name(identifier: &str) -> String {
    format!("\"{}\"", identifier.replace('"', "\"\""))
}

/// A comma-separated list of quoted identifiers.
pub fn names<'a>(identifiers: impl IntoIterator<Item = &'a str>) -> String {
    identifiers.into_iter().map(name).collect::<Vec<_>>().join(", ")
}

/// The beginning of DuckDB's reading of parts, whose paths are text literals; options may follow, and
/// a closing parenthesis. `date=` in a path is where a part lies, not a column of the table.
pub fn read_parquet(paths: &[String]) -> String {
    format!("read_parquet([{}], union_by_name = true, hive_partitioning = false", paths.join(", "))
}

/// All conditions together; none is `true`.
pub fn all(conditions: &[String]) -> String {
    if conditions.is_empty() { "true".to_owned() } else { conditions.join(" AND ") }
}

/// `column` is one of `values`; no value is no condition.
pub fn any_of(column: &str, values: &[String]) -> Option<String> {
    let list = values.iter().map(|value| text(value)).collect::<Vec<_>>().join(", ");
    (!values.is_empty()).then(|| format!("{column} IN ({list})"))
}

/// The address in `column` lies in one of `networks`; no network is no condition.
///
/// # Errors
/// 64 when one is neither an address nor a network.
pub fn in_networks(
    option: &str,
    column: &str,
    networks: &[String],
) -> Result<Option<String>, Failure> {
    let mut alternatives = Vec::new();
    for given in networks {
        let network = parse_network(given).ok_or_else(|| {
            Failure::Usage(format!(
                "{option} {given:?} is neither an address nor a network: write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/32"
            ))
        })?;
        alternatives.push(match network {
            // The text of a network of one family never equals that of the other.
            IpNet::V4(v4) if v4.prefix_len() < 32 => {
                let (bits, network) = (v4.prefix_len(), text(&v4.trunc().to_string()));
                format!("weir_network({column}, {bits}, 128) = {network}")
            }
            IpNet::V6(v6) if v6.prefix_len() < 128 => {
                let (bits, network) = (v6.prefix_len(), text(&v6.trunc().to_string()));
                format!("weir_network({column}, 32, {bits}) = {network}")
            }
            host => format!("{column} = {}", text(&host.addr().to_string())),
        });
    }
    Ok((!alternatives.is_empty()).then(|| format!("({})", alternatives.join(" OR "))))
}

fn parse_network(given: &str) -> Option<IpNet> {
    match given.parse::<std::net::IpAddr>() {
        Ok(address) => Some(IpNet::from(address.to_canonical())),
        Err(_) => given.parse().ok(),
    }
}

/// `column` lies in the period.
pub fn in_period(column: &str, period: &Period) -> Vec<String> {
    let since = period.since.map(|us| format!("{column} >= {}", time(us)));
    let until = period.until.map(|us| format!("{column} < {}", time(us)));
    since.into_iter().chain(until).collect()
}

/// The expression of a key over a table whose time is `column`, whose rows lie within `range`.
pub fn key(key: Key, column: &str, period: &Period, range: (i64, i64)) -> String {
    match key {
        Key::ClientNetwork { v4, v6 } => format!("weir_network(client_ip, {v4}, {v6})"),
        Key::Hour => {
            let (local, offset) = local_time(column, period, range);
            format!("strftime({local}, '%Y-%m-%dT%H:00') || {offset}")
        }
        // Half of what strftime takes.
        Key::Day => format!("{}::DATE::VARCHAR", local_time(column, period, range).0),
        Key::Month => format!("strftime({}, '%Y-%m')", local_time(column, period, range).0),
        Key::Service
        | Key::Rule
        | Key::Customer
        | Key::Client
        | Key::Target
        | Key::Node
        | Key::Transport
        | Key::Reason
        | Key::Limit => name(key.column()),
    }
}

/// A key that is a time, over `column`: an expression that is cheap to group by, and the key as
/// [`key`] shows it of a column that has the value of the first.
pub fn time_key(
    of: Key,
    column: &str,
    period: &Period,
    range: (i64, i64),
) -> Option<(String, String)> {
    let name = name(of.column());
    let local = |unit| format!("date_trunc('{unit}', {})", local_time(column, period, range).0);
    Some(match of {
        Key::Day => (local("day"), format!("strftime({name}, '%Y-%m-%d')")),
        Key::Month => (local("month"), format!("strftime({name}, '%Y-%m')")),
        Key::Hour => (key(of, column, period, range), name),
        Key::Service
        | Key::Rule
        | Key::Customer
        | Key::Client
        | Key::ClientNetwork { .. }
        | Key::Target
        | Key::Node
        | Key::Transport
        | Key::Reason
        | Key::Limit => return None,
    })
}

/// The time of `column` on the clock of the report's zone, and that clock's offset as text: one
/// step for each change of the clocks within `range`.
fn local_time(column: &str, period: &Period, (min, max): (i64, i64)) -> (String, String) {
    let instant = |us| Timestamp::from_microsecond(us).unwrap_or_default();
    let mut steps = Vec::new();
    let mut offset = period.zone.to_offset(instant(min));
    for change in period.zone.following(instant(min)) {
        if change.timestamp() > instant(max) {
            break;
        }
        steps.push((time(change.timestamp().as_microsecond()), offset));
        offset = change.offset();
    }
    let case = |show: &dyn Fn(jiff::tz::Offset) -> String| {
        let whens: String = steps
            .iter()
            .map(|(until, offset)| format!("WHEN {column} < {until} THEN {} ", show(*offset)))
            .collect();
        match steps.len() {
            0 => show(offset),
            _ => format!("CASE {whens}ELSE {} END", show(offset)),
        }
    };
    let seconds = case(&|offset| offset.seconds().to_string());
    let label = case(&|offset| text(&offset_label(offset.seconds())));
    (format!("({column} + to_seconds({seconds}))"), label)
}

/// `Z`, `+02:00`.
fn offset_label(seconds: i32) -> String {
    if seconds == 0 {
        return "Z".to_owned();
    }
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.abs() / 60;
    format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use schemas::exit::Exit;

    use super::*;

    #[test]
    fn a_quote_in_a_value_stays_in_the_value() {
        assert_eq!(text("o'; DROP TABLE x --"), "'o''; DROP TABLE x --'");
        assert_eq!(name("a\"b"), "\"a\"\"b\"");
    }

    #[test]
    fn networks_become_conditions_and_nonsense_does_not() {
        let given =
            ["10.1.2.3/8".to_owned(), "2001:db8::1".to_owned(), "::ffff:1.2.3.4".to_owned()];
        assert_eq!(
            in_networks("--client", "client_ip", &given).unwrap().unwrap(),
            "(weir_network(client_ip, 8, 128) = '10.0.0.0/8' OR client_ip = '2001:db8::1' OR client_ip = '1.2.3.4')"
        );
        let failure =
            in_networks("--client", "client_ip", &["10.0.0.0/33".to_owned()]).unwrap_err();
        assert_eq!(failure.exit(), Exit::Usage);
    }
}
