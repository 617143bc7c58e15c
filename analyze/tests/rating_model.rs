//! The rating engine against a plain calculation that shares nothing with it: byte by byte, with
//! whole numbers, the cents by long division.

use analyze::exact::{self, Exact};
use analyze::rating::{Measured, Plan};
use analyze::tariff::Tariffs;
use jiff::civil::date;
use proptest::prelude::*;
use schemas::vocab::PerDirection;

/// Ten thousandths of a euro, the grain of the prices here.
type Grains = u64;

/// A tier: its end in units, a unit's price, its fee.
type Tier = (u64, Grains, Grains);

#[derive(Debug, Clone)]
enum Price {
    PerUnit(Grains),
    Graduated(Vec<Tier>),
    Volume(Vec<Tier>),
    Package(u64, Grains),
}

#[derive(Debug, Clone)]
struct Case {
    binary: bool,
    bytes: u64,
    rounded_up: bool,
    allowance: u64,
    price: Price,
    discounts: [u64; 2],
    minimum: Option<u64>,
    maximum: Option<u64>,
    tax: u64,
}

fn euro(grains: Grains) -> String {
    format!("\"{}.{:04}\"", grains / 10_000, grains % 10_000)
}

impl Case {
    fn base(&self) -> u64 {
        if self.binary { 1024 } else { 1000 }
    }

    fn toml(&self) -> String {
        let tiers = |model: &str, tiers: &[Tier]| {
            let mut text = format!("model = \"{model}\"\ntiers = [\n");
            for (at, (end, price, fee)) in tiers.iter().enumerate() {
                let is_last = at + 1 == tiers.len();
                let end = if is_last { String::new() } else { format!("up_to = \"{end}\", ") };
                text += &format!("{{ {end}price = {}, fee = {} }},\n", euro(*price), euro(*fee));
            }
            text + "]"
        };
        let price = match &self.price {
            Price::PerUnit(price) => format!("price = {}", euro(*price)),
            Price::Graduated(all) => tiers("graduated", all),
            Price::Volume(all) => tiers("volume", all),
            Price::Package(size, price) => {
                format!("package = {{ size = \"{size}\", price = {} }}", euro(*price))
            }
        };
        let bound = |key: &str, cents: Option<u64>| {
            cents.map(|cents| format!("{key} = {}\n", euro(cents * 100))).unwrap_or_default()
        };
        format!(
            "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\ntax = \"{}%\"\n\
             [[tariff.item]]\nname = \"i\"\nmetric = \"sum\"\nunit = \"{}\"\n{}\n\
             rounding = {{ mode = \"{}\" }}\nallowance = \"{}\"\ndiscount = \"{}%\"\n{}{}\
             [[contract]]\nservice = \"s\"\ntariff = \"t\"\ndiscount = \"{}%\"\n",
            self.tax,
            if self.binary { "KiB" } else { "kB" },
            price,
            if self.rounded_up { "ceil" } else { "none" },
            self.allowance,
            self.discounts[0],
            bound("minimum", self.minimum),
            bound("maximum", self.maximum),
            self.discounts[1],
        )
    }

    /// Net and tax in cents.
    fn plainly(&self) -> (u64, u64) {
        let base = self.base();
        let bytes = if self.rounded_up { self.bytes.div_ceil(base) * base } else { self.bytes };
        let bytes = bytes.saturating_sub(self.allowance * base);
        let mut net: u64 = self.lines(bytes).into_iter().map(|line| self.cents(line)).sum();
        net = net.min(self.maximum.unwrap_or(u64::MAX));
        net = net.max(self.minimum.unwrap_or(0));
        // Half a cent up, as a clerk does it.
        let hundredths = net * self.tax;
        let tax = hundredths / 100 + u64::from(hundredths % 100 >= 50);
        (net, tax)
    }

