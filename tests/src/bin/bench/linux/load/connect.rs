//! Sessions that carry one byte each way.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{PATIENCE, Seen, nanoseconds};

/// Sessions at once.
const CLIENTS: u32 = 32;
/// Most of a run. Clients leave a port in TIME_WAIT each, and the kernel looks for a free one among
/// half of the 64,512 at a price that grows with those taken.
const MOST: u64 = 30_000;

/// Connects, says a byte, hears it, closes; from as many clients at once as [`CLIENTS`].
///
/// # Errors
/// A session breaks, or an echo does not come.
pub(in super::super) fn run(to: SocketAddr, during: Duration) -> io::Result<Seen> {
    up_to(to, during, MOST)
}

/// The same, ended by the number of sessions.
pub(in super::super) fn up_to(to: SocketAddr, during: Duration, most: u64) -> io::Result<Seen> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients: Vec<Option<(TcpStream, Instant)>> = Vec::new();
    let mut seen = Seen::default();
    let started = Instant::now();
    let begin = |number: u64, now: Instant| -> io::Result<_> {
        let mut stream = TcpStream::connect(to)?;
        epoll::add(&epoll, &stream, EventData::new_u64(number), EventFlags::IN)?;
        stream.write_all(&[0x57])?;
        Ok(Some((stream, now)))
    };
    for number in 0..u64::from(CLIENTS).min(most) {
        clients.push(begin(number, Instant::now())?);
        seen.sessions += 1;
    }
    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    let mut events = Vec::with_capacity(64);
    while seen.turns < seen.sessions {
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() {
            return Err(io::Error::other("no echo came"));
        }
        for event in events.drain(..) {
            let number = event.data.u64();
            let client = usize::try_from(number).ok().and_then(|slot| clients.get_mut(slot));
            let Some(client) = client else { continue };
            let Some((mut stream, begun)) = client.take() else { continue };
            stream.read_exact(&mut [0; 1])?;
            drop(stream);
            let now = Instant::now();
            seen.turns += 1;
            seen.latencies.push(nanoseconds(now - begun));
            if now - started < during && seen.sessions < most {
                *client = begin(number, now)?;
                seen.sessions += 1;
            }
        }
    }
    seen.took = started.elapsed();
    (seen.up, seen.down) = (seen.turns, seen.turns);
    Ok(seen)
}
