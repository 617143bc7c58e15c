//! Reading rows of a report, which are JSON objects.

use std::net::SocketAddr;

use serde_json::Value;

/// An integer column.
#[track_caller]
pub(crate) fn integer(row: &Value, column: &str) -> i64 {
    row[column].as_i64().unwrap_or_else(|| panic!("{column} is no integer in {row}"))
}

/// A text column.
#[track_caller]
pub(crate) fn text<'a>(row: &'a Value, column: &str) -> &'a str {
    row[column].as_str().unwrap_or_else(|| panic!("{column} is no text in {row}"))
}

/// The address of which `<end>_ip` and `<end>_port` are the columns.
#[track_caller]
pub(crate) fn address(row: &Value, end: &str) -> SocketAddr {
    let ip = text(row, &format!("{end}_ip")).parse().expect("an address");
    let port = u16::try_from(integer(row, &format!("{end}_port"))).expect("a port");
    SocketAddr::new(ip, port)
}
