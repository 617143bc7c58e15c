//! `[[contract]]`: who has which tariff, and since when.

use std::collections::HashMap;

use num_traits::Zero as _;
use schemas::config::{Section, Value};

use super::tariff::Named;
use super::{Reader, optional, value};
use crate::exact::Exact;
use crate::tariff::{Contract, Credit, Subject};

/// Most credits of a contract.
const MAX_CREDITS: usize = 256;

const SUBJECT_HELP: &str =
    "write one of customer = \"acme\", rule = \"office\" and service = \"web\"";

/// A contract with its places.
struct Placed<'d> {
    place: Value<'d>,
    contract: Contract,
    /// Of the names of its credits.
    credits: Vec<Value<'d>>,
}

/// All contracts, in the order of the file.
pub(super) fn contracts<'d>(
    tables: Vec<(Value<'d>, Section<'d>)>,
    tariffs: &[Named],
    reader: &mut Reader<'_>,
) -> Vec<Contract> {
    let mut placed = Vec::new();
    for (place, section) in tables {
        placed.extend(read(place, section, tariffs, reader));
    }
    let mut of_subject = HashMap::<&Subject, Vec<&Placed<'_>>>::new();
    for one in &placed {
        of_subject.entry(&one.contract.subject).or_default().push(one);
    }
    // In the order of the file, so that of too many faults always the same are told.
    for one in &placed {
        if let Some(same) = of_subject.remove(&one.contract.subject) {
            check_overlaps(same.clone(), reader);
            check_credit_names(&same, reader);
        }
    }
    placed.into_iter().map(|placed| placed.contract).collect()
}

fn read<'d>(
    place: Value<'d>,
    mut section: Section<'d>,
    tariffs: &[Named],
    reader: &mut Reader<'_>,
) -> Option<Placed<'d>> {
    let subject = subject(&place, &mut section, reader);
    const TARIFF_HELP: &str = "write the name of a [[tariff]]";
    let tariff = section.require("tariff", TARIFF_HELP, &mut reader.findings);
    let tariff = tariff.and_then(|name| tariff_of(&name, tariffs, reader));
    let validity = value::validity(&mut section, reader);
    let none = Exact::zero();
    let discount = optional(&mut section, "discount", none, |off| value::percent(off, reader));
    let tax = optional(&mut section, "tax", None, |tax| value::percent(tax, reader).map(Some));
    let credits = credits(&mut section, reader);
    section.finish(&mut reader.findings);
    let (names, credits) = credits?;
    let contract = Contract {
        subject: subject?,
        tariff: tariff?,
        validity: validity?,
        discount_percent: discount?,
        tax_percent: tax?,
        credits,
    };
    Some(Placed { place, contract, credits: names })
}

fn subject(
    place: &Value<'_>,
    section: &mut Section<'_>,
    reader: &mut Reader<'_>,
) -> Option<Subject> {
    let given = ["customer", "rule", "service"].map(|key| section.get(key));
    if let Some(second) = given.iter().flatten().nth(1) {
        reader.fault(second, "the contract is about something already", SUBJECT_HELP);
        return None;
    }
    match given {
        [Some(name), ..] => value::name(&name, reader).map(Subject::Customer),
        [_, Some(name), _] => value::name(&name, reader).map(Subject::Rule),
        [.., Some(name)] => value::name(&name, reader).map(Subject::Service),
        [None, None, None] => {
            reader.fault(place, "the contract does not say whose it is", SUBJECT_HELP);
            None
        }
    }
}

/// The index that the tariff will have among those without faults; a faulty one may be named too,
/// and then nothing is made of it.
fn tariff_of(value: &Value<'_>, tariffs: &[Named], reader: &mut Reader<'_>) -> Option<usize> {
    const HELP: &str = "write the name of a [[tariff]]";
    let name = value.text(HELP, &mut reader.findings)?;
    if let Some(at) = tariffs.iter().position(|named| named.name == name) {
        return Some(at);
    }
    let names: Vec<String> =
        tariffs.iter().take(10).map(|named| format!("{:?}", named.name)).collect();
    let help = match names.is_empty() {
        true => "write one: [[tariff]]".to_owned(),
        false => format!("tariffs are {}", names.join(", ")),
    };
    let shown: String = name.chars().take(40).collect();
    reader.fault(value, format!("there is no tariff {shown:?}"), help);
    None
}

fn credits<'d>(
    section: &mut Section<'d>,
    reader: &mut Reader<'_>,
) -> Option<(Vec<Value<'d>>, Vec<Credit>)> {
    const NAME_HELP: &str = "write name = \"welcome\" or the like; invoices say what is left of it";
    const AMOUNT_HELP: &str = "write how much it is, as in amount = \"20.00\"";
    let (mut names, mut credits) = (Vec::new(), Vec::new());
    for (_, mut section) in reader.tables(section, "credit", MAX_CREDITS) {
        let place = section.require("name", NAME_HELP, &mut reader.findings);
        let name = place.as_ref().and_then(|name| value::title(name, reader));
        let amount = section.require("amount", AMOUNT_HELP, &mut reader.findings);
        let amount = amount.and_then(|place| {
            let amount = value::amount(&place, reader);
            value::positive(&place, amount, reader)
        });
        let from =
            optional(&mut section, "valid_from", None, |day| value::day(day, reader).map(Some));
        let expires =
            optional(&mut section, "expires", None, |day| value::day(day, reader).map(Some));
        section.finish(&mut reader.findings);
        names.extend(place);
        let credit =
            || Some(Credit { name: name?, amount: amount?, valid_from: from?, expires: expires? });
        credits.push(credit());
    }
    Some((names, credits.into_iter().collect::<Option<_>>()?))
}

/// Nobody pays for the same day by two tariffs.
fn check_overlaps(mut contracts: Vec<&Placed<'_>>, reader: &mut Reader<'_>) {
    contracts.sort_by_key(|placed| placed.contract.validity.from);
    for pair in contracts.windows(2) {
        let [earlier, later] = pair else { continue };
        let (first, second) = (earlier.contract.validity, later.contract.validity);
        if first.overlaps(second) {
            let line = reader.line_of(&earlier.place);
            let subject = &later.contract.subject;
            let message =
                format!("{subject} has a contract {second}, and that of line {line} {first}");
            let help = "end the earlier one with valid_to, its last day, and begin the later one \
                        with valid_from, the day after it";
            reader.fault(&later.place, message, help);
        }
    }
}

/// What is left of a credit is known by its name, from contract to contract of a subject.
fn check_credit_names(contracts: &[&Placed<'_>], reader: &mut Reader<'_>) {
    let mut lines = HashMap::<&str, usize>::new();
    for name in contracts.iter().flat_map(|placed| &placed.credits) {
        let line = reader.line_of(name);
        let Some(text) = name.as_str() else { continue };
        if let Some(first) = lines.insert(text, line) {
            let message = format!("{text:?} is the name of the credit in line {first} too");
            reader.fault(
                name,
                message,
                "give it another one: what is left of each is kept by name",
            );
        }
    }
}
