//! Why a target could not be reached.

use schemas::vocab::EndReason;

/// Why a target could not be reached. Error numbers are Linux's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialFailure {
    /// There is no target to dial.
    NoTarget,
    /// The target is one of our own listeners.
    Loop,
    /// Its name did not resolve in time, or to nothing.
    Resolve,
    /// It refused.
    Refused(i32),
    /// There is no way to it.
    Unreachable(i32),
    /// It did not answer in time.
    Timeout,
    /// We have no descriptor, memory or source port left for it.
    Resource(i32),
}

/// Linux error numbers that a connect may give.
mod errno {
    pub(super) const ENOMEM: i32 = 12;
    pub(super) const ENFILE: i32 = 23;
    pub(super) const EMFILE: i32 = 24;
    pub(super) const EADDRINUSE: i32 = 98;
    pub(super) const EADDRNOTAVAIL: i32 = 99;
    pub(super) const ECONNRESET: i32 = 104;
    pub(super) const ENOBUFS: i32 = 105;
    pub(super) const ETIMEDOUT: i32 = 110;
    pub(super) const ECONNREFUSED: i32 = 111;
}

impl DialFailure {
    /// What the error number of a failed connect means; a number that says nothing about the
    /// target's host or ours counts as no way to it.
    pub fn from_errno(errno: i32) -> Self {
        match errno {
            errno::ECONNREFUSED | errno::ECONNRESET => Self::Refused(errno),
            errno::ETIMEDOUT => Self::Timeout,
            errno::EMFILE
            | errno::ENFILE
            | errno::ENOMEM
            | errno::ENOBUFS
            | errno::EADDRINUSE
            | errno::EADDRNOTAVAIL => Self::Resource(errno),
            _ => Self::Unreachable(errno),
        }
    }

    /// Whether another target may do better.
    pub fn is_worth_another(self) -> bool {
        // Source ports are used up towards one target, not towards all.
        self.is_the_targets() || self == Self::Resource(errno::EADDRNOTAVAIL)
    }

    /// Whether it says something about the target rather than about us.
    pub fn is_the_targets(self) -> bool {
        match self {
            Self::Resolve | Self::Refused(_) | Self::Unreachable(_) | Self::Timeout => true,
            Self::NoTarget | Self::Loop | Self::Resource(_) => false,
        }
    }

    /// The reason a session ends for when no target is left to try.
    pub fn reason(self) -> EndReason {
        match self {
            Self::NoTarget => EndReason::NoTarget,
            Self::Loop => EndReason::Loop,
            Self::Resolve => EndReason::ResolveFailed,
            Self::Refused(_) => EndReason::TargetRefused,
            Self::Unreachable(_) => EndReason::TargetUnreachable,
            Self::Timeout => EndReason::ConnectTimeout,
            Self::Resource(_) => EndReason::Resource,
        }
    }

    /// The error number, 0 where there is none.
    pub fn errno(self) -> i32 {
        match self {
            Self::NoTarget | Self::Loop | Self::Resolve | Self::Timeout => 0,
            Self::Refused(errno) | Self::Unreachable(errno) | Self::Resource(errno) => errno,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_shortage_is_not_blamed_on_the_target() {
        for errno in [errno::EMFILE, errno::EADDRNOTAVAIL, errno::ENOBUFS] {
            let failure = DialFailure::from_errno(errno);
            assert_eq!(failure.reason(), EndReason::Resource);
            assert!(!failure.is_the_targets());
            assert_eq!(failure.is_worth_another(), errno == errno::EADDRNOTAVAIL);
        }
    }

    #[test]
    fn an_unknown_error_means_no_way_to_the_target() {
        assert_eq!(DialFailure::from_errno(113), DialFailure::Unreachable(113));
    }
}
