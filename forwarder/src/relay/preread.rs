//! Looking at what a client sends before anybody is dialled.
//!
//! The bytes are peeked at and stay in the socket, so that the account counts them, and a capture
//! keeps them, when they are relayed. A PROXY header alone is taken out, to its last byte: it is not
//! the client's payload, and counts nowhere.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use forwarder_core::config::ProxyVersion;
use forwarder_core::preamble::{self, Answer, MAX_SERVER_NAME_BYTES, proxy};
use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::ticks::Ticks;
use crate::dial;

/// One thread's places at the door, and the memory that it looks at preambles in: one piece for
/// all of them, because nobody keeps what was peeked at.
#[derive(Debug)]
pub(crate) struct Porch {
    free: Cell<usize>,
    seen: RefCell<Box<[u8]>>,
}

/// One client's place at the door, until dropped.
#[derive(Debug)]
pub(crate) struct Spot(Rc<Porch>);

impl Porch {
    /// With room for so many clients.
    pub(crate) fn with(places: usize) -> Self {
        Self { free: Cell::new(places), seen: RefCell::default() }
    }

    /// `None`: they are all taken.
    pub(crate) fn take(self: &Rc<Self>) -> Option<Spot> {
        self.free.set(self.free.get().checked_sub(1)?);
        Some(Spot(Rc::clone(self)))
    }

    /// What `read` says about the bytes that wait in a socket. An error besides "would block" is
    /// the connection's end.
    fn peek<T>(&self, client: &TcpStream, read: impl FnOnce(&[u8]) -> T) -> io::Result<T> {
        let mut seen = self.seen.borrow_mut();
        if seen.is_empty() {
            *seen = vec![0; MAX_SERVER_NAME_BYTES].into_boxed_slice();
        }
        let bytes = retry_on_intr(|| recv(client, &mut **seen, RecvFlags::PEEK))?.0;
        Ok(read(&seen[..bytes]))
    }
}

impl Drop for Spot {
    fn drop(&mut self) {
        self.0.free.set(self.0.free.get() + 1);
    }
}

/// Why a preamble is none that we go by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    /// It is not what it should be.
    #[error("{0}")]
    Malformed(&'static str),
    /// The rest of it, or all of it, did not come in time.
    #[error("it is late")]
    Late,
    /// The client finished or reset its connection before.
    #[error("its client has left")]
    Left,
}

/// Which server a client asks for.
#[derive(Debug)]
pub(super) enum Asked {
    /// This one.
    For(String),
    /// None.
    ForNone,
    /// It has not said in time. What it has sent is still there, and no event will tell of it: see
    /// [`watch_anew`].
    NotYet,
}

