//! How many UDP associations a service has at once, on all threads.
//!
//! Anyone can forge the address of a datagram, so the associations of a service are as many as it
//! says at most (`max_udp_sessions`): whoever comes then is refused before anything is kept of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use schemas::vocab::DenyReason;

use super::figures::ServiceCounts;
use crate::limits::Hit;

/// The limit's name in the account: sessions of a service, whatever rule passes them.
const LIMIT: &str = "service udp_sessions";

/// How many associations a service may have.
#[derive(Debug)]
pub(crate) struct Seats {
    most: u64,
    /// What the account says of whoever finds no seat.
    hit: Hit,
}

impl Seats {
    /// So many. `name_id` registers a name.
    pub(crate) fn new<E>(most: u64, name_id: impl Fn(&str) -> Result<u32, E>) -> Result<Self, E> {
        let hit =
            Hit { reason: DenyReason::LimitSessions, id: name_id(LIMIT)?, limit: LIMIT.into() };
        Ok(Self { most, hit })
    }
}

/// One association of a service. Dropped, it gives its place to the next.
#[derive(Debug)]
pub(crate) struct Seat {
    service: Arc<ServiceCounts>,
}

impl Seat {
    /// Takes a seat. `None`: there may be any number.
    ///
    /// # Errors
    /// All are taken: what the account says of that.
    pub(crate) fn take<'a>(
        service: &Arc<ServiceCounts>,
        seats: Option<&'a Seats>,
    ) -> Result<Self, &'a Hit> {
        let most = seats.map_or(u64::MAX, |seats| seats.most);
        let one_more = |taken: u64| (taken < most).then_some(taken + 1);
        let taken = &service.udp_sessions;
        match (taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more), seats) {
            (Err(_), Some(seats)) => Err(&seats.hit),
            // Without a bound there is none to meet.
            (Ok(_), _) | (Err(_), None) => Ok(Self { service: Arc::clone(service) }),
        }
    }

    /// Whether nobody else finds a seat.
    pub(crate) fn are_taken(service: &ServiceCounts, seats: Option<&Seats>) -> bool {
        seats.is_some_and(|seats| service.udp_sessions.load(Ordering::Relaxed) >= seats.most)
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
        let service = Arc::new(ServiceCounts::default());
        let seats = |most| Seats::new(most, |_| Ok::<_, ()>(7)).unwrap();
        let (three, one) = (seats(3), seats(1));
        let taken: Vec<_> =
            (0..5).filter_map(|_| Seat::take(&service, Some(&three)).ok()).collect();
        assert_eq!(taken.len(), 3);
        assert_eq!(Seat::take(&service, Some(&one)).unwrap_err().id, 7, "a reload may say fewer");
        drop(taken);
        assert!(Seat::take(&service, Some(&one)).is_ok());
        assert!(Seat::take(&service, None).is_ok());
        assert_eq!(service.udp_sessions.load(Ordering::Relaxed), 0);
    }
}
