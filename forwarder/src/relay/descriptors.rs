//! How many descriptors sessions may hold, so that spool, link and admin always find one.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that sessions leave free.
const RESERVED: usize = 64;

/// The descriptors that sessions may hold, shared by all threads. It lives as long as the process,
/// so that a permit costs no reference count.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptors {
    free: &'static AtomicUsize,
}

/// Descriptors taken by one session; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    from: Descriptors,
    count: usize,
}

impl Descriptors {
    /// Raises the soft limit of open files to the hard one and takes stock. `listeners`: the
    /// descriptors that listeners and threads need.
    pub(crate) fn raise_limit(listeners: usize) -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        let current = match setrlimit(Resource::Nofile, raised) {
            Ok(()) => raised.current,
            Err(error) => {
                tracing::warn!(%error, "the limit of open files stays where it is");
                limit.current
            }
        };
        let all = current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX));
        Self::with(all.saturating_sub(RESERVED + listeners))
    }

    /// So many descriptors.
    pub(crate) fn with(free: usize) -> Self {
        Self { free: Box::leak(Box::new(AtomicUsize::new(free))) }
    }

    /// Takes `count` of them. `None`: too few are left.
    pub(crate) fn take(&self, count: usize) -> Option<Permit> {
        self.free
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(count))
            .ok()
            .map(|_| Permit { from: *self, count })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.from.free.fetch_add(self.count, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back() {
        let descriptors = Descriptors::with(3);
        let first = descriptors.take(2).unwrap();
        assert!(descriptors.take(2).is_none());
        drop(first);
        assert!(descriptors.take(3).is_some());
    }
}
