//! `[[tariff]]`: tables of one name are the versions of one tariff.

use std::collections::HashMap;

use jiff::tz::TimeZone;
use num_traits::Zero as _;
use schemas::config::{Section, Value};

use super::{Reader, item, optional, value};
use crate::exact::Exact;
use crate::tariff::{Currency, Item, Tariff, Validity, Version};

/// Most items of a tariff.
const MAX_ITEMS: usize = 256;

/// A tariff by its name; without the rest when something is wrong with it.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) tariff: Option<Tariff>,
}

/// A table as it was read.
struct Table<'d> {
    place: Value<'d>,
    head: Option<Head>,
    version: Option<Version>,
}

/// What all versions of a tariff have in common.
#[derive(Clone, PartialEq, Eq)]
struct Head {
    currency: Currency,
    zone: (String, TimeZone),
    anchor_day: i8,
}

/// All tariffs, in the order in which their names come first.
pub(super) fn tariffs<'d>(
    tables: Vec<(Value<'d>, Section<'d>)>,
    reader: &mut Reader<'_>,
) -> Vec<Named> {
    let mut names = Vec::<String>::new();
    let mut by_name = HashMap::<String, Vec<Table<'d>>>::new();
    for (place, section) in tables {
        let (name, table) = read(place, section, reader);
        let Some(name) = name else { continue };
        by_name
            .entry(name)
            .or_insert_with_key(|name| {
                names.push(name.clone());
                Vec::new()
            })
            .push(table);
    }
    let join = |name: String| {
        let tables = by_name.remove(&name).unwrap_or_default();
        Named { tariff: join(&name, tables, reader), name }
    };
    names.into_iter().map(join).collect()
}

fn read<'d>(
    place: Value<'d>,
    mut section: Section<'d>,
    reader: &mut Reader<'_>,
) -> (Option<String>, Table<'d>) {
    const NAME_HELP: &str = "write name = \"transit\" or the like; contracts name it";
    const CURRENCY_HELP: &str = "write the ISO 4217 code of all its amounts: currency = \"EUR\"";
    let name = section.require("name", NAME_HELP, &mut reader.findings);
    let name = name.and_then(|name| value::tariff_name(&name, reader));
    let currency = section.require("currency", CURRENCY_HELP, &mut reader.findings);
    let currency = currency.and_then(|code| value::currency(&code, reader));
    let utc = ("UTC".to_owned(), TimeZone::UTC);
    let zone = optional(&mut section, "tz", utc, |zone| value::zone(zone, reader));
    let anchor_day = optional(&mut section, "anchor_day", 1, |day| {
        let day = day.integer(1..=31, &mut reader.findings)?;
        i8::try_from(day).ok()
    });
    let validity = value::validity(&mut section, reader);
    let tax = optional(&mut section, "tax", Exact::zero(), |tax| value::percent(tax, reader));
    let items = items(&place, &mut section, reader);
    section.finish(&mut reader.findings);
    let head = || Some(Head { currency: currency?, zone: zone?, anchor_day: anchor_day? });
    let version = || Some(Version { validity: validity?, tax_percent: tax?, items: items? });
    let table = Table { head: head(), version: version(), place };
    (name, table)
}

fn items(
    place: &Value<'_>,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<Vec<Item>> {
    let tables = reader.tables(section, "item", MAX_ITEMS);
    if tables.is_empty() && section.get("item").is_none() {
        reader.fault(
            place,
            "the tariff has no items",
            "write what it charges for: [[tariff.item]]",
        );
        return None;
    }
    let mut lines = HashMap::<String, usize>::new();
    let mut items = Vec::new();
    for (place, section) in tables {
        let line = reader.line_of(&place);
        let (name, item) = item::read(&place, section, reader);
        items.push(item);
        let Some((place, name)) = name else { continue };
        if let Some(first) = lines.insert(name.clone(), line) {
            let message = format!("{name:?} is the name of the item in line {first} too");
            reader.fault(
                &place,
                message,
                "give it another one: people must tell their lines apart",
            );
        }
    }
    items.into_iter().collect()
}

/// The tariff that tables of one name are the versions of.
fn join(name: &str, tables: Vec<Table<'_>>, reader: &mut Reader<'_>) -> Option<Tariff> {
    let first = tables.first()?.head.clone()?;
    let first_line = reader.line_of(&tables.first()?.place);
    let mut good = true;
    for table in &tables {
        let head = table.head.as_ref()?;
        let differs = [
            (head.currency != first.currency, "currency", first.currency.code().to_owned()),
            (head.zone.0 != first.zone.0, "tz", first.zone.0.clone()),
            (head.anchor_day != first.anchor_day, "anchor_day", first.anchor_day.to_string()),
        ];
        for (_, key, value) in differs.into_iter().filter(|(differs, ..)| *differs) {
            let message = format!("{key} is not {value}, as in line {first_line}");
            let help = format!(
                "tables of the name {name:?} are one tariff, the prices of which change in time: \
                 write the same {key}, or give the tariff another name"
            );
            reader.fault(&table.place, message, help);
            good = false;
        }
    }
    let mut versions = Vec::new();
    for Table { place, version, .. } in tables {
        versions.push((place, version?));
    }
    versions.sort_by_key(|(_, version)| version.validity.from);
    for pair in versions.windows(2) {
        if let [(earlier, first), (place, second)] = pair {
            let line = reader.line_of(earlier);
            good &= follow(line, first.validity, place, second.validity, reader);
        }
    }
    good.then(|| Tariff {
        name: name.to_owned(),
        currency: first.currency,
        zone: first.zone.1,
        tz: first.zone.0,
        anchor_day: first.anchor_day,
        versions: versions.into_iter().map(|(_, version)| version).collect(),
    })
}

/// Whether the prices at `place` begin when those of the line before end.
fn follow(
    line: usize,
    earlier: Validity,
    place: &Value<'_>,
    later: Validity,
    reader: &mut Reader<'_>,
) -> bool {
    if let (Some(end), Some(from)) = (earlier.end, later.from) {
        if end == from {
            return true;
        }
        if end < from {
            let last = from.yesterday().unwrap_or(end);
            let message = format!("from {end} to {last} the tariff has no prices");
            let help =
                format!("write valid_from = {end}, the day after the prices of line {line} end");
            reader.fault(place, message, help);
            return false;
        }
    }
    let message = format!("these prices hold {later}, and those of line {line} {earlier}");
    let help = "give the earlier ones a valid_to, the last day they hold, and the later ones a \
                valid_from, the day after it";
    reader.fault(place, message, help);
    false
}
