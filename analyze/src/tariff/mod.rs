//! `tariffs.toml`: what is charged for, and whom.
//!
//! [`Tariffs::parse`] reads the text of a file and tells every fault of it with its place. What it
//! gives cannot be wrong: tiers ascend, windows cover the week once, units fit what they measure,
//! every contract has a tariff. Amounts are [`Exact`]; what is done with them is the business of
//! [`rating`](crate::rating).
//!
//! A tariff's versions are its prices one after the other, without a gap. Days are those of the
//! tariff's zone. No clock and no file is asked here.

mod currency;
mod days;
mod percentile;
mod read;
mod unit;
mod window;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use schemas::vocab::{CustomerName, RuleName, ServiceName};

pub use currency::Currency;
pub use days::{Days, Span, Validity, billing_period};
pub use percentile::{Missing, Mode, Percentile, Rank};
pub use read::KEYS;
pub use unit::{Dimension, Unit};
pub use window::{STEP_MINUTES, WEEK_STEPS, Window, Windows};

use crate::exact::Exact;

/// Everything a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariffs {
    /// The tariffs in the order of the file.
    pub tariffs: Vec<Tariff>,
    /// The contracts in the order of the file.
    pub contracts: Vec<Contract>,
}

/// A price list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tariff {
    /// Its name.
    pub name: String,
    /// The currency of all its amounts.
    pub currency: Currency,
    /// The zone of its days and hours.
    pub zone: TimeZone,
    /// The zone's IANA name.
    pub tz: String,
    /// The day of the month on which a period begins, 1 to 31.
    pub anchor_day: i8,
    /// Its prices one after the other, without a gap; at least one.
    pub versions: Vec<Version>,
}

/// The prices of a tariff for some time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// The days they hold.
    pub validity: Validity,
    /// The tax on every item that names none, in percent.
    pub tax_percent: Exact,
    /// What is charged, in the order of the file; at least one.
    pub items: Vec<Item>,
}

/// One thing that is charged for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// What the invoice calls it; once in a version.
    pub name: String,
    /// What it costs.
    pub charge: Charge,
    /// Taken off every line, in percent.
    pub discount_percent: Exact,
    /// The item's lines together are not more.
    pub maximum: Option<Exact>,
    /// The item's lines together are not less.
    pub minimum: Option<Exact>,
    /// How amounts that are for a whole period are shortened.
    pub prorate: Prorate,
    /// The tax on this item, in percent; `None`: the version's.
    pub tax_percent: Option<Exact>,
}

/// What an item costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charge {
    /// A fee for the period, whatever passed.
    Fee(Exact),
    /// Something for what passed.
    Usage(Box<Usage>),
}

/// A price on a measured quantity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// What is measured.
    pub metric: Metric,
    /// What part of the subject's traffic.
    pub filter: Filter,
    /// The unit that prices are for.
    pub unit: Unit,
    /// How the quantity is rounded before anything is taken off it.
    pub rounding: Rounding,
    /// What it costs.
    pub pricing: Pricing,
}

/// What is measured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Metric {
    /// Bytes from clients to targets.
    Up,
    /// Bytes from targets to clients.
    Down,
    /// Both directions together.
    Sum,
    /// The direction in which more passed, over the whole time or window.
    Max,
    /// Sessions that began.
    Sessions,
    /// Datagrams of both directions.
    Datagrams,
    /// A percentile of the rates of all slots.
    Percentile(Percentile),
}

impl Metric {
    /// What its units count.
    pub const fn dimension(&self) -> Dimension {
        match self {
            Self::Up | Self::Down | Self::Sum | Self::Max => Dimension::Bytes,
            Self::Sessions => Dimension::Sessions,
            Self::Datagrams => Dimension::Datagrams,
            Self::Percentile(_) => Dimension::Rate,
        }
    }
}

/// What part of the traffic an item is about; an empty list stands for everything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Filter {
    /// Of these services only.
    pub services: Vec<ServiceName>,
    /// Of these rules only.
    pub rules: Vec<RuleName>,
}

/// How a quantity is rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Rounding {
    /// Not at all.
    #[default]
    None,
    /// Up, to so many digits behind the point.
    Ceil(u32),
    /// Down.
    Floor(u32),
    /// To the nearest, halves up.
    HalfUp(u32),
}

/// How a quantity is priced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pricing {
    /// One price for all of it, less what is free.
    Plain {
        /// Free in every period.
        allowance: Exact,
        /// The price of the rest.
        price: Price,
    },
    /// A price per unit by the local time of day.
    Windows(Windows),
    /// A committed rate, paid whether used or not, and what is above it.
    Commit {
        /// The rate.
        commit: Exact,
        /// Of a unit of it.
        price: Exact,
        /// Of a unit above it.
        overage: Exact,
    },
}

/// A price model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Price {
    /// Every unit costs the same.
    PerUnit(Exact),
    /// Each unit costs what its tier says.
    Graduated(Vec<Tier>),
    /// All units cost what the tier says that was reached.
    Volume(Vec<Tier>),
    /// Every begun package costs the same.
    Package {
        /// Units in a package.
        size: Exact,
        /// What it costs.
        price: Exact,
    },
}

/// A tier: above the last one's bound, up to its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// The last quantity in it; `None`: all the rest, which only the last tier has.
    pub up_to: Option<Exact>,
    /// What a unit costs.
    pub price: Exact,
    /// What entering it costs; of the first tier, also when nothing passed.
    pub fee: Exact,
}

/// How amounts that are for a whole period are shortened when a contract holds for a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Prorate {
    /// By the days of the part.
    #[default]
    Days,
    /// Not at all; where prices change in mid-period, its parts share the amount by their days.
    None,
}

/// Who pays by which tariff.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contract {
    /// Whose traffic it is about.
    pub subject: Subject,
    /// The tariff, as an index of [`Tariffs::tariffs`].
    pub tariff: usize,
    /// The days it holds.
    pub validity: Validity,
    /// Taken off every line after the item's own discount, in percent.
    pub discount_percent: Exact,
    /// The tax on everything, in percent; `None`: as the tariff says.
    pub tax_percent: Option<Exact>,
    /// Paid in advance or granted, in the order of the file.
    pub credits: Vec<Credit>,
}

/// Whose traffic a contract is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// Of a customer.
    Customer(CustomerName),
    /// Of a rule, whatever customer it names.
    Rule(RuleName),
    /// Of a service.
    Service(ServiceName),
}

/// An amount that invoices are paid from before anything is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credit {
    /// Its name, once in the contracts of a subject.
    pub name: String,
    /// How much, tax included.
    pub amount: Exact,
    /// The first day it can pay for a period that ends then or later; `None`: since ever.
    pub valid_from: Option<Date>,
    /// The last day; periods that end later are not paid from it. `None`: it does not expire.
    pub expires: Option<Date>,
}

impl Tariff {
    /// How long it has prices.
    pub fn validity(&self) -> Validity {
        Validity {
            from: self.versions.first().and_then(|version| version.validity.from),
            end: self.versions.last().and_then(|version| version.validity.end),
        }
    }
}
