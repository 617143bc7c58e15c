//! A beat per thread, for what a session needs only if it lasts.
//!
//! Most sessions are over within moments. What is of use to long ones alone, a timer, keepalive, a
//! watch on a connection that nobody reads, waits for the next tick, and a session that has ended by
//! then has paid for none of it.

use std::cell::{Cell, RefCell};
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use slab::Slab;
use tokio::time::{Instant, sleep, sleep_until};

/// Time between two ticks.
pub(crate) const TICK: Duration = Duration::from_secs(1);

/// One thread's ticks, and who waits for the next.
#[derive(Debug, Default)]
pub(crate) struct Ticks {
    passed: Cell<u64>,
    waiting: RefCell<Slab<Waker>>,
}

/// A wait for the next tick. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct Ticket {
    ticks: Rc<Ticks>,
    begun: u64,
    key: usize,
}

impl Ticks {
    /// Wakes the task at the next tick.
    pub(crate) fn next(self: &Rc<Self>, cx: &Context<'_>) -> Ticket {
        let key = self.waiting.borrow_mut().insert(cx.waker().clone());
        Ticket { ticks: Rc::clone(self), begun: self.passed.get(), key }
    }

    /// Ticks for as long as the thread runs.
    pub(crate) async fn run(self: Rc<Self>) {
        loop {
            sleep(TICK).await;
            self.tick();
        }
    }

    fn tick(&self) {
        self.passed.set(self.passed.get() + 1);
        let waiting = self.waiting.take();
        waiting.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// What `work` gives, or `None` when the deadline comes first. A deadline that is further away
    /// than a tick costs no timer before the next one.
    pub(crate) async fn until<T>(
        self: &Rc<Self>,
        deadline: Option<Instant>,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let mut work = pin!(work);
        let Some(deadline) = deadline else { return Some(work.await) };
        let mut ticket = None;
        let first = std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let ticket = ticket.get_or_insert_with(|| self.next(cx));
            if ticket.is_due() { Poll::Ready(None) } else { Poll::Pending }
        });
        let near = deadline <= Instant::now() + TICK;
        if !near && let Some(done) = first.await {
            return Some(done);
        }
        // Both branches may be dropped: the caller gives up the work with the deadline.
        tokio::select! {
            biased;
            done = work => Some(done),
            () = sleep_until(deadline) => None,
        }
    }
}

impl Ticket {
    /// Whether the tick has come.
    pub(crate) fn is_due(&self) -> bool {
        self.ticks.passed.get() != self.begun
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_due() {
            self.ticks.waiting.borrow_mut().remove(self.key);
        }
    }
}
