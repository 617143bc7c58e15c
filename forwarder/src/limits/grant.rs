//! A session's part of the limits of its rule.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use forwarder_core::config::Every;
use forwarder_core::limit::{Pace, Period, QuotaTerms, Share, Turn, left};
use schemas::vocab::{Direction, PerDirection, Timestamp};
use tokio::time::{Sleep, sleep_until};

use super::Inside;
use super::group::{Entry, Group, Of};
use crate::clock::micros;

/// How long a session that is held back waits at most before it looks whether a reload has changed
/// its limits.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A session's places, and what it has booked. Its places are free when it is dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    seats: Box<[Seat]>,
    inside: Arc<Inside>,
    waits: PerDirection<RefCell<Wait>>,
    /// Until when it was last held back.
    held_until: Cell<Instant>,
}

/// A quota of the session is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UsedUp;

/// What becomes of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Passage {
    /// It goes on.
    Passes,
    /// It is over a bandwidth, and dropped.
    Dropped,
    /// A quota is used up: it is dropped, and the session ends.
    UsedUp,
}

/// A place among those who share.
#[derive(Debug)]
struct Seat {
    group: Arc<Group>,
    entry: Arc<Entry>,
    /// What it took as datagrams of a direction's own bandwidth.
    own: PerDirection<Cell<Share>>,
    /// And of the one for both directions.
    both: Cell<Share>,
    /// The day and the month that it last was, so that calendars are asked once for each.
    periods: [Cell<Option<Period>>; 2],
}