/// How looking ended.
enum Sight<T> {
    /// The bytes say this.
    Clear(T),
    /// They are not what they should be.
    Malformed(&'static str),
    /// No more will come: the client has finished.
    Finished,
    /// Its connection broke.
    Broken,
    /// The time is over.
    Late,
}

impl Spot {
    /// Waits until the bytes that `client` has sent say something.
    async fn look<T>(
        &self,
        client: &TcpStream,
        ticks: &Rc<Ticks>,
        within: Duration,
        read: impl Fn(&[u8]) -> Answer<T>,
    ) -> Sight<T> {
        let looking = async {
            loop {
                let Ok(ready) = client.ready(Interest::READABLE).await else {
                    return Sight::Broken;
                };
                let mut answer = Answer::Incomplete;
                let peeked = client.try_io(Interest::READABLE, || {
                    answer = self.0.peek(client, &read)?;
                    // What is here already tells nothing: the next event is about bytes to come.
                    let waits = matches!(answer, Answer::Incomplete);
                    if waits { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
                });
                match (answer, peeked) {
                    (Answer::Done(value), _) => return Sight::Clear(value),
                    (Answer::Malformed(why), _) => return Sight::Malformed(why),
                    (Answer::Incomplete, Err(error))
                        if error.kind() != io::ErrorKind::WouldBlock =>
                    {
                        return Sight::Broken;
                    }
                    // Every byte before the FIN was there to be seen.
                    (Answer::Incomplete, _) if ready.is_read_closed() => return Sight::Finished,
                    (Answer::Incomplete, _) => {}
                }
            }
        };
        ticks.until(dial::deadline(within), looking).await.unwrap_or(Sight::Late)
    }

    /// Reads the PROXY header that `client` must send, and takes it out of its payload.
    pub(super) async fn header(
        &self,
        client: &TcpStream,
        ticks: &Rc<Ticks>,
        within: Duration,
        only: Option<ProxyVersion>,
    ) -> Result<proxy::Header, Bad> {
        let read = |bytes: &[u8]| proxy::parse(bytes, only);
        match self.look(client, ticks, within, read).await {
            Sight::Clear(header) => {
                take_out(client, header.len).map_err(|_| Bad::Left)?;
                Ok(header)
            }
            Sight::Malformed(why) => Err(Bad::Malformed(why)),
            Sight::Late => Err(Bad::Late),
            Sight::Finished | Sight::Broken => Err(Bad::Left),
        }
    }

    /// Finds out which server `client` asks for.
    pub(super) async fn server_name(
        &self,
        client: &TcpStream,
        ticks: &Rc<Ticks>,
        within: Duration,
    ) -> Result<Asked, Bad> {
        let (short, asked) = match self.look(client, ticks, within, preamble::server_name).await {
            Sight::Clear(Some(name)) => return Ok(Asked::For(name)),
            Sight::Clear(None) => return Ok(Asked::ForNone),
            Sight::Malformed(why) => return Err(Bad::Malformed(why)),
            Sight::Broken => return Err(Bad::Left),
            Sight::Finished => (Bad::Left, Asked::ForNone),
            Sight::Late => (Bad::Late, Asked::NotYet),
        };
        match self.0.peek(client, preamble::cut_short) {
            Ok(Ok(_)) => Ok(asked),
            Ok(Err(_)) => Err(short),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(asked),
            Err(_) => Err(Bad::Left),
        }
    }
}

/// Receives exactly so many bytes that are known to be there.
fn take_out(client: &TcpStream, mut len: usize) -> io::Result<()> {
    let mut bytes = [0; proxy::MAX_BYTES];
    while len > 0 {
        match retry_on_intr(|| recv(client, &mut bytes[..len], RecvFlags::empty()))?.0 {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            taken => len -= taken,
        }
    }
    Ok(())
}

/// Gives a connection anew to the runtime, which then asks it what it has: for bytes that were
/// peeked at, no event would come.
///
/// # Errors
/// What epoll_ctl(2) gives.
pub(super) fn watch_anew(client: TcpStream) -> io::Result<TcpStream> {
    TcpStream::from_std(client.into_std()?)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    async fn pair() -> (std::net::TcpStream, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    fn porch() -> (Rc<Porch>, Rc<Ticks>) {
        (Rc::new(Porch::with(3)), Rc::default())
    }

    #[tokio::test]
    async fn a_look_waits_for_new_bytes_and_leaves_all_of_them() {
        let (mut client, accepted) = pair().await;
        let (porch, ticks) = porch();
        let spot = porch.take().unwrap();
        let looks = Cell::new(0);
        client.write_all(&[7]).unwrap();
        let read = |bytes: &[u8]| {
            looks.set(looks.get() + 1);
            // Each look brings the next byte, so that none of them is in vain.
            client.write_all(&[7]).unwrap();
            if bytes.len() < 20 { Answer::Incomplete } else { Answer::Done(bytes.len()) }
        };
        let read = RefCell::new(read);
        let look = spot.look(&accepted, &ticks, LONG, |bytes| (read.borrow_mut())(bytes));
        let Ok(Sight::Clear(seen)) = timeout(LONG, look).await else { panic!("it did not see") };
        assert!((20..=22).contains(&looks.get()), "{} looks", looks.get());
        let mut all = vec![0; seen];
        assert_eq!(accepted.try_read(&mut all).unwrap(), seen);
    }

    #[tokio::test]
    async fn a_client_that_finishes_or_resets_is_waited_for_no_longer() {
        for resets in [false, true] {
            let (mut client, accepted) = pair().await;
            let (porch, ticks) = porch();
            let spot = porch.take().unwrap();
            client.write_all(b"PROXY").unwrap();
            if resets {
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
            }
            drop(client);
            let header = timeout(LONG, spot.header(&accepted, &ticks, LONG, None)).await;
            assert_eq!(header, Ok(Err(Bad::Left)));
        }
    }

    #[test]
    fn places_at_the_door_come_back() {
        let (porch, _) = porch();
        let mut all: Vec<_> = (0..3).map(|_| porch.take().unwrap()).collect();
        assert!(porch.take().is_none());
        all.pop();
        assert!(porch.take().is_some());
    }
}