    /// What the lines come to, in grains times the bytes of a unit.
    fn lines(&self, bytes: u64) -> Vec<u64> {
        let base = self.base();
        // Which tier byte number `at`, from 0, is in.
        let tier_of = |tiers: &[Tier], at: u64| {
            let last = tiers.len() - 1;
            tiers[..last].iter().position(|(end, ..)| at < end * base).unwrap_or(last)
        };
        match &self.price {
            Price::PerUnit(price) => vec![bytes * price],
            Price::Package(size, price) => {
                let mut packages = 0;
                while packages * size * base < bytes {
                    packages += 1;
                }
                vec![packages * price * base]
            }
            Price::Graduated(tiers) => {
                let mut sums = vec![0; tiers.len()];
                let mut entered = 0;
                for at in 0..bytes {
                    let tier = tier_of(tiers, at);
                    sums[tier] += tiers[tier].1;
                    entered = tier;
                }
                let fees = tiers[..=entered].iter().map(|(.., fee)| fee * base);
                sums.into_iter().chain(fees).collect()
            }
            Price::Volume(tiers) => {
                let (_, price, fee) = tiers[tier_of(tiers, bytes.saturating_sub(1))];
                vec![bytes * price, fee * base]
            }
        }
    }

    /// A line in cents, after both discounts.
    fn cents(&self, line: u64) -> u64 {
        let off = self.discounts.map(|percent| u128::from(100 - percent));
        let dividend = u128::from(line) * off[0] * off[1];
        let cent = u128::from(self.base()) * 100 * 10_000;
        let (cents, rest) = (dividend / cent, dividend % cent);
        u64::try_from(cents).expect("prices are small") + u64::from(rest * 2 >= cent)
    }
}

fn tiers() -> impl Strategy<Value = Vec<Tier>> {
    prop::collection::vec((1u64..8, 0u64..30_000, prop_oneof![Just(0u64), 0u64..20_000]), 1..5)
        .prop_map(|steps| {
            let mut end = 0;
            let tier = |(width, price, fee)| {
                end += width;
                (end, price, fee)
            };
            steps.into_iter().map(tier).collect()
        })
}

fn price() -> impl Strategy<Value = Price> {
    prop_oneof![
        (0u64..100_000).prop_map(Price::PerUnit),
        tiers().prop_map(Price::Graduated),
        tiers().prop_map(Price::Volume),
        (1u64..5, 0u64..100_000).prop_map(|(size, price)| Price::Package(size, price)),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    let bounds = (prop::option::of(0u64..2000), prop::option::of(0u64..5000), 0u64..30);
    // Edges of units are where right becomes wrong.
    let edge = |count: u64| prop_oneof![Just(1000u64), Just(1024u64)].prop_map(move |b| b * count);
    let bytes = prop_oneof![0u64..25_000, (0u64..20).prop_flat_map(edge), Just(0u64)];
    (any::<bool>(), bytes, any::<bool>(), 0u64..4, price(), 0u64..=100, 0u64..=100, bounds)
        .prop_map(
            |(binary, bytes, rounded_up, allowance, price, own, contract, (low, width, tax))| {
                Case {
                    binary,
                    bytes,
                    rounded_up,
                    allowance,
                    price,
                    discounts: [own, contract],
                    minimum: low,
                    maximum: width.map(|width| low.unwrap_or(0) + width),
                    tax,
                }
            },
        )
}

fn of_cents(cents: u64) -> Exact {
    exact::fraction(cents, 100)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn the_engine_comes_to_what_a_clerk_comes_to(case in case(), up in 0u64..=100) {
        let text = case.toml();
        let tariffs = Tariffs::parse("f", &text);
        let tariffs = tariffs.unwrap_or_else(|faults| panic!("{faults}"));
        let contract = &tariffs.contracts[0];
        let plan = Plan::new(&tariffs, contract, date(2026, 10, 1));
        let plan = plan.expect("there are prices").expect("the contract holds");
        let up = i128::from(case.bytes * up / 100);
        let down = i128::from(case.bytes) - up;
        let rated = plan.rate(&[Measured::Bytes(PerDirection { up, down })]);
        let rated = rated.expect("the answer is of the right kind");
        let none = std::collections::BTreeMap::new();
        let totals = analyze::rating::Totals::of(
            plan.tariff.currency, plan.period, rated.lines(), &contract.credits, &none,
        );
        let (net, tax) = case.plainly();
        prop_assert_eq!(&totals.net, &of_cents(net), "{}", text);
        prop_assert_eq!(&totals.gross, &(of_cents(net) + of_cents(tax)), "{}", text);
        // Every line is what it says of itself.
        for line in rated.lines() {
            let gross = &line.quantity * &line.unit_price - &line.discount;
            prop_assert_eq!(&plan.tariff.currency.round(&gross), &line.amount);
        }
    }
}
