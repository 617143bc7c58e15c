//! `analyze margin`

use std::collections::BTreeMap;
use std::path::Path;

use num_traits::{Signed as _, ToPrimitive as _, Zero as _};

use super::grouping::{Grouping, refuse_times};
use super::{ALL, Question, Verdict, answer};
use crate::cell::Cell;
use crate::cli::{FilterArgs, Key, MarginArgs};
use crate::coverage;
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::exact::{self, Exact};
use crate::failure::Failure;
use crate::figures;
use crate::period::Period;
use crate::sql;

/// Fewest digits behind the point that money is rounded to; more when the revenue has more.
const PLACES: u32 = 2;
/// Most digits behind the point of money.
const MAX_PLACES: u32 = 9;
const MBIT: i64 = 1_000_000;

pub(super) fn run(args: &MarginArgs, data: &Path) -> Result<Verdict, Failure> {
    let common = &args.common;
    let period = super::period(common)?;
    refuse_times("margin", &common.by)?;
    if common.by.len() > 1 {
        return Err(Failure::Usage("margin takes one key: revenue has one".to_owned()));
    }
    refuse_filters(&common.filter)?;
    let price = exact::decimal(&args.cost_per_mbps)
        .filter(|price| !price.is_negative())
        .ok_or_else(|| {
            Failure::Usage(format!(
                "--cost-per-mbps {:?} is no price: write a decimal, as in 1.50",
                args.cost_per_mbps
            ))
        })?;
    let revenue = Revenue::read(&args.revenue)?;
    let dataset = Dataset::open(data)?;
    let reach = coverage::reach(&period);
    let database =
        Database::open(&dataset, &[Wanted::of("usage", &period), Wanted::of("slots", &reach)])?;
    let slots = Slots::count(&database, &period)?;
    let grouping = Grouping::new(
        &common.by,
        &[Key::Customer],
        &[Key::Reason, Key::Limit],
        ("usage", "slot_start"),
        &dataset,
        &period,
    )?;
    let statement = include_str!("../query/margin.sql")
        .replace("{keys}", &grouping.keys)
        .replace("{key}", &grouping.names)
        .replace("{slot_us}", &(slots.length_s.max(1) * 1_000_000).to_string())
        .replace("{place}", &slots.place().to_string())
        .replace("{where}", &sql::all(&sql::in_period("slot_start", &period)));
    let found = database.query("rank the slots", &statement)?;
    let ranked: Vec<Ranked> = found.cells().filter_map(|row| Ranked::of(&row)).collect();
    let rows = rows(&ranked, &revenue, &price, slots.length_s);
    let statement = relation(&grouping.names, &rows, revenue.places);
    let order = format!("margin DESC, {}", grouping.names);
    let question = Question { what: "compute margins", statement, shown: ALL, order };
    answer((&dataset, &database), &question, common, &period)?;
    Ok(Verdict::Fine)
}

/// The cost is that of all traffic: of a part of it nobody can say what it costs.
fn refuse_filters(filter: &FilterArgs) -> Result<(), Failure> {
    match filter.describe(None) {
        None => Ok(()),
        Some(given) => Err(Failure::Usage(format!(
            "margin shares the cost of all traffic and takes no filter ({given}); choose rows with --having"
        ))),
    }
}

/// What the keys pay.
struct Revenue {
    amounts: BTreeMap<String, Exact>,
    /// Digits behind the point of all money of the report.
    places: u32,
}

impl Revenue {
    fn read(path: &Path) -> Result<Self, Failure> {
        let mut amounts = BTreeMap::new();
        let mut places = PLACES;
        for (line, key, value) in figures::rows(path, "amount")? {
            let digits = value.split_once('.').map_or(0, |(_, behind)| behind.len());
            let digits = u32::try_from(digits).unwrap_or(u32::MAX);
            let amount = exact::decimal(&value).filter(|_| digits <= MAX_PLACES).ok_or_else(|| {
                figures::fault(
                    path,
                    line,
                    &format!("{value:?} is no amount: write a decimal with at most {MAX_PLACES} digits behind the point, as in 47.00"),
                )
            })?;
            places = places.max(digits);
            amounts.insert(key, amount);
        }
        Ok(Self { amounts, places })
    }
}

/// The slots that are ranked.
struct Slots {
    known: i64,
    length_s: i64,
}

