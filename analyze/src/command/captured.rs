//! What the tables say of one session's capture.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use schemas::vocab::SessionId;

use super::session::{no_such_session, parse};
use crate::cell::Cell;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::failure::Failure;
use crate::pcap::{self, Captured, Extent, Output, PcapError};
use crate::report::Sink;
use crate::report::unit::counted;

/// Writes the packets, or the payload, of the session that was typed.
///
/// # Errors
/// 64 for what is no session, 66 when there is none, it was not captured, or the recorder still
/// writes the file of what is wanted; 74 when its files are damaged or the output cannot be written.
pub(super) fn write(
    session: &str,
    data: &Path,
    output: Output,
    mut sink: Sink,
) -> Result<(), Failure> {
    let Found { captured, pending } = find(session, data)?;
    if pending > 0 {
        // Packets with an end missing are of use, and said to be so; payload is whole or is not.
        let rest = the_rest(captured.session, pending);
        if captured.extents.is_empty() || matches!(output, Output::Payload(_)) {
            return Err(Failure::NoData(rest));
        }
        eprintln!("analyze: {rest}");
    }
    let name = sink.name();
    pcap::export(data, &captured, output, &mut sink).map_err(|error| explain(error, &name))?;
    sink.complete()
}

/// What the tables say.
struct Found {
    captured: Captured,
    /// Payload that the forwarder handed over and the index does not know, in bytes.
    pending: i128,
}

/// A file gets into the index when it is closed, minutes after the session has ended.
fn the_rest(session: SessionId, pending: i128) -> String {
    format!(
        "{} of the payload of session {session} are not in the index of captures: the recorder has not closed \
         their file yet (type `recorder flush` and ask again), or they were lost on their way to it: it was \
         away when forwarder or recorder ended",
        counted(pending, "byte")
    )
}

/// Asks the tables for the session that was typed.
fn find(session: &str, data: &Path) -> Result<Found, Failure> {
    let id = parse(session)?;
    let dataset = Dataset::open(data)?;
    let database = Database::open(&dataset, &["sessions", "usage", "captures"].map(Wanted::all))?;
    let of = format!("boot = '{}' AND session_no = {}", id.boot, id.number);
    let row = database.query(
        "look for the session",
        &format!(
            "SELECT transport, client_ip, client_port, listen_ip, listen_port, captured_bytes
             FROM sessions WHERE {of} LIMIT 1"
        ),
    )?;
    let Some(row) = row.cells().next() else {
        let usage = database
            .query("look for the session", &format!("SELECT 1 FROM usage WHERE {of} LIMIT 1"))?;
        return Err(match usage.rows() {
            0 => no_such_session(id, data),
            _ => Failure::NoData(format!(
                "session {id} has not ended: its packets can be copied once its row is published"
            )),
        });
    };
    let strange = || Failure::Io(format!("the row of session {id} names addresses that are none"));
    let [Cell::Text(transport), client_ip, client_port, listen_ip, listen_port, Cell::Int(handed)] =
        &row[..]
    else {
        return Err(strange());
    };
    let extents = database.query(
        "look for the session's captures",
        &format!(
            "SELECT DISTINCT ON (extent)
                 file, offset_first, offset_last, captured_bytes + dropped_bytes
             FROM captures WHERE {of} ORDER BY extent"
        ),
    )?;
    let indexed: i128 = extents.cells().map(|row| bytes(&row[3])).sum();
    let captured = Captured {
        session: id,
        transport: transport.parse().map_err(|_| strange())?,
        client: address(client_ip, client_port).ok_or_else(strange)?,
        listen: address(listen_ip, listen_port).ok_or_else(strange)?,
        extents: extents.cells().filter_map(|row| extent(&row, &dataset)).collect(),
    };
    Ok(Found { captured, pending: handed - indexed })
}

fn address(ip: &Cell<'_>, port: &Cell<'_>) -> Option<SocketAddr> {
    let (Cell::Text(ip), Cell::Int(port)) = (ip, port) else { return None };
    Some(SocketAddr::new(ip.parse::<IpAddr>().ok()?, u16::try_from(*port).ok()?))
}

fn bytes(cell: &Cell<'_>) -> i128 {
    if let Cell::Int(bytes) = cell { *bytes } else { 0 }
}

/// An extent whose file lies in the data directory.
fn extent(row: &[Cell<'_>], dataset: &Dataset) -> Option<Extent> {
    let [Cell::Text(file), Cell::Int(first), Cell::Int(last), ..] = row else { return None };
    dataset.file(file)?;
    Some(Extent {
        file: PathBuf::from(file.as_ref()),
        offset_first: u64::try_from(*first).ok()?,
        offset_last: u64::try_from(*last).ok()?,
    })
}

fn explain(error: PcapError, destination: &str) -> Failure {
    match error {
        PcapError::NotCaptured(_) | PcapError::Gone(_) => Failure::NoData(error.to_string()),
        PcapError::Read { path, error } => Failure::file("read capture", &path, &error),
        PcapError::Damaged { .. } | PcapError::Incomplete { .. } => Failure::Io(error.to_string()),
        PcapError::Write(error) => Failure::writing(destination, &error),
    }
}
