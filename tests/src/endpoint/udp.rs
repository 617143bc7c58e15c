//! UDP: each datagram names the size of its reply in its first four bytes; an empty one is answered
//! by an empty one. A client waits for each reply, so that no receive queue overflows.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::{Seen, fill};
use crate::wait::{self, DEADLINE};

const LARGEST: usize = 65_507;

/// A server that answers datagrams and remembers what it counted.
#[derive(Debug)]
pub struct UdpServer {
    address: SocketAddr,
    seen: Arc<Mutex<HashMap<SocketAddr, Seen>>>,
    stop: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

impl UdpServer {
    /// A server on a free port of `ip`.
    ///
    /// # Panics
    /// It cannot be bound there.
    pub fn start(ip: IpAddr) -> Self {
        let socket = UdpSocket::bind((ip, 0)).expect("a port is free");
        let address = socket.local_addr().expect("it is bound");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("50 ms is not zero");
        let (seen, stop) = (Arc::<Mutex<HashMap<_, _>>>::default(), Arc::<AtomicBool>::default());
        let (results, stopped) = (Arc::clone(&seen), Arc::clone(&stop));
        let serving = thread::spawn(move || serve(&socket, address, &results, &stopped));
        Self { address, seen, stop, serving: Some(serving) }
    }

    /// Where it is bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it counted, one entry for each peer.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).values().copied().collect()
    }
}

impl Drop for UdpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(serving) = self.serving.take() {
            _ = wait::within(DEADLINE, || serving.is_finished().then_some(()));
        }
    }
}

fn serve(
    socket: &UdpSocket,
    own: SocketAddr,
    results: &Mutex<HashMap<SocketAddr, Seen>>,
    stopped: &AtomicBool,
) {
    let (mut request, mut reply) = (vec![0; LARGEST], vec![0; LARGEST]);
    while !stopped.load(Ordering::Relaxed) {
        // The timeout is for looking at `stopped`; an ICMP answer to an old reply is no matter.
        let Ok((len, peer)) = socket.recv_from(&mut request) else { continue };
        let wanted = reply_len(&request[..len]);
        fill(u64::from(peer.port()), 0, &mut reply[..wanted]);
        let sent = socket.send_to(&reply[..wanted], peer).is_ok();
        let mut seen = results.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.entry(peer).or_insert_with(|| Seen::new(own, peer));
        entry.received += len as u64;
        entry.datagrams_received += 1;
        if sent {
            entry.sent += wanted as u64;
            entry.datagrams_sent += 1;
        }
    }
}

fn reply_len(request: &[u8]) -> usize {
    let wanted = request.first_chunk().map_or(0, |first| u32::from_be_bytes(*first));
    usize::try_from(wanted).unwrap_or(LARGEST).min(LARGEST)
}

/// Sends datagrams of the given sizes, each with the size of the reply it wants, one after the
/// other. A request of fewer than four bytes gets an empty reply.
///
/// # Errors
/// A reply does not come, or has another size.
pub fn converse(from: SocketAddr, to: SocketAddr, turns: &[(usize, usize)]) -> io::Result<Seen> {
    let socket = UdpSocket::bind(from)?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    let mut seen = Seen::new(socket.local_addr()?, to);
    let (mut request, mut reply) = (vec![0; LARGEST], vec![0; LARGEST + 1]);
    for &(size, wanted) in turns {
        fill(7, 0, &mut request[..size]);
        if let Some(first) = request[..size].first_chunk_mut() {
            *first = u32::try_from(wanted).unwrap_or(0).to_be_bytes();
        }
        let sent = socket.send(&request[..size])?;
        seen.sent += sent as u64;
        seen.datagrams_sent += 1;
        let len = socket.recv(&mut reply)?;
        if len != if size < 4 { 0 } else { wanted } {
            return Err(io::Error::other(format!("wanted {wanted} bytes, got {len}")));
        }
        seen.received += len as u64;
        seen.datagrams_received += 1;
    }
    Ok(seen)
}
