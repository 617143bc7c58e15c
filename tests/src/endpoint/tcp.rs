//! TCP: a client tells the server in the first 16 bytes how much will flow; then both directions
//! run at once, and both ends close by FIN.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use socket2::{Domain, Socket, Type};

use super::target::listen;
use super::{Seen, fill};
use crate::wait::{self, DEADLINE};

const CHUNK: usize = 64 << 10;
const HEADER: u64 = 16;

/// How much a session moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Client to server, in bytes; the 16 that hold the plan are among them.
    pub up: u64,
    /// Server to client, in bytes.
    pub down: u64,
}

impl Plan {
    /// The salt of the up stream.
    pub const UP: u64 = 1;
    /// The salt of the down stream.
    pub const DOWN: u64 = 2;

    fn header(self) -> [u8; 16] {
        let mut header = [0; 16];
        header[..8].copy_from_slice(&self.up.to_be_bytes());
        header[8..].copy_from_slice(&self.down.to_be_bytes());
        header
    }

    fn parse(header: [u8; 16]) -> Self {
        let both = u128::from_be_bytes(header);
        let [up, down] = [both >> 64, both & u128::from(u64::MAX)];
        Self { up: u64::try_from(up).unwrap_or(0), down: u64::try_from(down).unwrap_or(0) }
    }

    /// All that the client sends.
    pub fn up_bytes(self) -> Vec<u8> {
        let mut bytes = self.header().to_vec();
        bytes.resize(usize::try_from(self.up).unwrap_or(0), 0);
        fill(Self::UP, HEADER, &mut bytes[16..]);
        bytes
    }

    /// All that the server sends.
    pub fn down_bytes(self) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(self.down).unwrap_or(0)];
        fill(Self::DOWN, 0, &mut bytes);
        bytes
    }
}

/// A server that carries out the plans of its clients and remembers what it counted.
#[derive(Debug)]
pub struct TcpServer {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

impl TcpServer {
    /// A server on a free port of `ip`.
    ///
    /// # Panics
    /// It cannot listen there.
    pub fn start(ip: IpAddr) -> Self {
        let listener = listen(ip).expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let (seen, stop) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicBool>::default());
        let (results, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let accepting = thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let results = Arc::clone(&results);
                thread::spawn(move || {
                    // A client that goes away in the middle still counts for what came.
                    if let Ok(counted) = serve(stream) {
                        results.lock().unwrap_or_else(PoisonError::into_inner).push(counted);
                    }
                });
            }
        });
        Self { address, seen, stop, accepting: Some(accepting) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counted, one entry for each connection that has ended.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TcpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accept; if it is gone already there is nothing to wake.
        drop(TcpStream::connect_timeout(&self.address, DEADLINE));
        if let Some(accepting) = self.accepting.take() {
            _ = wait::within(DEADLINE, || accepting.is_finished().then_some(()));
        }
    }
}

fn serve(mut stream: TcpStream) -> io::Result<Seen> {
    let mut seen = Seen::new(stream.local_addr()?, stream.peer_addr()?);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    let mut header = [0; 16];
    // A connection that ends here had no plan; it moved nothing.
    if stream.read_exact(&mut header).is_err() {
        return Ok(seen);
    }
    let plan = Plan::parse(header);
    let writing = stream.try_clone()?;
    let sender = thread::spawn(move || send(writing, Plan::DOWN, 0, plan.down));
    let (received, _) = receive(stream, Plan::UP, HEADER);
    seen.received = HEADER + received;
    seen.sent = sender.join().unwrap_or(0);
    Ok(seen)
}

/// Connects from an address of the client's choice; port 0: any.
///
/// # Errors
/// The connection is refused, or `from` is taken or not an address of this machine.
pub fn connect(from: SocketAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
    socket.bind(&from.into())?;
    socket.connect_timeout(&to.into(), DEADLINE)?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Carries out a plan as a client: both directions at once, then FIN, then the server's FIN.
///
/// # Errors
/// The connection is refused, cut, or carries bytes that the server did not send.
pub fn exchange(from: SocketAddr, to: SocketAddr, plan: Plan) -> io::Result<Seen> {
    let (seen, whole) = attempt(from, to, plan)?;
    if whole { Ok(seen) } else { Err(io::Error::other(format!("cut: {plan:?}, {seen:?}"))) }
}

/// As [`exchange`], but a connection that is cut is an outcome: what was counted until then, and
/// whether the plan was carried out whole.
///
/// # Errors
/// The connection is refused, or carries bytes that the server did not send.
pub fn attempt(from: SocketAddr, to: SocketAddr, plan: Plan) -> io::Result<(Seen, bool)> {
    let mut stream = connect(from, to)?;
    let mut seen = Seen::new(from, to);
    if stream.write_all(&plan.header()).is_err() {
        return Ok((seen, false));
    }
    let writing = stream.try_clone()?;
    let rest = plan.up.saturating_sub(HEADER);
    let sender = thread::spawn(move || send(writing, Plan::UP, HEADER, rest));
    let (received, end) = receive(stream, Plan::DOWN, 0);
    seen.sent = HEADER + sender.join().unwrap_or(0);
    seen.received = received;
    if end == End::Damaged {
        return Err(io::Error::other(format!("damaged: {plan:?}, {seen:?}")));
    }
    let whole = end == End::Fin && seen.sent == plan.up && seen.received == plan.down;
    Ok((seen, whole))
}

/// Sends `len` bytes of a stream, then a FIN; says how many the kernel took.
fn send(mut stream: TcpStream, salt: u64, mut offset: u64, len: u64) -> u64 {
    let mut buffer = vec![0; CHUNK];
    let mut left = len;
    while left > 0 {
        let chunk = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
        fill(salt, offset, &mut buffer[..chunk]);
        let Ok(taken @ 1..) = stream.write(&buffer[..chunk]) else { return len - left };
        offset += taken as u64;
        left -= taken as u64;
    }
    // The peer may have gone; then there is nobody to tell.
    drop(stream.shutdown(Shutdown::Write));
    len
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Fin,
    Cut,
    Damaged,
}

/// Receives to the end of the stream, comparing every byte; says how many came.
fn receive(mut stream: TcpStream, salt: u64, mut offset: u64) -> (u64, End) {
    let (mut buffer, mut expected) = (vec![0; CHUNK], vec![0; CHUNK]);
    let mut received = 0;
    loop {
        let Ok(len) = stream.read(&mut buffer) else { return (received, End::Cut) };
        if len == 0 {
            return (received, End::Fin);
        }
        fill(salt, offset, &mut expected[..len]);
        if buffer[..len] != expected[..len] {
            return (received, End::Damaged);
        }
        offset += len as u64;
        received += len as u64;
    }
}
