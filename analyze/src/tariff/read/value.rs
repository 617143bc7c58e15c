//! Single values: amounts, quantities, percents, days, zones, names.

use std::str::FromStr;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use num_traits::Signed as _;
use schemas::config::{Refusal, Section, Value};
use schemas::vocab::check_name;

use super::Reader;
use crate::exact::{self, Exact, MAX_DIGITS};
use crate::tariff::{Currency, Unit, Validity};

/// Longest name of an item, a window or a credit, in characters.
const MAX_NAME: usize = 80;

/// Years that a day may be in: periods before and after it are still in every calendar.
const YEARS: std::ops::RangeInclusive<i16> = 1970..=9000;

/// Enough of a text to recognise it by.
fn shorten(text: &str) -> String {
    text.chars().take(40).collect()
}

/// An amount of money or a bare quantity, never negative.
pub(super) fn amount(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Exact> {
    let example = format!("write a decimal in quotes, as in {} = \"0.02\"", last(value));
    let text = quoted(value, &example, reader)?;
    number(value, text, &example, reader)
}

/// A text; a bare number is told why it has to be one.
fn quoted<'d>(value: &Value<'d>, help: &str, reader: &mut Reader<'_>) -> Option<&'d str> {
    let spelled = reader.spelled(value);
    if value.as_str().is_none() && exact::decimal(spelled).is_some() {
        let message = format!("{spelled} is a bare number, and programs may round those");
        reader.fault(value, message, format!("write it in quotes: \"{spelled}\""));
        return None;
    }
    value.text(help, &mut reader.findings)
}

fn number(value: &Value<'_>, text: &str, help: &str, reader: &mut Reader<'_>) -> Option<Exact> {
    let shown = shorten(text);
    match exact::decimal(text) {
        Some(number) if number.is_negative() => {
            let help = "write what is charged; what is taken off is a discount or a credit";
            reader.fault(value, format!("{shown:?} is negative"), help);
            None
        }
        Some(number) => Some(number),
        None => {
            let message = match text.contains(',') {
                true => format!("{shown:?} is not a number: the decimal sign is a point"),
                false => format!("{shown:?} is not a number of at most {MAX_DIGITS} digits"),
            };
            reader.fault(value, message, help);
            None
        }
    }
}

/// The last key of a value's path.
pub(super) fn last<'v>(value: &'v Value<'_>) -> &'v str {
    value.path().rsplit('.').next().unwrap_or_default()
}

/// A quantity of `unit`, such as `"500"` or `"0.5 TB"`: a unit that is written may be another one
/// of the same kind.
pub(super) fn quantity(value: &Value<'_>, unit: Unit, reader: &mut Reader<'_>) -> Option<Exact> {
    let example = format!("write a quantity, as in {} = \"500 {unit}\"", last(value));
    let text = quoted(value, &example, reader)?;
    let (digits, name) = match text.split_once(' ') {
        Some((digits, name)) => (digits, Some(name.trim_start())),
        None => (text, None),
    };
    let number = number(value, digits, &example, reader)?;
    let Some(name) = name else { return Some(number) };
    let own = Unit::of(name).filter(|written| written.dimension() == unit.dimension());
    if own.is_none() {
        let message = format!("{:?} is not a unit that goes with {unit}", shorten(name));
        reader.fault(value, message, one_of(unit.dimension().units().map(Unit::name)));
    }
    Some(number * own?.base() / unit.base())
}

/// `number`, which has to be more than nothing.
pub(super) fn positive(
    value: &Value<'_>,
    number: Option<Exact>,
    reader: &mut Reader<'_>,
) -> Option<Exact> {
    let number = number?;
    if number.is_positive() {
        return Some(number);
    }
    reader.fault(value, "this is nothing", "write more than 0, or remove it");
    None
}

/// A percentage from 0 to 100, such as `"19%"`.
pub(super) fn percent(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Exact> {
    let help = format!("write a percentage from 0 to 100, as in {} = \"19%\"", last(value));
    let spelled = reader.spelled(value);
    if value.as_str().is_none() && exact::decimal(spelled).is_some() {
        let message = format!("{spelled} is a bare number");
        reader.fault(value, message, format!("write \"{spelled}%\""));
        return None;
    }
    let text = value.text(&help, &mut reader.findings)?;
    let digits = text.strip_suffix('%').map(str::trim_end);
    let number = digits.and_then(exact::decimal);
    let percent = number.filter(|n| !n.is_negative() && *n <= exact::whole(100));
    if percent.is_none() {
        reader.fault(value, format!("{:?} is not a percentage", shorten(text)), help);
    }
    percent
}

/// A day, in quotes or not.
pub(super) fn day(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Date> {
    let text = value.as_str().unwrap_or_else(|| reader.spelled(value));
    let written = text.len() == "2026-10-26".len();
    let day = text.parse::<Date>().ok().filter(|day| written && YEARS.contains(&day.year()));
    if day.is_none() {
        let help = format!(
            "write year, month and day from {} to {}, as in {} = 2026-10-26",
            YEARS.start(),
            YEARS.end(),
            last(value)
        );
        reader.fault(value, format!("{:?} is not a day", shorten(text)), help);
    }
    day
}

/// `valid_from` and `valid_to`. The outer `None` is for a fault.
pub(super) fn validity(section: &mut Section<'_>, reader: &mut Reader<'_>) -> Option<Validity> {
    let from = super::optional(section, "valid_from", None, |value| day(value, reader).map(Some));
    let to = section.get("valid_to");
    let end = match &to {
        Some(value) => day(value, reader).and_then(|day| day.tomorrow().ok()).map(Some),
        None => Some(None),
    };
    let (from, end) = (from?, end?);
    if let (Some(first), Some(after), Some(to)) = (from, end, &to)
        && after <= first
    {
        let help = "valid_to is the last day: write one that is not before valid_from";
        reader.fault(to, format!("it ends before it begins, on {first}"), help);
        return None;
    }
    Some(Validity { from, end })
}

/// The IANA name of a zone, and the zone.
pub(super) fn zone(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<(String, TimeZone)> {
    const HELP: &str = "write the IANA name of a zone, as in tz = \"Europe/Berlin\" or \"UTC\"";
    let text = value.text(HELP, &mut reader.findings)?;
    if let Ok(zone) = TimeZone::get(text)
        && let Some(name) = zone.iana_name().map(str::to_owned)
    {
        return Some((name, zone));
    }
    let shown = shorten(text);
    let likeness = |name: &str| strsim::jaro_winkler(&shown.to_lowercase(), &name.to_lowercase());
    let near = jiff::tz::db()
        .available()
        .map(|name| (likeness(name.as_str()), name.as_str().to_owned()))
        .filter(|(likeness, _)| *likeness > 0.85)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let help = near.map_or_else(|| HELP.to_owned(), |(_, name)| format!("did you mean {name:?}?"));
    reader.fault(value, format!("there is no time zone {shown:?}"), help);
    None
}

/// An ISO 4217 code.
pub(super) fn currency(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<Currency> {
    const HELP: &str = "write its ISO 4217 code, as in currency = \"EUR\"";
    let text = value.text(HELP, &mut reader.findings)?;
    let currency = Currency::of(text);
    if currency.is_none() {
        let help = match Currency::of(&text.to_ascii_uppercase()) {
            Some(near) => format!("write {:?}", near.code()),
            None => HELP.to_owned(),
        };
        reader.fault(value, format!("there is no currency {:?}", shorten(text)), help);
    }
    currency
}

/// What people read on an invoice: some text of one line.
pub(super) fn title(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let help = format!("write what the invoice is to say, as in {} = \"traffic\"", last(value));
    let text = value.text(&help, &mut reader.findings)?;
    let shown = !text.trim().is_empty() && text.trim() == text;
    if shown && text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control) {
        return Some(text.to_owned());
    }
    let message = format!("{:?} is not one line of 1 to {MAX_NAME} characters", shorten(text));
    reader.fault(value, message, help);
    None
}

/// A name as the configuration has them.
pub(super) fn name<T: FromStr<Err: ToString>>(
    value: &Value<'_>,
    reader: &mut Reader<'_>,
) -> Option<T> {
    let help = format!("write a name, as in {} = \"acme\"", last(value));
    let read = |text: &str| text.parse::<T>().map_err(|why| Refusal::new(why.to_string(), ""));
    value.read(&help, read, &mut reader.findings)
}

/// The name of a tariff, of the same alphabet as the names of services.
pub(super) fn tariff_name(value: &Value<'_>, reader: &mut Reader<'_>) -> Option<String> {
    let help = "write a name, as in name = \"transit\"";
    let read = |text: &str| match check_name(text) {
        Ok(()) => Ok(text.to_owned()),
        Err(why) => Err(Refusal::new(why.to_string(), "")),
    };
    value.read(help, read, &mut reader.findings)
}

/// A list of names; an empty one would have to mean nothing or everything.
pub(super) fn names<T: FromStr<Err: ToString>>(
    value: &Value<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<T>> {
    let help = format!("write a list, as in {} = [\"web\"]", last(value));
    let entries = value.array(&help, &mut reader.findings)?;
    if entries.is_empty() {
        reader.fault(value, "the list is empty", "remove it to charge for all of them");
        return None;
    }
    let read: Vec<Option<T>> = entries.iter().map(|entry| name(entry, reader)).collect();
    read.into_iter().collect()
}

/// One of a few words.
pub(super) fn word<T: Copy>(
    value: &Value<'_>,
    words: &[(&'static str, T)],
    reader: &mut Reader<'_>,
) -> Option<T> {
    let help = one_of(words.iter().map(|(word, _)| *word));
    let text = value.text(&help, &mut reader.findings)?;
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
    if found.is_none() {
        reader.fault(value, format!("{:?} is not one of the choices", shorten(text)), help);
    }
    found
}

/// What to write where there is a choice.
pub(super) fn one_of(words: impl Iterator<Item = &'static str>) -> String {
    let words: Vec<String> = words.map(|word| format!("{word:?}")).collect();
    format!("write one of {}", words.join(", "))
}
