//! An invoice as it is kept: one JSON object with sorted keys, in which money is text with all
//! digits of its currency, other fractions are text in full, and whole numbers are numbers.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::sha256;
use crate::exact;
use crate::rating::{Line, Step, Totals};
use crate::tariff::{Currency, Subject};

/// The format of kept invoices that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;

/// Fields that are whole coins.
const MONEY: [&str; 6] = ["amount", "net", "gross", "due", "used", "left"];

/// An invoice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invoice {
    /// The format, [`FORMAT`].
    pub format: u32,
    /// Whose traffic it is about.
    pub subject: Whose,
    /// The tariff's name.
    pub tariff: String,
    /// Of all its amounts.
    #[serde(with = "code")]
    pub currency: Currency,
    /// The month in which the billing period begins, `2026-10`.
    pub period: String,
    /// The first day that is billed.
    pub first_day: String,
    /// The last day that is billed.
    pub last_day: String,
    /// The zone of the days.
    pub tz: String,
    /// The first instant that is billed, RFC 3339.
    pub since: String,
    /// The first instant that no longer is.
    pub until: String,
    /// The lines of the period.
    pub lines: Vec<Line>,
    /// How the lines came about, position by position.
    pub steps: Vec<Steps>,
    /// What was measured, in the order of the positions.
    pub quantities: Vec<Quantity>,
    /// What earlier periods come to by now, beyond what was billed for them.
    pub adjustments: Vec<Adjustment>,
    /// The sums.
    pub totals: Totals,
    /// What the figures rest on.
    pub basis: Basis,
}

/// Whose traffic an invoice is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whose {
    /// `customer`, `rule` or `service`.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// How a position came about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steps {
    /// The item's name.
    pub item: String,
    /// The first day of the position.
    pub first_day: String,
    /// The last one.
    pub last_day: String,
    /// The calculation.
    pub steps: Vec<Step>,
}

/// What was measured for an item, or for one of its windows. Only the fields of its metric are
/// there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quantity {
    /// The item's name.
    pub item: String,
    /// The window's name; empty without windows.
    pub window: String,
    /// The first day that was measured.
    pub first_day: String,
    /// The last one.
    pub last_day: String,
    /// Bytes from clients to targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_up: Option<i64>,
    /// Bytes from targets to clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_down: Option<i64>,
    /// Sessions that began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<i64>,
    /// Datagrams of both directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datagrams: Option<i64>,
    /// Of a percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percentile: Option<Ranked>,
}

/// The slot that decided a percentile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ranked {
    /// Its bytes.
    pub bytes: i64,
    /// Its length in seconds.
    pub slot_len_s: u32,
    /// Its start, RFC 3339; null when no slot was known.
    pub slot_start: Option<String>,
    /// Slots that were to be ranked.
    pub slots_expected: u64,
    /// Slots of which something is known.
    pub slots_known: u64,
}

/// What an earlier period comes to by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adjustment {
    /// The month in which it began.
    pub period: String,
    /// The file of its invoice below the month's directory.
    pub file: String,
    /// What is taken back, then what is added.
    pub lines: Vec<Line>,
    /// All lines of the period as they stand now: the next adjustment starts from these.
    pub rated: Vec<Line>,
    /// The hash of the quantities that they rest on.
    pub data: String,
}

/// What the figures of an invoice rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// SHA-256 of the file of tariffs.
    pub tariffs: String,
    /// SHA-256 of `quantities`, as JSON with sorted keys and no blanks.
    pub data: String,
    /// The version of the zone database; null in UTC, which needs none.
    pub zones: Option<String>,
    /// How much of the time that is billed was measured, in words.
    pub coverage: String,
    /// Whether less than 99 % of it is known, or of the slots of a percentile.
    pub estimated: bool,
}

impl Whose {
    /// The names of a subject.
    pub fn of(subject: &Subject) -> Self {
        let (kind, name) = match subject {
            Subject::Customer(name) => ("customer", name.to_string()),
            Subject::Rule(name) => ("rule", name.to_string()),
            Subject::Service(name) => ("service", name.to_string()),
        };
        Self { kind: kind.to_owned(), name }
    }
}

impl Invoice {
    /// The lines of the period, then those that adjust earlier ones.
    pub fn all_lines(&self) -> impl Iterator<Item = &Line> {
        self.lines.iter().chain(self.adjustments.iter().flat_map(|earlier| &earlier.lines))
    }

    /// The invoice as an object.
    pub fn value(&self) -> Value {
        let mut value = value_of(self);
        show_all_digits(&mut value, self.currency);
        value
    }

    /// The object as it is kept: sorted keys, two blanks a level, a newline at the end.
    pub fn text(&self) -> String {
        format!("{:#}\n", self.value())
    }

    /// The invoice that a kept text is.
    ///
    /// # Errors
    /// What is wrong with it, in words; also when it was changed since.
    pub fn parse(text: &str) -> Result<Self, String> {
        let invoice: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if invoice.text() != text {
            return Err("it is not as it was written".to_owned());
        }
        Ok(invoice)
    }
}

/// The hash by which an invoice names what was measured.
pub fn hash(quantities: &[Quantity]) -> String {
    sha256(value_of(quantities).to_string())
}

/// The value, the keys of which are sorted: its maps are trees.
fn value_of(content: &(impl Serialize + ?Sized)) -> Value {
    serde_json::to_value(content).expect("invoices have text for keys, and numbers that JSON has")
}

fn show_all_digits(value: &mut Value, currency: Currency) {
    match value {
        Value::Array(list) => list.iter_mut().for_each(|item| show_all_digits(item, currency)),
        Value::Object(fields) => {
            for (name, value) in fields {
                let amount = match value {
                    Value::String(text) if MONEY.contains(&name.as_str()) => exact::parse(text),
                    _ => None,
                };
                match amount {
                    Some(amount) => *value = Value::from(currency.text(&amount)),
                    None => show_all_digits(value, currency),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// How serde writes a currency: by its code.
mod code {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::tariff::Currency;

    pub(super) fn serialize<S: Serializer>(
        currency: &Currency,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(currency.code())
    }

    pub(super) fn deserialize<'d, D: Deserializer<'d>>(
        deserializer: D,
    ) -> Result<Currency, D::Error> {
        let code = String::deserialize(deserializer)?;
        Currency::of(&code).ok_or_else(|| D::Error::custom(format!("{code:?} is no currency")))
    }
}
