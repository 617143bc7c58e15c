//! `analyze bill`

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::Verdict;
use crate::bill::agenda::{Entry, Source, agenda};
use crate::bill::invoice::Invoice;
use crate::bill::issue::{Ground, issue, span};
use crate::bill::ledger::{Ledger, differs};
use crate::bill::quantities::{Demand, Sums};
use crate::bill::rates::{self, Figures};
use crate::bill::{Month, closing, render, sha256};
use crate::cli::BillArgs;
use crate::coverage::{self, Shares};
use crate::database::{Database, Wanted};
use crate::dataset::Dataset;
use crate::exact::Exact;
use crate::failure::Failure;
use crate::period::Period;
use crate::progress::Progress;
use crate::rating::{Measure, Measured};
use crate::report::Sink;
use crate::sql;
use crate::tariff::{Span, Subject, Tariffs};

/// Most customers without a contract that are named.
const MAX_STRANGERS: usize = 10;

pub(super) fn run(args: &BillArgs, data: &Path) -> Result<Verdict, Failure> {
    let month = Month::of_option(&args.period)?;
    let file = args.tariffs.display().to_string();
    let text = read(&args.tariffs)?;
    let tariffs = Tariffs::parse(&file, &text)
        .map_err(|faults| Failure::Config(faults.to_string().trim_end().to_owned()))?;
    let source = Source { tariffs: &tariffs, file: &file };
    let dataset = Dataset::open(data)?;
    for customer in &args.customer {
        has_contract(source, customer, month, &dataset)?;
    }
    let ledger = args.frozen.as_deref().map(Ledger::open).transpose()?;
    let entries = agenda(source, month, &args.customer, ledger.as_ref())?;
    if entries.is_empty() {
        return Err(Failure::Config(format!("{file}: no contract holds in {month}")));
    }
    if args.close {
        may_close(&entries, month, &dataset)?;
    }
    let ground = Ground { month, tariffs: &sha256(&text) };
    let billed = bill(&entries, &ground, args, &dataset)?;
    let invoices = match (&ledger, args.close) {
        (Some(ledger), true) => {
            keep(ledger, month, &entries, &billed.invoices)?;
            billed.invoices
        }
        _ => billed.invoices,
    };
    let mut sink = Sink::open(args.output.as_deref())?;
    let name = sink.name();
    let shown = render::render(&invoices, args.format);
    sink.write_all(shown.as_bytes()).map_err(|error| Failure::writing(&name, &error))?;
    sink.complete()?;
    if let Some(note) = &billed.strangers {
        // A closed stderr must not spoil invoices that are already written.
        drop(writeln!(io::stderr().lock(), "{note}"));
    }
    Ok(Verdict::Fine)
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Failure::NoData(format!(
            "there is no file {}: write what is charged for, as docs/tariffs.md describes, and name it with --tariffs",
            path.display()
        )),
        io::ErrorKind::InvalidData => {
            Failure::Config(format!("{} is not text in UTF-8", path.display()))
        }
        _ => Failure::file("read", path, &error),
    })
}

/// Fails when nothing bills a customer that was asked for.
fn has_contract(
    source: Source<'_>,
    customer: &str,
    month: Month,
    dataset: &Dataset,
) -> Result<(), Failure> {
    let is_its = |subject: &Subject| match subject {
        Subject::Customer(name) => name.as_str() == customer,
        Subject::Rule(_) | Subject::Service(_) => false,
    };
    let its: Vec<_> =
        source.tariffs.contracts.iter().filter(|contract| is_its(&contract.subject)).collect();
    let file = source.file;
    if its.is_empty() {
        let database = Database::open(dataset, &[Wanted::all("usage")])?;
        let statement =
            format!("SELECT 1 FROM usage WHERE customer = {} LIMIT 1", sql::text(customer));
        let known = database.query("look for the customer", &statement)?.rows() > 0;
        return Err(if known {
            Failure::Config(format!(
                "{file}: customer {customer:?} has traffic and no contract: add a [[contract]] with customer = {customer:?} and its tariff"
            ))
        } else {
            Failure::NoData(format!(
                "there is no customer {customer:?}: {file} has no contract and the tables have no traffic of that name"
            ))
        });
    }
    let holds = |contract: &&&crate::tariff::Contract| {
        let anchor = source.tariffs.tariffs[contract.tariff].anchor_day;
        let period = crate::tariff::billing_period(month.first(), anchor);
        period.is_some_and(|period| period.intersect(contract.validity).is_some())
    };
    if its.iter().any(|contract| holds(&contract)) {
        return Ok(());
    }
    let validity: Vec<String> = its.iter().map(|contract| contract.validity.to_string()).collect();
    Err(Failure::Config(format!(
        "{file}: customer {customer:?} has no contract in {month}, only {}",
        validity.join(", ")
    )))
}

/// Fails when one of the periods may not be closed, or not any more.
fn may_close(entries: &[Entry<'_>], month: Month, dataset: &Dataset) -> Result<(), Failure> {
    let now = Timestamp::now();
    let mut ends = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kept.is_none()) {
        if let Some(later) = entry.overtaken_by {
            return Err(Failure::Usage(format!(
                "{} of {month} cannot be closed: {later} is closed already, and periods are closed in their order",
                entry.plan.contract.subject
            )));
        }
        let tariff = entry.plan.tariff;
        let period = entry.plan.period.span(&tariff.zone).map_or(i64::MAX, |span| span.until_us);
        ends.insert(period, tariff);
    }
    ends.into_iter().try_for_each(|(until_us, tariff)| {
        closing::check(dataset, until_us, (&tariff.zone, &tariff.tz), now)
    })
}

