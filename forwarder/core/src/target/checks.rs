//! What active checks say about a target.

/// Counts the checks of one target until they decide.
///
/// The first check decides by itself, since nothing is known before it. From then on it takes
/// `fall` failed checks in a row to take a target down, and `rise` good ones to bring it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Checks {
    /// `None`: never checked.
    up: Option<bool>,
    /// Checks in a row that say otherwise.
    against: u32,
}

impl Checks {
    /// What the checks say; `None`: there was none.
    pub fn up(&self) -> Option<bool> {
        self.up
    }

    /// Takes the outcome of a check. Gives what the target is from now on, if that changes.
    pub fn checked(&mut self, good: bool, rise: u32, fall: u32) -> Option<bool> {
        if self.up == Some(good) {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let enough = if good { rise } else { fall };
        if self.up.is_some() && self.against < enough {
            return None;
        }
        self.against = 0;
        self.up = Some(good);
        self.up
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_check_decides_and_later_ones_have_to_agree() {
        let mut checks = Checks::default();
        let mut check = |good| checks.checked(good, 2, 3);
        assert_eq!(check(false), Some(false));
        assert_eq!([check(true), check(false), check(true)], [None; 3]);
        assert_eq!(check(true), Some(true));
        assert_eq!([check(false), check(false), check(true)], [None; 3]);
        assert_eq!([check(false), check(false), check(false)], [None, None, Some(false)]);
    }

    proptest! {
        #[test]
        fn a_target_changes_after_so_many_checks_in_a_row(
            outcomes in prop::collection::vec(any::<bool>(), 1..100),
            rise in 1_u32..5,
            fall in 1_u32..5,
        ) {
            let mut checks = Checks::default();
            let mut up = outcomes[0];
            for (index, good) in outcomes.iter().enumerate() {
                let changed = checks.checked(*good, rise, fall);
                let enough = if *good { rise } else { fall } as usize;
                let last = &outcomes[(index + 1).saturating_sub(enough)..=index];
                let agreed = last.len() == enough && last.iter().all(|one| one == good);
                // What was counted before the target changed last counts no more; since then every
                // outcome that agrees with what it is has begun the count anew.
                if agreed && up != *good {
                    up = *good;
                    prop_assert_eq!(changed, Some(up));
                } else if index > 0 {
                    prop_assert_eq!(changed, None);
                }
                prop_assert_eq!(checks.up(), Some(up));
            }
        }
    }
}
