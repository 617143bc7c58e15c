//! What may be asked of a running relay, and told to it, while it runs.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use schemas::vocab::EndReason;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::Shared;
use super::intake::Intakes;
use super::leash::{Selection, Sight};
use super::rejudge::Rejudged;
use super::thread::{DataThread, Order};

/// A way into the data threads. Cheap to clone; threads that have ended answer nothing.
#[derive(Debug, Clone)]
pub struct Controls {
    shared: Arc<Shared>,
    threads: Arc<[mpsc::Sender<Order>]>,
}

/// Something to do on a data thread, between the turns of its sessions.
pub(crate) struct Errand(Box<dyn FnOnce(&DataThread) + Send>);

impl Errand {
    /// Does it.
    pub(crate) fn run(self, thread: &DataThread) {
        (self.0)(thread);
    }
}

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errand")
    }
}

impl Controls {
    pub(super) fn new(shared: &Arc<Shared>, threads: Arc<[mpsc::Sender<Order>]>) -> Self {
        Self { shared: Arc::clone(shared), threads }
    }

    /// Ends some of the running sessions with a reset to everyone connected, and says how many.
    pub async fn end(&self, which: Selection, reason: EndReason) -> usize {
        self.ask(move |thread| thread.leashes.end(&which, reason)).await.into_iter().sum()
    }

    /// How each running session is doing, by number.
    pub async fn sights(&self) -> HashMap<u64, Sight> {
        self.ask(|thread| thread.leashes.sights()).await.into_iter().flatten().collect()
    }

    /// What `look` sees of the connections of a session, the client's and the target's, as far as
    /// there are any.
    pub async fn tcp_sides<T: Send + 'static>(
        &self,
        number: u64,
        look: fn(&TcpStream) -> Option<T>,
    ) -> [Option<T>; 2] {
        let look = move |thread: &DataThread| {
            let streams = thread.leashes.streams(number)?;
            Some(streams.map(|stream| stream.and_then(|stream| look(&stream))))
        };
        self.ask(look).await.into_iter().flatten().next().unwrap_or([None, None])
    }

    /// Asks the rules in force again about every running session.
    pub async fn rejudge(&self) -> Rejudged {
        let threads = self.ask(DataThread::rejudge).await;
        threads.into_iter().fold(Rejudged::default(), std::ops::Add::add)
    }

    /// Which listeners take clients in.
    pub fn intakes(&self) -> Intakes {
        self.shared.intakes.borrow().clone()
    }

    /// Changes which listeners take clients in.
    pub fn change_intakes(&self, change: impl FnOnce(&mut Intakes)) {
        self.shared.intakes.send_modify(change);
    }

    /// Has every thread do the same, and gives what they answer.
    async fn ask<T: Send + 'static>(
        &self,
        errand: impl Fn(&DataThread) -> T + Clone + Send + 'static,
    ) -> Vec<T> {
        let mut asked = Vec::with_capacity(self.threads.len());
        for thread in &*self.threads {
            let (answer, answered) = oneshot::channel();
            let errand = errand.clone();
            let work = Errand(Box::new(move |thread| {
                if answer.send(errand(thread)).is_err() {
                    tracing::debug!("nobody waited for a data thread's answer");
                }
            }));
            if thread.send(Order::Run(work)).await.is_ok() {
                asked.push(answered);
            }
        }
        let mut answers = Vec::with_capacity(asked.len());
        for answered in asked {
            answers.extend(answered.await.ok());
        }
        answers
    }
}