/// Invoices, and a word about traffic that nobody pays for.
struct Billed {
    invoices: Vec<Invoice>,
    strangers: Option<String>,
}

fn bill(
    entries: &[Entry<'_>],
    ground: &Ground<'_>,
    args: &BillArgs,
    dataset: &Dataset,
) -> Result<Billed, Failure> {
    // What is closed is shown as it is; closing again compares it with what it comes to now.
    let open = |entry: &&Entry<'_>| entry.kept.is_none() || args.close;
    let progress = Progress::start("add up what is billed");
    let measured = measure(entries.iter().filter(open), args, dataset)?;
    drop(progress);
    let mut used = HashMap::<&Subject, BTreeMap<String, Exact>>::new();
    let mut invoices = Vec::new();
    for entry in entries {
        let used = used.entry(&entry.plan.contract.subject).or_insert_with(|| entry.used.clone());
        let invoice = match (&entry.kept, args.close) {
            (Some(kept), false) => kept.invoice.clone(),
            _ => {
                let answers = measured.answers(entry)?;
                let shares = measured.shares(entry)?;
                issue(ground, entry, &answers, shares, used)?
            }
        };
        for credit in &invoice.totals.credits {
            *used.entry(credit.name.clone()).or_default() += &credit.used;
        }
        invoices.push(invoice);
    }
    Ok(Billed { invoices, strangers: measured.strangers(entries) })
}

/// Everything that was measured for the invoices of a run.
struct Measurements<'t> {
    sums: Sums,
    figures: Figures<'t>,
    coverage: HashMap<Span, Shares>,
    /// Where the earliest of the periods that are billed begins.
    since_us: i64,
}

fn measure<'e, 't: 'e>(
    entries: impl Iterator<Item = &'e Entry<'t>>,
    args: &BillArgs,
    dataset: &Dataset,
) -> Result<Measurements<'t>, Failure> {
    let entries: Vec<&Entry<'t>> = entries.collect();
    let spans = entries.iter().map(|entry| span(&entry.plan)).collect::<Result<Vec<_>, _>>()?;
    let since_us = spans.iter().map(|span| span.since_us).min().unwrap_or(i64::MAX);
    let needs = || entries.iter().flat_map(|entry| entry.needs());
    let of_needs = needs().flat_map(|need| &need.spans).chain(&spans);
    let (first, last) = of_needs.fold((i64::MAX, i64::MIN), |(first, last), span| {
        (first.min(span.since_us), last.max(span.until_us))
    });
    let all = utc(Span { since_us: first, until_us: last });
    let reach = coverage::reach(&all);
    let wanted = [Wanted::of("usage", &all), Wanted::of("slots", &reach)];
    let database = Database::open(dataset, if entries.is_empty() { &[] } else { &wanted })?;
    let sums = Demand::new(needs(), args.customer.is_empty()).measure(&database)?;
    let figures = rates::figures(dataset, &database, needs())?;
    let mut coverage = HashMap::new();
    for span in spans {
        if coverage.contains_key(&span) {
            continue;
        }
        // All of a period counts, also what is still to come: what a bill says depends on no clock.
        let shares = coverage::measure((dataset, &database), &utc(span), &[], Timestamp::MAX)?;
        coverage.insert(span, shares);
    }
    Ok(Measurements { sums, figures, coverage, since_us })
}

fn utc(span: Span) -> Period {
    Period {
        since: Some(span.since_us),
        until: Some(span.until_us),
        zone: TimeZone::UTC,
        zone_name: "UTC".to_owned(),
    }
}

impl Measurements<'_> {
    /// What an entry asked for, in its order.
    fn answers(&self, entry: &Entry<'_>) -> Result<Vec<Measured>, Failure> {
        entry
            .needs()
            .map(|need| match need.measure {
                Measure::Percentile(_) => {
                    let figure = self.figures.get(need).cloned();
                    figure.map(Measured::Percentile).ok_or_else(unasked)
                }
                Measure::Bytes | Measure::Sessions | Measure::Datagrams => {
                    self.sums.answer(need).ok_or_else(unasked)
                }
            })
            .collect()
    }

    fn shares(&self, entry: &Entry<'_>) -> Result<&Shares, Failure> {
        self.coverage.get(&span(&entry.plan)?).ok_or_else(unasked)
    }

    /// A word about customers with traffic and without a contract.
    fn strangers(&self, entries: &[Entry<'_>]) -> Option<String> {
        let mut strangers = self.sums.customers(self.since_us);
        for entry in entries {
            if let Subject::Customer(name) = &entry.plan.contract.subject {
                strangers.remove(name.as_str());
            }
        }
        let named: Vec<&str> = strangers.iter().take(MAX_STRANGERS).copied().collect();
        let more = strangers.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        (!named.is_empty()).then(|| {
            format!("not billed: traffic of {}{more}, who have no contract", named.join(", "))
        })
    }
}

fn unasked() -> Failure {
    Failure::Internal("cannot bill: something was not measured".to_owned())
}

/// Keeps what is not kept yet. Nothing is when one of the invoices is closed with other figures.
fn keep(
    ledger: &Ledger,
    month: Month,
    entries: &[Entry<'_>],
    invoices: &[Invoice],
) -> Result<(), Failure> {
    let pairs = || entries.iter().zip(invoices);
    for (entry, invoice) in pairs() {
        if let Some(kept) = &entry.kept
            && kept.invoice != *invoice
        {
            return Err(differs(&ledger.path(month, &entry.file)));
        }
    }
    let new = pairs().filter(|(entry, _)| entry.kept.is_none());
    for (entry, invoice) in new {
        ledger.keep(month, &entry.file, invoice).map_err(Failure::after_output)?;
    }
    Ok(())
}
