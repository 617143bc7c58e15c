//! How many UDP associations a service has at once, on all threads.
//!
//! Anyone can forge the address of a datagram, so the associations of a service are as many as it
//! says at most (`max_udp_sessions`): whoever comes then is refused before anything is kept of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::counters::Tally;

/// One association of a service. Dropped, it gives its place to the next.
#[derive(Debug)]
pub(crate) struct Seat {
    service: Arc<Tally>,
}

impl Seat {
    /// Takes a seat, unless there are `most` already.
    pub(crate) fn take(service: &Arc<Tally>, most: Option<u64>) -> Option<Self> {
        let most = most.unwrap_or(u64::MAX);
        let one_more = |taken: u64| (taken < most).then_some(taken + 1);
        service.udp_sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        Some(Self { service: Arc::clone(service) })
    }

    /// Whether nobody else finds a seat.
    pub(crate) fn are_taken(service: &Tally, most: Option<u64>) -> bool {
        most.is_some_and(|most| service.udp_sessions.load(Ordering::Relaxed) >= most)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.service.udp_sessions.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_it_is_left_and_a_smaller_bound_waits_for_that() {
        let service = Arc::new(Tally::default());
        let seats: Vec<_> = (0..5).filter_map(|_| Seat::take(&service, Some(3))).collect();
        assert_eq!(seats.len(), 3);
        assert!(Seat::take(&service, Some(1)).is_none(), "a reload may say fewer");
        drop(seats);
        assert!(Seat::take(&service, Some(1)).is_some());
        assert!(Seat::take(&service, None).is_some());
        assert_eq!(service.udp_sessions.load(Ordering::Relaxed), 0);
    }
}
