//! UDP clients and a server that count what they send and receive, one datagram at a time.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::{sleep, timeout};

use crate::plan::{Plan, Stream, content};
use crate::truth::{Counted, Truth};

/// The session's number and the size of the wanted reply; a reply begins with the same.
const HEADER: usize = 16;
const LARGEST: usize = 65_507;
/// After so long a datagram or its reply was lost, by a kill in all likelihood.
const PATIENCE: Duration = Duration::from_millis(700);

/// Carries out a plan as a client, until a reply does not come. Not even the first one: an error.
pub(crate) async fn client(
    from: SocketAddr,
    to: SocketAddr,
    plan: Plan,
    truth: &Truth,
) -> io::Result<()> {
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    let number = truth.begin(from, to, plan);
    let mut counted = Counted::default();
    for _ in 0..plan.turns {
        let request = datagram(number, plan.down, Stream::Up, plan.up);
        // Refused: an answer to an earlier datagram, which nobody was there for.
        if socket.send(&request).await.is_err() {
            break;
        }
        truth.connected(number);
        counted.sent += request.len() as u64;
        let expected = datagram(number, plan.down, Stream::Down, plan.down);
        let mut reply = vec![0; LARGEST];
        let Ok(Ok(len)) = timeout(PATIENCE, socket.recv(&mut reply)).await else { break };
        if reply[..len] != expected {
            truth.damage(format!("client {from} received what nobody had sent"));
        }
        counted.received += len as u64;
        sleep(plan.pause).await;
    }
    counted.whole = counted.received == plan.turns * (HEADER as u64 + plan.down);
    truth.client(number, counted);
    if counted.received == 0 { Err(ErrorKind::TimedOut.into()) } else { Ok(()) }
}

/// The header, then as many bytes as are said.
fn datagram(number: u64, wanted: u64, stream: Stream, len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(LARGEST).min(LARGEST - HEADER);
    let [number_bytes, wanted] = [number, wanted].map(u64::to_be_bytes);
    [&number_bytes[..], &wanted, content(stream, number, len)].concat()
}

/// A server on a port of `ip` that answers datagrams for as long as the program runs.
pub(crate) async fn serve(ip: IpAddr, truth: &Arc<Truth>) -> io::Result<SocketAddr> {
    let socket = UdpSocket::bind((ip, 0)).await?;
    let address = socket.local_addr()?;
    let truth = Arc::clone(truth);
    tokio::spawn(async move {
        let mut request = vec![0; LARGEST];
        loop {
            // An ICMP answer to an old reply is no matter.
            let Ok((len, peer)) = socket.recv_from(&mut request).await else { continue };
            let word = |at: usize| {
                let bytes = request.get(at * 8..len.max(at * 8)).and_then(<[u8]>::first_chunk);
                bytes.map_or(u64::MAX, |bytes| u64::from_be_bytes(*bytes))
            };
            let (number, wanted) = (word(0), word(1));
            let up = (len as u64).saturating_sub(HEADER as u64);
            if request[..len] != datagram(number, wanted, Stream::Up, up) {
                truth.damage(format!("the UDP server received what nobody had sent from {peer}"));
                continue;
            }
            let reply = datagram(number, wanted, Stream::Down, wanted);
            let sent = socket.send_to(&reply, peer).await.is_ok();
            truth.bytes.fetch_add(len as u64, Ordering::Relaxed);
            truth.server(number, |counted| {
                counted.received += len as u64;
                counted.sent += if sent { reply.len() as u64 } else { 0 };
                counted.whole = sent;
            });
        }
    });
    Ok(address)
}
