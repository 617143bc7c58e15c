//! Medians and their spread.

/// The middle of some measurements, and how far they lie apart.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The one in the middle, or between the middle two.
    pub median: f64,
    /// The lowest.
    pub min: f64,
    /// The highest.
    pub max: f64,
    /// How many there are.
    pub count: usize,
}

impl Spread {
    /// None when nothing was measured.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        };
        Some(Self { median, min, max, count: sorted.len() })
    }
}

/// The value that `percent` of 100 do not exceed; 0 when there are none. Reorders `values`.
pub fn percentile(values: &mut [u32], percent: usize) -> u32 {
    let Some(last) = values.len().checked_sub(1) else { return 0 };
    let rank = (values.len() * percent).div_ceil(100).saturating_sub(1).min(last);
    *values.select_nth_unstable(rank).1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]);
        assert_eq!(spread, Some(Spread { median: 2.5, min: 1.0, max: 4.0, count: 4 }));
        assert_eq!(Spread::of(&[7.0, 9.0, 8.0]).map(|spread| spread.median), Some(8.0));
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut values: Vec<u32> = (1..=200).rev().collect();
        assert_eq!(percentile(&mut values, 50), 100);
        assert_eq!(percentile(&mut values, 99), 198);
        assert_eq!(percentile(&mut values, 100), 200);
        assert_eq!(percentile(&mut [5], 99), 5);
        assert_eq!(percentile(&mut [], 50), 0);
    }
}
