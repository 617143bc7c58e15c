//! Requests and responses of 64 bytes in sessions that stay.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{PATIENCE, Seen, nanoseconds};

const MESSAGE: usize = 64;

/// Keeps one request under way in each of `sessions` for a while.
///
/// # Errors
/// A session breaks, or a response does not come.
pub(in super::super) fn run(to: SocketAddr, sessions: u32, during: Duration) -> io::Result<Seen> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients = Vec::new();
    for number in 0..sessions {
        let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        epoll::add(&epoll, &stream, EventData::new_u64(number.into()), EventFlags::IN)?;
        clients.push((stream, Instant::now()));
    }
    let mut seen = Seen { sessions: sessions.into(), ..Seen::default() };
    let (request, mut response) = ([0x57; MESSAGE], [0; MESSAGE]);
    let started = Instant::now();
    for (stream, asked) in &mut clients {
        *asked = Instant::now();
        stream.write_all(&request)?;
    }
    let patience = Timespec::try_from(PATIENCE).map_err(io::Error::other)?;
    let (mut under_way, mut over) = (sessions, false);
    let mut events = Vec::with_capacity(64);
    while under_way > 0 {
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&patience))?;
        if events.is_empty() {
            return Err(io::Error::other("no response came"));
        }
        for event in events.drain(..) {
            let client = usize::try_from(event.data.u64()).ok();
            let Some((stream, asked)) = client.and_then(|client| clients.get_mut(client)) else {
                continue;
            };
            stream.read_exact(&mut response)?;
            let now = Instant::now();
            seen.turns += 1;
            seen.latencies.push(nanoseconds(now - *asked));
            over = over || now - started >= during;
            if over {
                under_way -= 1;
                // Nothing more comes, and its end is ours.
                epoll::delete(&epoll, &*stream)?;
                continue;
            }
            *asked = now;
            stream.write_all(&request)?;
        }
    }
    seen.took = started.elapsed();
    seen.up = seen.turns * MESSAGE as u64;
    seen.down = seen.up;
    Ok(seen)
}
