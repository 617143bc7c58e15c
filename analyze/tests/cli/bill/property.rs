//! Invoices are what a plain calculation in whole numbers comes to.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use schemas::table::Usage;
use serde_json::Value;

use super::scene::{Office, known, us, usage};

const CUSTOMERS: [&str; 3] = ["acme", "globex", "initech"];
const SERVICES: [&str; 2] = ["web", "dns"];
/// Whole programs are run, so the cases are few.
const CASES: u32 = 24;
const SLOTS_OF_MONTHS: i64 = 61 * 288;

#[derive(Debug, Clone)]
struct Row {
    customer: usize,
    service: usize,
    /// From the middle of September on.
    slot: i64,
    up: i64,
    down: i64,
    datagrams: i64,
    first: bool,
}

#[derive(Debug, Clone)]
struct Item {
    metric: &'static str,
    service: Option<usize>,
    model: Model,
    tax: i128,
    discount: i128,
    maximum: Option<i128>,
}

/// Prices are in ten-thousandths of a coin's hundredfold: 1 is 0.0001.
#[derive(Debug, Clone)]
enum Model {
    Unit { allowance: i128, price: i128 },
    Graduated { up_to: i128, low: i128, high: i128 },
    Volume { up_to: i128, low: i128, high: i128 },
    Package { size: i128, price: i128 },
    Windows { peak: i128, rest: i128 },
}

fn row() -> impl Strategy<Value = Row> {
    let place = (0..3_usize, 0..2_usize, 0..SLOTS_OF_MONTHS);
    let moved = (0..5_000_000_000_i64, 0..5_000_000_000_i64, 0..9_000_i64, any::<bool>());
    (place, moved).prop_map(|((customer, service, slot), (up, down, datagrams, first))| Row {
        customer,
        service,
        slot,
        up,
        down,
        datagrams,
        first,
    })
}

fn item() -> impl Strategy<Value = Item> {
    let metric = prop::sample::select(vec!["up", "down", "sum", "max", "sessions", "datagrams"]);
    let price = || 0..20_000_i128;
    let model = prop_oneof![
        (0..4_000_i128, price()).prop_map(|(allowance, price)| Model::Unit { allowance, price }),
        (1..4_000_i128, price(), price()).prop_map(|(up_to, low, high)| Model::Graduated {
            up_to,
            low,
            high
        }),
        (1..4_000_i128, price(), price()).prop_map(|(up_to, low, high)| Model::Volume {
            up_to,
            low,
            high
        }),
        (1..900_i128, price()).prop_map(|(size, price)| Model::Package { size, price }),
        (price(), price()).prop_map(|(peak, rest)| Model::Windows { peak, rest }),
    ];
    let service = prop::option::of(0..2_usize);
    let maximum = prop::option::of(0..30_000_i128);
    (metric, service, model, 0..3_i128, 0..3_i128, maximum).prop_map(
        |(metric, service, model, tax, discount, maximum)| Item {
            metric,
            service,
            model,
            tax: tax * 7,
            discount: discount * 5,
            maximum,
        },
    )
}

fn price(ten_thousandths: i128) -> String {
    format!("\"{}.{:04}\"", ten_thousandths / 10_000, ten_thousandths % 10_000)
}

fn coins(cents: i128) -> String {
    let sign = if cents < 0 { "-" } else { "" };
    format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100)
}

impl Item {
    /// Bytes in an MB, or one.
    fn base(&self) -> i128 {
        if matches!(self.metric, "sessions" | "datagrams") { 1 } else { 1_000_000 }
    }

    fn toml(&self, at: usize) -> String {
        let unit = if self.base() > 1 { "unit = \"MB\"\n" } else { "" };
        let services = self
            .service
            .map(|at| format!("services = [\"{}\"]\n", SERVICES[at]))
            .unwrap_or_default();
        let maximum = self
            .maximum
            .map(|cents| format!("maximum = \"{}\"\n", coins(cents)))
            .unwrap_or_default();
        let tiers = |model: &str, up_to: i128, low: i128, high: i128| {
            format!(
                "model = \"{model}\"\ntiers = [{{ up_to = \"{up_to}\", price = {} }}, {{ price = {} }}]",
                price(low),
                price(high)
            )
        };
        let model = match self.model {
            Model::Unit { allowance, price: each } => {
                format!("allowance = \"{allowance}\"\nprice = {}", price(each))
            }
            Model::Graduated { up_to, low, high } => tiers("graduated", up_to, low, high),
            Model::Volume { up_to, low, high } => tiers("volume", up_to, low, high),
            Model::Package { size, price: each } => {
                format!("package = {{ size = \"{size}\", price = {} }}", price(each))
            }
            Model::Windows { peak, rest } => format!(
                "windows = [{{ name = \"peak\", hours = [\"08:00-20:00\"], price = {} }}, {{ name = \"rest\", price = {} }}]",
                price(peak),
                price(rest)
            ),
        };
        format!(
            "[[tariff.item]]\nname = \"i{at}\"\nmetric = \"{}\"\ntax = \"{}%\"\ndiscount = \"{}%\"\n{unit}{services}{maximum}{model}\n",
            self.metric, self.tax, self.discount
        )
    }

