//! The targets: what they cost is taken from the relay on a small machine, so they do little. What
//! comes in is thrown away in the kernel, and one thread echoes for everybody.

use std::io::{self, Write};
use std::net::{Shutdown, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, accept_with, recv, send, sockopt};
use socket2::{Domain, Socket, Type};

use super::load::{PATIENCE, discard};
use super::ports::Service;

/// Fits into the cache of one core, so that writing it again costs no more than the copy.
pub(super) const CHUNK: usize = 256 << 10;
/// More than any test connects at once.
const BACKLOG: i32 = 4096;
/// As many datagrams as all clients may have under way, and more.
const DATAGRAM_BUFFER: usize = 8 << 20;

/// What the targets share with the load.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// Bytes that sinks took.
    pub(super) sunk: AtomicU64,
    /// Bytes that sources gave.
    pub(super) given: AtomicU64,
    /// Whether sources go on.
    pub(super) giving: AtomicBool,
}

impl Targets {
    /// Starts all of them; they go on until the process ends.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let targets = Arc::new(Self::default());
        let sink = listener(Service::Sink)?;
        let own = Arc::clone(&targets);
        thread::spawn(move || own.serve(&sink, Self::sink));
        let source = listener(Service::Source)?;
        let own = Arc::clone(&targets);
        thread::spawn(move || own.serve(&source, Self::give));
        let echo = listener(Service::Echo)?;
        thread::spawn(move || echo_streams(&echo));
        let datagrams = UdpSocket::bind(Service::UdpEcho.target())?;
        sockopt::set_socket_recv_buffer_size_force(&datagrams, DATAGRAM_BUFFER)?;
        thread::spawn(move || echo_datagrams(&datagrams));
        Ok(targets)
    }

    fn serve(
        self: &Arc<Self>,
        listener: &TcpListener,
        carry: fn(&Self, &TcpStream) -> io::Result<()>,
    ) {
        while let Ok((stream, _)) = listener.accept() {
            let own = Arc::clone(self);
            // Whatever is missing at the end, the load finds out by counting.
            thread::spawn(move || drop(carry(&own, &stream)));
        }
    }

    fn sink(&self, stream: &TcpStream) -> io::Result<()> {
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut scratch = vec![0; 1 << 20];
        loop {
            match discard(stream, &mut scratch)? {
                0 => return Ok(()),
                taken => self.sunk.fetch_add(taken, Ordering::Relaxed),
            };
        }
    }

    fn give(&self, mut stream: &TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let chunk = vec![0x57; CHUNK];
        while self.giving.load(Ordering::Relaxed) {
            stream.write_all(&chunk)?;
            self.given.fetch_add(CHUNK as u64, Ordering::Relaxed);
        }
        stream.shutdown(Shutdown::Write)?;
        while discard(stream, &mut [0; 64])? > 0 {}
        Ok(())
    }
}

fn listener(service: Service) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.bind(&service.target().into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// One thread, level-triggered: each session is a slot whose number is its event's data.
fn echo_streams(listener: &TcpListener) -> io::Result<()> {
    const LISTENER: u64 = u64::MAX;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    let mut sessions: Vec<Option<OwnedFd>> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    let mut events = Vec::with_capacity(256);
    let mut buffer = vec![0; 16 << 10];
    loop {
        epoll::wait(&epoll, spare_capacity(&mut events), None)?;
        for event in events.drain(..) {
            let data = event.data.u64();
            if data == LISTENER {
                while let Ok(stream) =
                    accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
                {
                    let slot = free.pop().unwrap_or_else(|| {
                        sessions.push(None);
                        sessions.len() - 1
                    });
                    epoll::add(&epoll, &stream, EventData::new_u64(slot as u64), EventFlags::IN)?;
                    sessions[slot] = Some(stream);
                }
                continue;
            }
            let Ok(slot) = usize::try_from(data) else { continue };
            let Some(stream) = &sessions[slot] else { continue };
            let (taken, _) = recv(stream, &mut buffer, RecvFlags::empty()).unwrap_or_default();
            let echoed = match taken {
                0 => false,
                _ => send(stream, &buffer[..taken], SendFlags::NOSIGNAL).is_ok(),
            };
            if !echoed {
                // Closing takes it out of the epoll set.
                sessions[slot] = None;
                free.push(slot);
            }
        }
    }
}

fn echo_datagrams(socket: &UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (len, client) = match socket.recv_from(&mut buffer) {
            Ok(datagram) => datagram,
            // An earlier client has gone away, and its kernel said so.
            Err(error) if error.raw_os_error() == Some(Errno::CONNREFUSED.raw_os_error()) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        // A full queue is a lost datagram, which the client counts.
        drop(socket.send_to(&buffer[..len], client));
    }
}
