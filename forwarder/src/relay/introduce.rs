//! Telling a target for whom we speak, by a PROXY header in front of the payload.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{SendFlags, send};
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::pump::errno;
use super::ticks::Ticks;
use crate::dial;

/// Sends a header. Nothing has been sent before it, so that it goes into the connection's empty
/// buffer at once, whatever the target reads; if it does not, it is waited for.
///
/// # Errors
/// The error number of the connection, or of a timeout.
pub(super) async fn introduce(
    target: &TcpStream,
    header: &[u8],
    ticks: &Rc<Ticks>,
    within: Duration,
) -> Result<(), i32> {
    // Else the first payload, if it is short, would wait until the target has acknowledged the
    // header.
    if let Err(error) = target.set_nodelay(true) {
        tracing::trace!(%error, "small segments wait for acknowledgements");
    }
    let sending = async {
        let mut rest = header;
        while !rest.is_empty() {
            let sent = target.try_io(Interest::WRITABLE, || {
                Ok(retry_on_intr(|| send(target, rest, SendFlags::NOSIGNAL))?)
            });
            match sent {
                Ok(bytes) => rest = &rest[bytes..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    target.writable().await.map_err(|error| errno(&error))?;
                }
                Err(error) => return Err(errno(&error)),
            }
        }
        Ok(())
    };
    let sent = ticks.until(dial::deadline(within), sending).await;
    sent.unwrap_or(Err(Errno::TIMEDOUT.raw_os_error()))
}