/// The wait of one direction of a stream for its turn.
#[derive(Debug, Default)]
struct Wait {
    /// By seat.
    turns: Vec<(usize, Of, Turn)>,
    /// How often reloads had changed the bandwidths when they were booked, all seats together.
    changes: u64,
    bytes: u64,
    /// Since when the session is held back, if it is.
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Grant {
    /// The grant of a session that has come through the doors of these entries.
    pub(super) fn new(
        places: impl Iterator<Item = (Arc<Group>, Arc<Entry>)>,
        inside: Arc<Inside>,
        now: Instant,
    ) -> Self {
        let seats = places.map(|(group, entry)| Seat::new(group, entry)).collect();
        Self { seats, inside, waits: PerDirection::default(), held_until: Cell::new(now) }
    }

    /// Until when the session was last held back; in the future: it is now.
    pub(crate) fn held_until(&self) -> Instant {
        self.held_until.get()
    }

    /// Ready with how many bytes of a stream may be received now, at least one. What comes of it
    /// is to be told by [`Grant::received`].
    ///
    /// # Errors
    /// A quota is used up.
    pub(crate) fn poll_room(
        &self,
        cx: &mut Context<'_>,
        direction: Direction,
        now: Instant,
        wall: Timestamp,
    ) -> Poll<Result<u64, UsedUp>> {
        let left = self.left(direction, wall);
        if left == 0 {
            return Poll::Ready(Err(UsedUp));
        }
        let mut wait = self.waits[direction].borrow_mut();
        if !wait.turns.is_empty() && wait.changes != self.changes() {
            self.settle(&mut wait, direction, 0);
        }
        if wait.turns.is_empty() {
            self.book(&mut wait, direction, left, now);
        }
        let Some(at) = wait.turns.iter().map(|(_, _, turn)| turn.at).max() else {
            return Poll::Ready(Ok(left));
        };
        if at > now {
            if wait.since.is_none() {
                self.inside.counters.held_back.fetch_add(1, Ordering::Relaxed);
            }
            // Bit by bit: a wait may take hours.
            self.count_wait(wait.since.replace(now), now);
            self.held_until.set(at.max(self.held_until.get()));
            // A reload may bring the turn forward, or do away with it.
            let look = at.min(now + LOOK_AGAIN).into();
            let timer = wait.timer.get_or_insert_with(|| Box::pin(sleep_until(look)));
            timer.as_mut().reset(look);
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.count_wait(wait.since.take(), now);
        Poll::Ready(Ok(wait.bytes.min(left)))
    }

    /// Counts what has passed of a wait since it was counted last.
    fn count_wait(&self, since: Option<Instant>, now: Instant) {
        if let Some(since) = since {
            let waited = micros(now.saturating_duration_since(since));
            self.inside.counters.held_back_us.fetch_add(waited, Ordering::Relaxed);
        }
    }

    /// How often reloads have changed the bandwidths, all seats together.
    fn changes(&self) -> u64 {
        self.seats.iter().map(|seat| seat.group.changes()).sum()
    }

    fn book(&self, wait: &mut Wait, direction: Direction, left: u64, now: Instant) {
        wait.changes = self.changes();
        let turn = |seat: &Seat| {
            let (terms, all) = (seat.group.terms(), seat.entry.sessions());
            let lanes = seat.entry.lanes(&terms, direction);
            lanes.map(|(_, lane, pace)| lane.bucket.turn_bytes(pace, all)).min()
        };
        let Some(bytes) = self.seats.iter().filter_map(turn).min() else { return };
        wait.bytes = bytes.min(left);
        for (index, seat) in self.seats.iter().enumerate() {
            let (terms, all) = (seat.group.terms(), seat.entry.sessions());
            for (of, lane, pace) in seat.entry.lanes(&terms, direction) {
                wait.turns.push((index, of, lane.bucket.book(pace, wait.bytes, all, now)));
            }
        }
    }

    /// So many bytes of a stream were received, or none though there was room.
    pub(crate) fn received(&self, direction: Direction, bytes: usize, wall: Timestamp) {
        let mut wait = self.waits[direction].borrow_mut();
        let bytes = bytes as u64;
        self.settle(&mut wait, direction, bytes);
        drop(wait);
        if bytes > 0 {
            self.charge(direction, bytes, wall);
        }
    }

    /// Ends the turns, of which so many bytes were used.
    fn settle(&self, wait: &mut Wait, direction: Direction, used: u64) {
        for (index, of, turn) in wait.turns.drain(..) {
            self.seats[index].entry.lane(of, direction).bucket.settle(turn, used);
        }
    }

    /// Whether a datagram from the sender of `direction` goes on; one that does is paid for.
    pub(crate) fn pass(
        &self,
        direction: Direction,
        bytes: usize,
        now: Instant,
        wall: Timestamp,
    ) -> Passage {
        if self.left(direction, wall) == 0 {
            self.dropped(self.seats.len());
            return Passage::UsedUp;
        }
        let bytes = bytes as u64;
        if let Err(refuses) = self.take(direction, bytes, now) {
            self.dropped(refuses);
            return Passage::Dropped;
        }
        self.charge(direction, bytes, wall);
        Passage::Passes
    }

    /// Takes from every bandwidth or from none; then from which seat nothing could be taken.
    fn take(&self, direction: Direction, bytes: u64, now: Instant) -> Result<(), usize> {
        for (index, seat) in self.seats.iter().enumerate() {
            let terms = seat.group.terms();
            for (of, _, pace) in seat.entry.lanes(&terms, direction) {
                if !seat.take(of, direction, pace, bytes, now) {
                    self.give_back(index, of, direction, bytes);
                    return Err(index);
                }
            }
        }
        Ok(())
    }

    /// Gives back what was taken before `last` of the seat at `index` refused.
    fn give_back(&self, index: usize, last: Of, direction: Direction, bytes: u64) {
        for (nth, seat) in self.seats[..=index].iter().enumerate() {
            let terms = seat.group.terms();
            for (of, lane, pace) in seat.entry.lanes(&terms, direction) {
                if nth == index && of == last {
                    return;
                }
                lane.bucket.give_back(pace, bytes);
            }
        }
    }

    fn dropped(&self, seat: usize) {
        self.inside.counters.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
        // Of a quota: every sharer's, since it is not worth finding out whose.
        let seats = self.seats.get(seat).map_or(&self.seats[..], std::slice::from_ref);
        seats.iter().for_each(|seat| {
            seat.entry.datagrams_dropped.fetch_add(1, Ordering::Relaxed);
        });
    }

    /// What the quotas leave, in bytes.
    fn left(&self, direction: Direction, wall: Timestamp) -> u64 {
        self.seats.iter().map(|seat| seat.left(direction, wall)).min().unwrap_or(u64::MAX)
    }

    /// Whether a quota of the session is used up.
    pub(crate) fn is_used_up(&self, wall: Timestamp) -> bool {
        Direction::BOTH.iter().any(|&direction| self.left(direction, wall) == 0)
    }

    fn charge(&self, direction: Direction, bytes: u64, wall: Timestamp) {
        for seat in &self.seats {
            let terms = seat.group.terms();
            for (_, lane, _) in seat.entry.lanes(&terms, direction) {
                lane.moved.fetch_add(bytes, Ordering::Relaxed);
            }
            for quota in &terms.quotas {
                if let Some(cell) = seat.entry.cell(quota.every()) {
                    cell.charge(seat.period(quota, wall).label, direction, bytes);
                }
            }
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        for direction in Direction::BOTH {
            let mut wait = self.waits[direction].take();
            self.settle(&mut wait, direction, 0);
        }
        self.seats.iter().for_each(|seat| seat.entry.leave());
    }
}

impl Seat {
    fn new(group: Arc<Group>, entry: Arc<Entry>) -> Self {
        entry.entered();
        let (own, both) = (PerDirection::default(), Cell::default());
        Self { group, entry, own, both, periods: Default::default() }
    }

    fn take(&self, of: Of, direction: Direction, pace: Pace, bytes: u64, now: Instant) -> bool {
        let lane = self.entry.lane(of, direction);
        let share = match of {
            Of::Own => &self.own[direction],
            Of::Both => &self.both,
        };
        let mut own = share.get();
        let waiting = lane.bucket.waiting();
        let is_free = waiting == 0 && lane.bucket.is_relaxed(pace, now);
        let is_owed = lane.shares.has_left(&mut own, pace, waiting, now);
        let takes = (is_free || is_owed) && lane.bucket.take(pace, bytes, is_owed, now);
        if takes && !is_free {
            own.took(bytes);
        }
        share.set(own);
        takes
    }

    fn left(&self, direction: Direction, wall: Timestamp) -> u64 {
        let terms = self.group.terms();
        let quotas = terms.quotas.iter();
        let left = quotas.map(|quota| {
            left(&quota.quota, self.entry.used(quota, &self.period(quota, wall)), direction)
        });
        left.min().unwrap_or(u64::MAX)
    }

    fn period(&self, quota: &QuotaTerms, wall: Timestamp) -> Period {
        let known = &self.periods[usize::from(quota.every() == Every::Month)];
        match known.get() {
            Some(period) if period.contains(wall) => period,
            Some(_) | None => {
                let period = Period::of(quota.every(), &quota.zone, wall);
                known.set(Some(period));
                period
            }
        }
    }
}
