//! Receiving datagrams on one thread.

use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::Opened;
use crate::relay::{DataThread, Desk};

/// Receives datagrams until `closing`, and then those that came before it.
pub(crate) async fn serve(thread: Rc<DataThread>, opened: Opened, closing: CancellationToken) {
    let desk = Rc::new(Desk::new(thread, opened));
    // Both branches are cancel-safe.
    tokio::select! {
        biased;
        () = closing.cancelled() => {}
        () = desk.receive() => {}
    }
    desk.close();
}
