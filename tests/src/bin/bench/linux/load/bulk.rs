//! Streams that carry as much as goes.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::super::targets::{CHUNK, Targets};
use super::{PATIENCE, Seen, discard};

/// Sends through `streams` sessions for a while, and waits until the targets have it all.
///
/// # Errors
/// A session breaks, or the targets got another number of bytes than was sent.
pub(in super::super) fn up(
    to: SocketAddr,
    streams: u32,
    during: Duration,
    targets: &Targets,
) -> io::Result<Seen> {
    let before = targets.sunk.load(Ordering::Relaxed);
    let started = Instant::now();
    let sent = in_parallel(streams, || {
        let mut stream = connected(to)?;
        let chunk = vec![0x57; CHUNK];
        let mut sent = 0;
        while started.elapsed() < during {
            stream.write_all(&chunk)?;
            sent += chunk.len() as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        while discard(&stream, &mut [0; 64])? > 0 {}
        Ok(sent)
    })?;
    // A relay may close towards the client while its last bytes are still on their way.
    let arrived = || targets.sunk.load(Ordering::Relaxed) - before;
    while arrived() < sent && started.elapsed() < during + PATIENCE {
        thread::sleep(Duration::from_micros(100));
    }
    let took = started.elapsed();
    same(sent, arrived())?;
    Ok(Seen { sessions: streams.into(), up: sent, took, ..Seen::default() })
}

/// Receives through `streams` sessions for a while.
///
/// # Errors
/// A session breaks, or the targets sent another number of bytes than came.
pub(in super::super) fn down(
    to: SocketAddr,
    streams: u32,
    during: Duration,
    targets: &Targets,
) -> io::Result<Seen> {
    let before = targets.given.load(Ordering::Relaxed);
    targets.giving.store(true, Ordering::Relaxed);
    let started = Instant::now();
    let got = in_parallel(streams, || {
        let stream = connected(to)?;
        let mut scratch = vec![0; 1 << 20];
        let mut got = 0;
        loop {
            match discard(&stream, &mut scratch)? {
                0 => return Ok(got),
                taken => got += taken,
            }
            if started.elapsed() >= during {
                targets.giving.store(false, Ordering::Relaxed);
            }
        }
    });
    targets.giving.store(false, Ordering::Relaxed);
    let (got, took) = (got?, started.elapsed());
    same(targets.given.load(Ordering::Relaxed) - before, got)?;
    Ok(Seen { sessions: streams.into(), down: got, took, ..Seen::default() })
}

fn connected(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn in_parallel(streams: u32, carry: impl Fn() -> io::Result<u64> + Sync) -> io::Result<u64> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..streams).map(|_| scope.spawn(&carry)).collect();
        let mut bytes = 0;
        for thread in threads {
            bytes +=
                thread.join().map_err(|_| io::Error::other("a stream's thread panicked"))??;
        }
        Ok(bytes)
    })
}

fn same(sent: u64, got: u64) -> io::Result<()> {
    if sent == got {
        return Ok(());
    }
    Err(io::Error::other(format!("{sent} bytes were sent and {got} arrived")))
}
