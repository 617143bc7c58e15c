//! Turning clients away, in the way that they are to see.

use std::io;
use std::rc::Rc;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{RecvFlags, recv};
use schemas::vocab::DenyAction;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::Permit;
use super::preread::Spot;
use super::tcp::{finish, reset};
use super::thread::DataThread;
use super::ticks::Ticks;
use crate::dial;

/// How long a client that we have closed in order may take to close, too.
const PATIENCE: Duration = Duration::from_secs(2);

/// How much it may send meanwhile, in bytes.
const PATIENCE_BYTES: usize = 64 * 1024;

/// Closes the connection of a client that was refused.
pub(super) fn refuse(
    thread: &Rc<DataThread>,
    client: TcpStream,
    action: DenyAction,
    permit: Permit,
) {
    match action {
        DenyAction::Reset => reset(&client),
        DenyAction::Close => {
            finish(&client);
            // With too many on their way out, this one is closed as it is.
            if let Some(spot) = thread.exit.take() {
                spawn_local(see_off(client, Rc::clone(&thread.ticks), spot, permit));
            }
        }
        DenyAction::Drop => {}
    }
}

/// Waits until a client has noticed its end. The kernel makes a reset of a close before everything
/// is read that was received, and sends one for what comes after it.
async fn see_off(client: TcpStream, ticks: Rc<Ticks>, _spot: Spot, _permit: Permit) {
    let mut left = PATIENCE_BYTES;
    let leaves = async {
        while left > 0 && client.readable().await.is_ok() {
            match client.try_io(Interest::READABLE, || discard(&client)) {
                Ok(0) => return,
                Ok(bytes) => left = left.saturating_sub(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    };
    // Gone or not, this was all that could be done.
    let _in_time = ticks.until(dial::deadline(PATIENCE), leaves).await;
}

fn discard(client: &TcpStream) -> io::Result<usize> {
    Ok(retry_on_intr(|| recv(client, &mut [0; 4096], RecvFlags::empty()))?.0)
}
