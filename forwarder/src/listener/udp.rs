//! Receiving datagrams on one thread.

use std::rc::Rc;

use tokio_util::sync::CancellationToken;

use super::Opened;
use crate::relay::{DataThread, Desk, Intake};

/// Receives datagrams until `closing`, and then those that came before it.
pub(crate) async fn serve(thread: Rc<DataThread>, opened: Opened, closing: CancellationToken) {
    let mut intakes = thread.shared.intakes.subscribe();
    let listener = opened.bound.listener;
    let desk = Rc::new(Desk::new(thread, opened));
    loop {
        desk.let_in_new_clients(intakes.borrow_and_update().of(&listener) == Intake::Open);
        // All branches are cancel-safe.
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            _ = intakes.changed() => {}
            () = desk.receive() => break,
        }
    }
    desk.close();
}
