//! A target that the test itself plays, one connection after the other.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use crate::wait::DEADLINE;

/// Connections that may wait to be accepted. With the 128 of the standard library a burst of
/// sessions overflows the queue whenever the accepting side does not run for a moment: their SYNs
/// are dropped, and what the test sees is the kernel's retransmissions.
const BACKLOG: i32 = 4096;

/// A listening socket of which every wait has a deadline.
#[derive(Debug)]
pub struct Target {
    listener: TcpListener,
    address: SocketAddr,
}

impl Target {
    /// Listens on a free port of `ip`.
    ///
    /// # Panics
    /// It cannot.
    pub fn start(ip: IpAddr) -> Self {
        let listening = || {
            let listener = listen(ip)?;
            // Readable is no promise: the client may have gone again before accept(2).
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok::<_, io::Error>(Self { listener, address })
        };
        listening().unwrap_or_else(|error| panic!("cannot listen on a port of {ip}: {error}"))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, on which every read and write has a deadline. `None`: nobody came in
    /// time.
    ///
    /// # Panics
    /// No descriptor is free.
    pub fn next(&self) -> Option<TcpStream> {
        let within = Timespec::try_from(DEADLINE).expect("a minute fits");
        loop {
            let mut waiting = [PollFd::new(&self.listener, PollFlags::IN)];
            if poll(&mut waiting, Some(&within)).expect("one descriptor can be polled") == 0 {
                return None;
            }
            match self.listener.accept() {
                Ok((stream, _)) => return Some(blocking(stream)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => panic!("cannot accept on {}: {error}", self.address),
            }
        }
    }

    /// The next connection, on which every read and write has a deadline.
    ///
    /// # Panics
    /// Nobody came in time.
    #[track_caller]
    pub fn accept(&self) -> TcpStream {
        self.next().unwrap_or_else(|| {
            panic!("nobody connected to {} in {} s", self.address, DEADLINE.as_secs())
        })
    }
}

/// Listens on a free port of `ip` with room for a burst of clients.
pub(super) fn listen(ip: IpAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address((ip, 0).into()), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(ip, 0).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn blocking(stream: TcpStream) -> TcpStream {
    let set = || {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))
    };
    set().expect("a connected socket takes its options");
    stream
}
