//! From the slots of a period to the one that decides a percentile. Pure; whole numbers only.

use schemas::vocab::PerDirection;

use crate::rating::Figure;
use crate::tariff::{Missing, Mode, Percentile, Rank};

/// A slot that is expected to be ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranked {
    /// Where it begins, microseconds since 1970 UTC.
    pub start_us: i64,
    /// What passed, summed over all sessions, rules and forwarders.
    pub bytes: PerDirection<i64>,
    /// Whether all of it was measured.
    pub known: bool,
}

/// The number, from 1, of the slot that is the figure when `slots` of them are ranked from the
/// smallest on; `slots` is not 0.
pub fn rank(rank: Rank, percent: u8, slots: u64) -> u64 {
    let percent = u64::from(percent);
    let nearest = |hundredths: u64| (2 * hundredths + 100) / 200;
    let place = match rank {
        Rank::Ceil => (percent * slots).div_ceil(100),
        Rank::Round => nearest(percent * slots),
        Rank::HalfEven => {
            let hundredths = percent * slots;
            let is_half = hundredths % 100 == 50;
            let down = hundredths / 100;
            if is_half && down.is_multiple_of(2) { down } else { nearest(hundredths) }
        }
        Rank::Rrd => nearest(percent * (slots - 1)) + 1,
        Rank::Cacti => slots - ((100 - percent) * slots).div_ceil(100),
    };
    place.clamp(1, slots)
}

/// The figure of a contract over its slots, which ascend.
pub fn figure(contract: &Percentile, slots: &[Ranked], slot_len_s: u32) -> Figure {
    let counted = filled(contract.missing, slots);
    let decide = |measure: &dyn Fn(PerDirection<i64>) -> i64| decide(contract, &counted, measure);
    let up = || decide(&|bytes| bytes.up);
    let down = || decide(&|bytes| bytes.down);
    let deciding = match contract.mode {
        Mode::In => up(),
        Mode::Out => down(),
        Mode::P95OfSum => decide(&|bytes| bytes.up + bytes.down),
        Mode::P95OfMax => decide(&|bytes| bytes.up.max(bytes.down)),
        // Of equal figures the first slot is named.
        Mode::MaxOfP95 => {
            up().into_iter().chain(down()).min_by_key(|(bytes, start)| (-bytes, *start))
        }
    };
    Figure {
        bytes: deciding.map_or(0, |(bytes, _)| i128::from(bytes)),
        slot_len_s,
        slot_start_us: deciding.map(|(_, start_us)| start_us),
        expected: slots.len() as u64,
        known: slots.iter().filter(|slot| slot.known).count() as u64,
    }
}

/// The slots that are ranked, with what they count.
fn filled(missing: Missing, slots: &[Ranked]) -> Vec<Ranked> {
    let mut last = None;
    let mut counted = Vec::with_capacity(slots.len());
    for slot in slots {
        let bytes = match (slot.known, missing) {
            (true, _) => Some(slot.bytes),
            (false, Missing::Exclude) => None,
            (false, Missing::Zero) => Some(PerDirection { up: 0, down: 0 }),
            (false, Missing::Hold) => last,
        };
        last = bytes.or(last);
        counted.extend(bytes.map(|bytes| Ranked { bytes, ..*slot }));
    }
    counted
}

/// The bytes of the slot at the contract's rank, and the first slot that has as many.
fn decide(
    contract: &Percentile,
    slots: &[Ranked],
    measure: &dyn Fn(PerDirection<i64>) -> i64,
) -> Option<(i64, i64)> {
    let mut values: Vec<i64> = slots.iter().map(|slot| measure(slot.bytes)).collect();
    if values.is_empty() {
        return None;
    }
    let place = rank(contract.rank, contract.percent, values.len() as u64);
    let at = usize::try_from(place - 1).unwrap_or(usize::MAX).min(values.len() - 1);
    let (_, bytes, _) = values.select_nth_unstable(at);
    let bytes = *bytes;
    let first = slots.iter().find(|slot| measure(slot.bytes) == bytes)?;
    Some((bytes, first.start_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MBIT: i64 = 1_000_000 * 300 / 8;

    fn contract(mode: Mode, missing: Missing) -> Percentile {
        Percentile { percent: 95, mode, rank: Rank::Ceil, missing, slot_s: None }
    }

    fn slots(mbit: impl IntoIterator<Item = (i64, i64, bool)>) -> Vec<Ranked> {
        let slot = |(at, (up, down, known)): (i64, (i64, i64, bool))| Ranked {
            start_us: at * 300_000_000,
            bytes: PerDirection { up: up * MBIT, down: down * MBIT },
            known,
        };
        (0..).zip(mbit).map(slot).collect()
    }

    fn mbit(mode: Mode, missing: Missing, slots: &[Ranked]) -> i128 {
        figure(&contract(mode, missing), slots, 300).bytes / i128::from(MBIT)
    }

    #[test]
    fn each_tool_takes_the_slot_that_it_takes() {
        for (slots, ranks) in [
            (20, [19, 19, 19, 19, 19]),
            (30, [29, 29, 28, 29, 28]),
            (31, [30, 29, 29, 30, 29]),
            (8640, [8208, 8208, 8208, 8208, 8208]),
            (8928, [8482, 8482, 8482, 8482, 8481]),
            (8916, [8471, 8470, 8470, 8470, 8470]),
            (1, [1, 1, 1, 1, 1]),
        ] {
            let found = [Rank::Ceil, Rank::Round, Rank::HalfEven, Rank::Rrd, Rank::Cacti]
                .map(|which| rank(which, 95, slots));
            assert_eq!(found, ranks, "{slots}");
        }
    }

    #[test]
    fn directions_are_ranked_as_the_contract_says() {
        let slots = slots((1..=20).map(|up| (up, if up == 1 { 100 } else { 5 }, true)));
        let of = |mode| mbit(mode, Missing::Exclude, &slots);
        assert_eq!((of(Mode::In), of(Mode::Out)), (19, 5));
        let all = (of(Mode::MaxOfP95), of(Mode::P95OfMax), of(Mode::P95OfSum));
        assert_eq!(all, (19, 20, 25));
        let figure = figure(&contract(Mode::MaxOfP95, Missing::Exclude), &slots, 300);
        assert_eq!(figure.slot_start_us, Some(18 * 300_000_000));
    }

    #[test]
    fn slots_of_which_nothing_is_known_count_as_the_contract_says() {
        let seen = |known| {
            slots((1..=20).map(move |up| (if up > 16 { 0 } else { up }, 0, known || up <= 16)))
        };
        let of = |missing, known| mbit(Mode::In, missing, &seen(known));
        assert_eq!((of(Missing::Exclude, false), of(Missing::Zero, false)), (16, 15));
        assert_eq!(of(Missing::Hold, false), 16);
        assert_eq!(of(Missing::Exclude, true), 15);
        let figure = figure(&contract(Mode::In, Missing::Exclude), &seen(false), 300);
        assert_eq!((figure.expected, figure.known), (20, 16));
        let none = slots([(7, 7, false)]);
        assert_eq!(mbit(Mode::In, Missing::Exclude, &none), 0);
        assert_eq!(mbit(Mode::In, Missing::Hold, &none), 0);
    }
}
