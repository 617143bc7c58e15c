//! Clients that wait at the door until what the rules ask about them is found out.

use std::rc::Rc;

use forwarder_core::matching::{Fact, Question};
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::Permit;
use super::admit::{Arrival, Door, Facts};
use super::tcp::{begin, refuse};
use super::thread::DataThread;

/// Finds out what the rules ask about a TCP client, and lets it in or turns it away.
pub(super) fn wait(
    thread: &Rc<DataThread>,
    arrival: Arrival,
    question: Question,
    client: TcpStream,
    permit: Permit,
) {
    let waiter = Waiter { thread: Rc::clone(thread), arrival, client, permit };
    spawn_local(waiter.run(question));
}

/// A client at the door.
struct Waiter {
    thread: Rc<DataThread>,
    arrival: Arrival,
    client: TcpStream,
    permit: Permit,
}

impl Waiter {
    async fn run(self, mut question: Question) {
        let mut facts = Facts::default();
        loop {
            self.find_out(question, &mut facts).await;
            match self.thread.admit(&self.arrival, &facts) {
                Door::Admitted(admitted, meter) => {
                    begin(&self.thread, admitted, meter, self.client, self.permit);
                    return;
                }
                Door::Refused(action) => return refuse(&self.client, action),
                Door::Asks(next) => question = next,
            }
        }
    }

    /// Leaves no question unanswered, if only by [`Fact::Unknown`].
    async fn find_out(&self, question: Question, facts: &mut Facts) {
        match question {
            Question::ReverseName => facts.reverse = Fact::Unknown,
            Question::ServerName => facts.server_name = Fact::Unknown,
        }
        tokio::task::yield_now().await;
    }
}
