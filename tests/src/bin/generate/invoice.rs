//! What customers pay by sample-tariffs.toml, worked out for just those prices in whole cents.

use serde_json::{Value, json};

const SAMPLE: &str = include_str!("sample-tariffs.toml");
const TARIFFS: [&str; 3] = ["volume", "transit", "daytime"];
const GB: u128 = 1_000_000_000;
/// Bits of a slot at 0.5 Mbit/s.
const COMMITTED: u128 = 500_000 * 300;

/// What a customer is charged for.
#[derive(Debug)]
pub(crate) struct Quantities {
    /// Bytes in both directions.
    pub(crate) sum: u64,
    /// Bytes of the slot that decides.
    pub(crate) p95: u64,
    /// Bytes down by day.
    pub(crate) peak: u64,
    /// Bytes down.
    pub(crate) down: u64,
    pub(crate) sessions: u64,
}

impl Quantities {
    /// The invoice of the customer of this number.
    pub(crate) fn invoice(&self, customer: usize) -> Value {
        let tariff = customer % TARIFFS.len();
        let lines = match tariff {
            0 => self.volume(),
            1 => self.transit(),
            _ => self.daytime(),
        };
        let net = lines.iter().sum();
        let tax = rounded(net * 19, 100);
        let amounts = lines.iter().filter(|cents| **cents != 0).map(|cents| amount(*cents));
        json!({
            "tariff": TARIFFS[tariff],
            "lines": amounts.collect::<Vec<_>>(),
            "net": amount(net),
            "tax": amount(tax),
            "total": amount(net + tax),
        })
    }

    /// A port for 25.00; 0.5 GB free, then 1 GB at 0.10, up to 100 GB at 0.05, the rest at 0.01, all
    /// less 10 %.
    fn volume(&self) -> Vec<u128> {
        let bytes = u128::from(self.sum).saturating_sub(GB / 2);
        let tier = |from: u128, to: u128, cents: u128| {
            rounded((bytes.clamp(from, to) - from) * cents * 90, GB * 100)
        };
        vec![2500, tier(0, GB, 10), tier(GB, 100 * GB, 5), tier(100 * GB, u128::MAX, 1)]
    }

    /// 0.5 Mbit/s at 2.00 a Mbit/s, above that at 3.00.
    fn transit(&self) -> Vec<u128> {
        let above = (u128::from(self.p95) * 8).saturating_sub(COMMITTED);
        vec![100, rounded(above * 300, 2 * COMMITTED)]
    }

    /// 0.05 a GB by day and 0.02 by night, at least 5.00; 0.09 for each begun hundred of sessions.
    fn daytime(&self) -> Vec<u128> {
        let peak = rounded(u128::from(self.peak) * 5, GB);
        let other = rounded(u128::from(self.down - self.peak) * 2, GB);
        let minimum = 500_u128.saturating_sub(peak + other);
        vec![peak, other, minimum, u128::from(self.sessions.div_ceil(100)) * 9]
    }
}

/// The tariffs, and a contract for each customer.
pub(crate) fn tariffs(customers: &[String]) -> String {
    let mut text = SAMPLE.to_owned();
    for (number, customer) in customers.iter().enumerate() {
        let tariff = TARIFFS[number % TARIFFS.len()];
        text += &format!("\n[[contract]]\ncustomer = \"{customer}\"\ntariff   = \"{tariff}\"\n");
    }
    text
}

/// A fraction as a whole number, halves up.
const fn rounded(numerator: u128, denominator: u128) -> u128 {
    (2 * numerator + denominator) / (2 * denominator)
}

fn amount(cents: u128) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_worked_out_as_by_hand() {
        let of = Quantities {
            sum: 250_500_000_000,
            // 1.5 Mbit/s.
            p95: 56_250_000,
            peak: 40_000_000_000,
            down: 100_000_000_000,
            sessions: 101,
        };
        // 25 + 0.09 + 4.455 + 1.35
        assert_eq!(of.invoice(0)["lines"], json!(["25.00", "0.09", "4.46", "1.35"]));
        assert_eq!(of.invoice(1)["lines"], json!(["1.00", "3.00"]));
        // 2.00 + 1.20, 1.80 up to the minimum, two packages
        assert_eq!(of.invoice(2)["lines"], json!(["2.00", "1.20", "1.80", "0.18"]));
        assert_eq!(of.invoice(2)["total"], "6.16");
    }
}