impl Slots {
    fn count(database: &Database, period: &Period) -> Result<Self, Failure> {
        let edge = |us: Option<i64>| us.map_or_else(|| "NULL::TIMESTAMP".to_owned(), sql::time);
        let ends = period
            .since
            .map(|us| format!("slot_start + to_seconds(slot_len_s) > {}", sql::time(us)));
        let begins = period.until.map(|us| format!("slot_start < {}", sql::time(us)));
        let touching: Vec<String> = ends.into_iter().chain(begins).collect();
        let statement = include_str!("../query/known_slots.sql")
            .replace("{since}", &edge(period.since))
            .replace("{until}", &edge(period.until))
            .replace("{touching}", &sql::all(&touching));
        let answer = database.query("count the slots", &statement)?;
        let row = answer.cells().next().unwrap_or_default();
        let int = |column: usize| match row.get(column) {
            Some(Cell::Int(value)) => i64::try_from(*value).unwrap_or(i64::MAX),
            _ => 0,
        };
        Ok(Self { known: int(1), length_s: int(2) })
    }

    /// The deciding slot, counted from the largest: with n slots ranked ascending it is number
    /// `ceil(0.95 n)`.
    fn place(&self) -> i64 {
        self.known - (95 * self.known + 99) / 100 + 1
    }
}

/// The percentiles of a key, or of everything, in bytes per slot.
struct Ranked {
    key: String,
    is_all: bool,
    up: i64,
    down: i64,
}

impl Ranked {
    fn of(row: &[Cell<'_>]) -> Option<Self> {
        let [key, Cell::Bool(is_all), Cell::Int(up), Cell::Int(down)] = row else { return None };
        let key = if let Cell::Text(key) = key { key.to_string() } else { String::new() };
        let bytes = |bytes: i128| i64::try_from(bytes).unwrap_or(i64::MAX);
        Some(Self { key, is_all: *is_all, up: bytes(*up), down: bytes(*down) })
    }
}

/// A row of the report.
struct Row {
    key: String,
    revenue: Exact,
    p95_bps: i64,
    /// Its part of the sum of all percentiles.
    share: Exact,
    cost: Exact,
}

fn rows(ranked: &[Ranked], revenue: &Revenue, price: &Exact, length_s: i64) -> Vec<Row> {
    let all = ranked.iter().find(|row| row.is_all);
    let is_down = all.is_none_or(|all| all.down >= all.up);
    let of = |row: &Ranked| if is_down { row.down } else { row.up };
    let bps = |bytes: i64| exact::fraction(i128::from(bytes) * 8, length_s.max(1));
    let total = all.map_or_else(Exact::zero, |all| bps(of(all)) / exact::whole(MBIT) * price);
    let keys = || ranked.iter().filter(|row| !row.is_all);
    let sum: i128 = keys().map(|row| i128::from(of(row))).sum();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    for row in keys() {
        let share = if sum == 0 { Exact::zero() } else { exact::fraction(of(row), sum) };
        rows.insert(
            row.key.clone(),
            Row {
                key: row.key.clone(),
                revenue: Exact::zero(),
                p95_bps: bps(of(row)).to_integer().to_i64().unwrap_or(i64::MAX),
                cost: exact::rounded(&(&total * &share), revenue.places),
                share,
            },
        );
    }
    for (key, amount) in &revenue.amounts {
        match rows.get_mut(key) {
            Some(row) => row.revenue = amount.clone(),
            None => {
                let (share, cost) = (Exact::zero(), Exact::zero());
                let row =
                    Row { key: key.clone(), revenue: amount.clone(), p95_bps: 0, share, cost };
                rows.insert(key.clone(), row);
            }
        }
    }
    rows.into_values().collect()
}

/// The rows as a statement: money as decimals, which DuckDB orders and compares and nothing else.
fn relation(name: &str, rows: &[Row], places: u32) -> String {
    let money = |amount: &Exact| format!("{}::DECIMAL(38, {places})", exact::fixed(amount, places));
    let hundredths = |number: &Exact| format!("{}::DOUBLE", exact::fixed(number, 2));
    let hundred = exact::whole(100);
    let row = |row: &Row| {
        let margin = &row.revenue - &row.cost;
        let percent = match row.revenue.is_zero() {
            true => "NULL".to_owned(),
            false => hundredths(&(&margin * &hundred / &row.revenue)),
        };
        let key = if row.key.is_empty() { "NULL".to_owned() } else { sql::text(&row.key) };
        format!(
            "SELECT {key}::VARCHAR AS {name}, {} AS revenue, {}::BIGINT AS p95_bps, \
             {} AS share_percent, {} AS cost, {} AS margin, {percent}::DOUBLE AS margin_percent",
            money(&row.revenue),
            row.p95_bps,
            hundredths(&(&row.share * &hundred)),
            money(&row.cost),
            money(&margin),
        )
    };
    let nothing = Row {
        key: String::new(),
        revenue: Exact::zero(),
        p95_bps: 0,
        share: Exact::zero(),
        cost: Exact::zero(),
    };
    let nothing = format!("{} WHERE false", row(&nothing));
    std::iter::once(nothing).chain(rows.iter().map(row)).collect::<Vec<_>>().join(" UNION ALL ")
}
