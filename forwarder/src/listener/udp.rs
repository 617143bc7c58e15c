//! Receiving datagrams on one thread.

use std::rc::Rc;

use tokio::net::UdpSocket;
use tokio_util::sync::CancellationToken;

use super::Opened;
use crate::relay::{DataThread, Desk};

/// Receives datagrams until `closing`.
pub(crate) async fn serve(thread: Rc<DataThread>, opened: Opened, closing: CancellationToken) {
    let bound = opened.bound;
    let socket = UdpSocket::from_std(opened.socket.into())
        .expect("a non-blocking socket on a running runtime registers");
    let desk = Rc::new(Desk::new(thread, bound, socket));
    // Both branches are cancel-safe.
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = desk.receive() => {}
    }
    desk.close();
}
