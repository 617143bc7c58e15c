//! Sessions that are there and say nothing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::PATIENCE;

/// Opens `count` sessions, each of which carries one byte each way and then waits.
///
/// # Errors
/// A session breaks, or an echo does not come.
pub(in super::super) fn open(to: SocketAddr, count: u32) -> io::Result<Vec<TcpStream>> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[0x57])?;
        stream.read_exact(&mut [0; 1])?;
        clients.push(stream);
    }
    Ok(clients)
}
