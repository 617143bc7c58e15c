//! UDP clients that keep a window of datagrams under way.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::net::sockopt;

use super::{PATIENCE, Seen, nanoseconds};

const CLIENTS: u32 = 16;
const SIZE: usize = 200;
const BUFFER: usize = 1 << 20;
/// After this much silence what is under way is taken for lost.
const SILENCE: Duration = Duration::from_millis(100);
/// The silence in which a relay gave no single echo, and the test fails.
const MOST_SILENCES: u32 = 20;

struct Client {
    socket: UdpSocket,
    /// Number of the next datagram to send, and of the next echo to come.
    next: u64,
    expected: u64,
    /// The datagram whose latency is being taken, and when it was sent.
    timed: Option<(u64, Instant)>,
}

/// Keeps `window` datagrams under way from each client for a while, once a first one has come back.
///
/// # Errors
/// A socket breaks, or no echo comes at all.
pub(in super::super) fn run(to: SocketAddr, window: u64, during: Duration) -> io::Result<Seen> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        sockopt::set_socket_recv_buffer_size_force(&socket, BUFFER)?;
        epoll::add(&epoll, &socket, EventData::new_u64(number.into()), EventFlags::IN)?;
        clients.push(Client { socket, next: 0, expected: 0, timed: None });
    }
    first_echo(to)?;
    let mut seen = Seen::default();
    let started = Instant::now();
    for client in &mut clients {
        client.fill(window)?;
    }
    let silence = Timespec::try_from(SILENCE).map_err(io::Error::other)?;
    let mut silences = 0;
    let mut events = Vec::with_capacity(64);
    loop {
        let over = started.elapsed() >= during;
        if over && clients.iter().all(|client| client.expected == client.next) {
            break;
        }
        epoll::wait(&epoll, spare_capacity(&mut events), Some(&silence))?;
        if events.is_empty() {
            if over {
                break;
            }
            silences += 1;
            if silences == MOST_SILENCES {
                return Err(io::Error::other("no echo came"));
            }
            for client in &mut clients {
                client.expected = client.next;
                client.fill(window)?;
            }
        }
        for event in events.drain(..) {
            let number = usize::try_from(event.data.u64()).ok();
            let Some(client) = number.and_then(|number| clients.get_mut(number)) else { continue };
            silences = 0;
            client.drain(&mut seen)?;
            if !over {
                client.fill(window)?;
            }
        }
    }
    // The last silence is ours, not the relay's.
    seen.took = started.elapsed().min(during + Duration::from_millis(5));
    seen.sent = clients.iter().map(|client| client.next).sum();
    if seen.turns == 0 {
        return Err(io::Error::other(format!("none of {} datagrams came back", seen.sent)));
    }
    Ok(seen)
}

/// Waits until the relay echoes, on a socket whose late echoes confuse nobody.
fn first_echo(to: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let started = Instant::now();
    let mut last = None;
    while started.elapsed() < PATIENCE {
        socket.send(&[0x57; SIZE])?;
        match socket.recv(&mut [0; SIZE]) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
    }
    let last = last.map_or_else(String::new, |error| format!(": {error}"));
    Err(io::Error::other(format!("no echo came from {to} in {} s{last}", PATIENCE.as_secs())))
}

impl Client {
    /// Sends until `window` are under way.
    fn fill(&mut self, window: u64) -> io::Result<()> {
        let mut datagram = [0x57; SIZE];
        while self.next < self.expected + window {
            if let Some(number) = datagram.first_chunk_mut() {
                *number = self.next.to_be_bytes();
            }
            match self.socket.send(&datagram) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
            if self.timed.is_none_or(|(number, _)| number < self.expected) {
                self.timed = Some((self.next, Instant::now()));
            }
            self.next += 1;
        }
        Ok(())
    }

    /// Takes the echos that are there. They come in order, so a gap is a loss.
    fn drain(&mut self, seen: &mut Seen) -> io::Result<()> {
        let mut echo = [0; SIZE + 1];
        loop {
            let len = match self.socket.recv(&mut echo) {
                Ok(len) => len,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let Some(number) = echo[..len].first_chunk() else {
                return Err(io::Error::other(format!("an echo of {len} bytes")));
            };
            if len != SIZE {
                return Err(io::Error::other(format!("an echo of {len} bytes, sent were {SIZE}")));
            }
            let number = u64::from_be_bytes(*number);
            seen.turns += 1;
            if let Some((_, sent)) = self.timed.filter(|(timed, _)| *timed == number) {
                seen.latencies.push(nanoseconds(sent.elapsed()));
            }
            self.expected = self.expected.max(number + 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_that_echoes_nothing_is_an_error() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = silent.local_addr().unwrap();
        let echoed_once = std::thread::spawn(move || {
            silent.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut datagram = [0; SIZE];
            let (len, client) = silent.recv_from(&mut datagram).unwrap();
            silent.send_to(&datagram[..len], client).unwrap();
            silent
        });
        let error = run(to, 1, Duration::from_millis(10)).unwrap_err();
        drop(echoed_once.join().unwrap());
        assert!(error.to_string().ends_with("datagrams came back"), "{error}");
    }
}
