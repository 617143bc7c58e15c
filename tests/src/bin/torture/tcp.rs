//! TCP clients and servers that carry out plans and count what they send and receive.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::plan::{CHUNK, Kind, Plan, Stream, content};
use crate::truth::{Counted, Truth};

/// Longest that an end waits for the other one: longer than any pause that the torture makes.
const PATIENCE: Duration = Duration::from_secs(30);
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;

/// One end of a connection.
struct End {
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    incoming: Incoming,
    outgoing: Outgoing,
}

/// What came.
struct Incoming {
    stream: Stream,
    /// Payload behind the header, in bytes.
    received: u64,
    damaged: bool,
}

/// What went.
struct Outgoing {
    stream: Stream,
    /// Payload behind the header, in bytes.
    sent: u64,
}

impl Incoming {
    /// Reads until `upto` bytes have come; `None`: to the end. Says whether it came to that.
    async fn receive(&mut self, read: &mut OwnedReadHalf, upto: Option<u64>) -> bool {
        let mut buffer = vec![0; CHUNK];
        while upto.is_none_or(|upto| self.received < upto) {
            let left = upto.map_or(u64::MAX, |upto| upto - self.received);
            let most = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let Ok(Ok(len)) = timeout(PATIENCE, read.read(&mut buffer[..most])).await else {
                return false;
            };
            if len == 0 {
                return upto.is_none();
            }
            self.damaged |= buffer[..len] != *content(self.stream, self.received, len);
            self.received += len as u64;
        }
        true
    }
}

impl Outgoing {
    /// Writes until `upto` bytes have gone. Says whether it came to that.
    async fn send(&mut self, write: &mut OwnedWriteHalf, upto: u64) -> bool {
        while self.sent < upto {
            let len = usize::try_from(upto - self.sent).unwrap_or(CHUNK);
            let chunk = content(self.stream, self.sent, len);
            let Ok(Ok(len @ 1..)) = timeout(PATIENCE, write.write(chunk)).await else {
                return false;
            };
            self.sent += len as u64;
        }
        true
    }
}

impl End {
    fn new(stream: TcpStream, incoming: Stream, outgoing: Stream) -> Self {
        // Turns are small: waiting for more to send would only take time.
        drop(stream.set_nodelay(true));
        let (read, write) = stream.into_split();
        Self {
            read,
            write,
            incoming: Incoming { stream: incoming, received: 0, damaged: false },
            outgoing: Outgoing { stream: outgoing, sent: 0 },
        }
    }

    async fn send(&mut self, upto: u64) -> bool {
        self.outgoing.send(&mut self.write, upto).await
    }

    async fn receive(&mut self, upto: u64) -> bool {
        self.incoming.receive(&mut self.read, Some(upto)).await
    }

    /// Both directions at once, each to its end.
    async fn bulk(&mut self, upto: u64) -> bool {
        let Self { read, write, incoming, outgoing } = self;
        let sending = async {
            let sent = outgoing.send(write, upto).await;
            // The peer may have gone; then there is nobody to tell.
            drop(write.shutdown().await);
            sent
        };
        let (sent, came) = tokio::join!(sending, incoming.receive(read, None));
        sent && came
    }

    /// Whatever still comes, also after a fault: it was delivered, so it counts.
    async fn rest(&mut self) -> bool {
        drop(self.write.shutdown().await);
        self.incoming.receive(&mut self.read, None).await
    }

    fn counted(&self, expected: u64, whole: bool, truth: &Truth, what: &str) -> Counted {
        if self.incoming.damaged || self.incoming.received > expected {
            truth.damage(format!("{what} received what nobody had sent"));
        }
        let whole = whole && self.incoming.received == expected;
        Counted { sent: self.outgoing.sent, received: self.incoming.received, whole }
    }
}

/// Carries out a plan as a client. Nobody listens: an error, and it was no session.
pub(crate) async fn client(
    from: SocketAddr,
    to: SocketAddr,
    plan: Plan,
    truth: &Truth,
) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(from)?;
    let connecting = timeout(PATIENCE, socket.connect(to)).await?;
    if connecting.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
        return connecting.map(drop);
    }
    let number = truth.begin(from, to, plan);
    let Ok(stream) = connecting else { return Ok(()) };
    truth.connected(number);
    let mut end = End::new(stream, Stream::Down, Stream::Up);
    let header = plan.header(number);
    let greeted = end.write.write_all(&header).await.is_ok();
    let counted = if greeted {
        let done = match plan.kind {
            Kind::Bulk => end.bulk(plan.up).await,
            _ => turns(&mut end, plan).await,
        };
        let whole = end.rest().await && done;
        let turns = if plan.kind == Kind::Bulk { 1 } else { plan.turns };
        let mut counted = end.counted(plan.down * turns, whole, truth, &format!("client {from}"));
        counted.sent += Plan::HEADER as u64;
        counted
    } else {
        end.rest().await;
        end.counted(plan.down, false, truth, &format!("client {from}"))
    };
    truth.client(number, counted);
    Ok(())
}

async fn turns(end: &mut End, plan: Plan) -> bool {
    for turn in 1..=plan.turns {
        if !end.send(turn * plan.up).await || !end.receive(turn * plan.down).await {
            return false;
        }
        sleep(plan.pause).await;
    }
    true
}

/// A server on a port of `ip` that carries out the plans of its clients, for as long as the program
/// runs.
pub(crate) fn serve(
    ip: IpAddr,
    truth: &Arc<Truth>,
    busy: &Arc<AtomicU64>,
) -> io::Result<SocketAddr> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(ip, 0))?;
    let listener: TcpListener = socket.listen(BACKLOG)?;
    let address = listener.local_addr()?;
    let (truth, busy) = (Arc::clone(truth), Arc::clone(busy));
    tokio::spawn(async move {
        loop {
            // Out of descriptors, say: the client is reset and counts nothing.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let (truth, busy) = (Arc::clone(&truth), Arc::clone(&busy));
            busy.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                connection(stream, &truth).await;
                busy.fetch_sub(1, Ordering::Relaxed);
            });
        }
    });
    Ok(address)
}

async fn connection(mut stream: TcpStream, truth: &Truth) {
    let mut header = [0; Plan::HEADER];
    if !matches!(timeout(PATIENCE, stream.read_exact(&mut header)).await, Ok(Ok(_))) {
        truth.anonymous.fetch_add(1, Ordering::Relaxed);
        return;
    }
    let (number, plan) = Plan::parse(&header);
    let mut end = End::new(stream, Stream::Up, Stream::Down);
    let done = match plan.kind {
        Kind::Bulk => end.bulk(plan.down).await,
        _ => answer(&mut end, plan).await,
    };
    let whole = end.rest().await && done;
    let turns = if plan.kind == Kind::Bulk { 1 } else { plan.turns };
    let mut counted = end.counted(plan.up * turns, whole, truth, &format!("server of {number}"));
    counted.received += Plan::HEADER as u64;
    truth.bytes.fetch_add(counted.received, Ordering::Relaxed);
    truth.server(number, |at_server| *at_server = counted);
}

async fn answer(end: &mut End, plan: Plan) -> bool {
    for turn in 1..=plan.turns {
        if !end.receive(turn * plan.up).await || !end.send(turn * plan.down).await {
            return false;
        }
    }
    // The client's end comes before ours, so that each is seen at both ends.
    end.incoming.receive(&mut end.read, None).await
}