    /// What was measured of `rows`, in base units.
    fn measured(&self, rows: &[&Row]) -> i128 {
        let mine = || rows.iter().filter(|row| self.service.is_none_or(|at| at == row.service));
        let up: i128 = mine().map(|row| i128::from(row.up)).sum();
        let down: i128 = mine().map(|row| i128::from(row.down)).sum();
        match self.metric {
            "up" => up,
            "down" => down,
            "sum" => up + down,
            "max" => up.max(down),
            "sessions" => mine().map(|row| i128::from(row.first)).sum(),
            _ => mine().map(|row| i128::from(row.datagrams)).sum(),
        }
    }

    /// The amounts of the lines, in cents.
    fn lines(&self, rows: &[&Row]) -> Vec<i128> {
        let base = self.base();
        // Base units at a price of ten-thousandths for `base` of them, to the cent.
        let cents = |quantity: i128, price: i128| {
            nearest(quantity * price * (100 - self.discount), base * 100 * 100)
        };
        let quantity = self.measured(rows);
        let mut lines = match self.model {
            Model::Unit { allowance, price } => {
                vec![cents((quantity - allowance * base).max(0), price)]
            }
            Model::Graduated { up_to, low, high } => {
                let bound = up_to * base;
                let mut lines = vec![cents(quantity.min(bound), low)];
                if quantity > bound {
                    lines.push(cents(quantity - bound, high));
                }
                lines
            }
            Model::Volume { up_to, low, high } => {
                vec![cents(quantity, if quantity <= up_to * base { low } else { high })]
            }
            Model::Package { size, price } => {
                let packages = (quantity + size * base - 1) / (size * base);
                vec![cents(packages * base, price)]
            }
            Model::Windows { peak, rest } => {
                let (day, night): (Vec<&Row>, Vec<&Row>) =
                    rows.iter().partition(|row| (96..240).contains(&(row.slot % 288)));
                vec![cents(self.measured(&day), peak), cents(self.measured(&night), rest)]
            }
        };
        let sum: i128 = lines.iter().sum();
        lines.extend(self.maximum.filter(|maximum| sum > *maximum).map(|maximum| maximum - sum));
        lines
    }
}

/// The quotient of numbers that are not negative, halves up.
fn nearest(number: i128, of: i128) -> i128 {
    (2 * number + of) / (2 * of)
}

#[test]
fn a_bill_is_what_a_plain_calculation_comes_to() {
    let strategy = (prop::collection::vec(row(), 0..60), prop::collection::vec(item(), 1..5));
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    runner.run(&strategy, |(rows, items)| check(&rows, &items)).unwrap();
}

fn check(rows: &[Row], items: &[Item]) -> Result<(), TestCaseError> {
    let start = us("2026-09-15T00:00:00Z");
    let table = (1..).zip(rows).map(|(no, row)| Usage {
        service: SERVICES[row.service].to_owned(),
        slot_start: start + row.slot * 300_000_000,
        bytes_up: row.up,
        datagrams_up: row.datagrams / 3,
        datagrams_down: row.datagrams - row.datagrams / 3,
        is_first: row.first,
        ..usage(CUSTOMERS[row.customer], no, "2026-10-01T00:00:00Z", row.down)
    });
    let mut text = "[[tariff]]\nname = \"t\"\ncurrency = \"EUR\"\n".to_owned();
    text.extend(items.iter().enumerate().map(|(at, item)| item.toml(at)));
    for customer in CUSTOMERS {
        text.push_str(&format!("[[contract]]\ncustomer = \"{customer}\"\ntariff = \"t\"\n"));
    }
    let office = Office::new(&known(table.collect()), &text);
    // Half of September lies before it, and some of November behind.
    let october = 16 * 288..(16 + 31) * 288;
    for (at, invoice) in office.invoices("2026-10").iter().enumerate() {
        let mine: Vec<&Row> =
            rows.iter().filter(|row| row.customer == at && october.contains(&row.slot)).collect();
        let mut lines = Vec::new();
        let mut by_rate = BTreeMap::<i128, i128>::new();
        for item in items {
            let amounts = item.lines(&mine);
            *by_rate.entry(item.tax).or_default() += amounts.iter().sum::<i128>();
            lines.extend(amounts);
        }
        let tax: i128 = by_rate.iter().map(|(rate, net)| nearest(net * rate, 100)).sum();
        let net: i128 = lines.iter().sum();
        let shown: Vec<Value> = lines.iter().map(|cents| Value::from(coins(*cents))).collect();
        let billed = invoice["lines"].as_array().unwrap().iter();
        let billed: Vec<Value> = billed.map(|line| line["amount"].clone()).collect();
        prop_assert_eq!(billed, shown, "{} {}", CUSTOMERS[at], text);
        prop_assert_eq!(&invoice["totals"]["net"], &Value::from(coins(net)));
        prop_assert_eq!(&invoice["totals"]["due"], &Value::from(coins(net + tax)));
    }
    Ok(())
}
