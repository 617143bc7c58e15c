//! What is to be billed for a month, and which earlier invoices may need correction.

use std::collections::BTreeMap;

use super::Month;
use super::ledger::{Kept, Ledger, stem};
use crate::exact::Exact;
use crate::failure::Failure;
use crate::rating::{Line, Need, Plan, Unpriced};
use crate::tariff::{Contract, Currency, Subject, Tariffs};

/// One invoice to be.
#[derive(Debug)]
pub struct Entry<'t> {
    /// Its file below the month's directory.
    pub file: String,
    /// What is billed.
    pub plan: Plan<'t>,
    /// The invoice, when it is closed.
    pub kept: Option<Kept>,
    /// Closed periods whose difference it carries, the earliest first.
    pub earlier: Vec<Earlier<'t>>,
    /// What closed invoices of earlier periods took of each credit, by its name.
    pub used: BTreeMap<String, Exact>,
    /// A later period is closed already.
    pub overtaken_by: Option<Month>,
}

/// A closed period that is rated again.
#[derive(Debug)]
pub struct Earlier<'t> {
    /// The month in which it began.
    pub month: Month,
    /// The file of its invoice.
    pub file: String,
    /// What is billed for it by now.
    pub plan: Plan<'t>,
    /// What was billed for it until now.
    pub billed: Vec<Line>,
}

impl<'t> Entry<'t> {
    /// Everything that has to be measured for it.
    pub fn needs(&self) -> impl Iterator<Item = &Need<'t>> {
        let plans = std::iter::once(&self.plan).chain(self.earlier.iter().map(|e| &e.plan));
        plans.flat_map(Plan::needs)
    }
}

/// The file of tariffs, and how it is called.
#[derive(Debug, Clone, Copy)]
pub struct Source<'t> {
    /// What it says.
    pub tariffs: &'t Tariffs,
    /// Its name for messages.
    pub file: &'t str,
}

/// The invoices of a month in the order of their contracts in the file; with `customers` only
/// theirs.
///
/// # Errors
/// 78 when a contract that holds has no prices, a closed period no longer has its contract, or
/// nothing is to be billed; and as [`Ledger::of`].
pub fn agenda<'t>(
    source: Source<'t>,
    month: Month,
    customers: &[String],
    ledger: Option<&Ledger>,
) -> Result<Vec<Entry<'t>>, Failure> {
    let wanted = |contract: &&Contract| {
        let asked = |name: &str| customers.iter().any(|customer| customer == name);
        match &contract.subject {
            Subject::Customer(name) => customers.is_empty() || asked(name.as_str()),
            Subject::Rule(_) | Subject::Service(_) => customers.is_empty(),
        }
    };
    let mut subjects = Vec::<&Subject>::new();
    for contract in source.tariffs.contracts.iter().filter(wanted) {
        if !subjects.contains(&&contract.subject) {
            subjects.push(&contract.subject);
        }
    }
    let mut entries = Vec::new();
    for subject in subjects {
        entries.extend(of_subject(source, subject, month, ledger)?);
    }
    Ok(entries)
}

fn of_subject<'t>(
    source: Source<'t>,
    subject: &Subject,
    month: Month,
    ledger: Option<&Ledger>,
) -> Result<Vec<Entry<'t>>, Failure> {
    let mut entries: Vec<Entry<'t>> = plans(source, subject, month)?
        .into_iter()
        .map(|(file, plan)| Entry {
            file,
            plan,
            kept: None,
            earlier: Vec::new(),
            used: BTreeMap::new(),
            overtaken_by: None,
        })
        .collect();
    let kept = match ledger {
        Some(ledger) if !entries.is_empty() => ledger.of(subject)?,
        _ => return Ok(entries),
    };
    for entry in &mut entries {
        let mine = |kept: &&Kept| kept.month == month && kept.file == entry.file;
        entry.kept = kept.iter().find(mine).cloned();
        entry.overtaken_by = kept.iter().map(|kept| kept.month).find(|later| *later > month);
        for earlier in kept.iter().filter(|kept| kept.month < month) {
            for credit in &earlier.invoice.totals.credits {
                *entry.used.entry(credit.name.clone()).or_default() += &credit.used;
            }
        }
    }
    for earlier in kept.iter().filter(|kept| kept.month < month) {
        let again = rated_again(source, subject, earlier, &kept, month)?;
        let currency = earlier.invoice.currency;
        let takes = |entry: &&mut Entry<'_>| entry.plan.tariff.currency == currency;
        // In another currency there is nothing to add it to.
        if let Some(entry) = entries.iter_mut().find(takes) {
            entry.earlier.push(again);
        }
    }
    Ok(entries)
}

/// The plans of a subject for a month, each with the file of its invoice.
fn plans<'t>(
    source: Source<'t>,
    subject: &Subject,
    month: Month,
) -> Result<Vec<(String, Plan<'t>)>, Failure> {
    let mut plans: Vec<Plan<'t>> = Vec::new();
    let contracts = source.tariffs.contracts.iter().filter(|c| c.subject == *subject);
    for contract in contracts {
        let plan = Plan::new(source.tariffs, contract, month.first());
        plans.extend(plan.map_err(|unpriced| explain(&unpriced, source.file))?);
    }
    plans.sort_by_key(|plan| plan.active);
    let stem = stem(subject);
    let name = |(at, plan): (usize, Plan<'t>)| match at {
        0 => (format!("{stem}.json"), plan),
        _ => (format!("{stem}@{}.json", plan.active.first), plan),
    };
    Ok(plans.into_iter().enumerate().map(name).collect())
}

fn explain(unpriced: &Unpriced, file: &str) -> Failure {
    match unpriced {
        Unpriced::NoPrices { .. } => Failure::Config(format!("{file}: {unpriced}")),
        Unpriced::Calendar(_) => Failure::Usage(unpriced.to_string()),
    }
}

/// A closed period by the tariffs of today, and what was billed for it before `month`.
fn rated_again<'t>(
    source: Source<'t>,
    subject: &Subject,
    closed: &Kept,
    kept: &[Kept],
    month: Month,
) -> Result<Earlier<'t>, Failure> {
    let plan = plans(source, subject, closed.month)?
        .into_iter()
        .find(|(file, plan)| {
            *file == closed.file && plan.tariff.currency == closed.invoice.currency
        })
        .map(|(_, plan)| plan)
        .ok_or_else(|| gone(source.file, subject, closed, closed.invoice.currency))?;
    let adjusted = kept.iter().filter(|later| later.month < month);
    let latest = adjusted
        .flat_map(|later| &later.invoice.adjustments)
        .rfind(|a| a.period == closed.invoice.period && a.file == closed.file);
    let billed = match latest {
        Some(adjustment) => adjustment.rated.clone(),
        None => closed.invoice.lines.clone(),
    };
    Ok(Earlier { month: closed.month, file: closed.file.clone(), plan, billed })
}

fn gone(file: &str, subject: &Subject, closed: &Kept, currency: Currency) -> Failure {
    Failure::Config(format!(
        "{file}: {subject} was billed in {currency} for {}, and no such contract is left: keep the contracts of closed periods, with a valid_to",
        closed.month
    ))
}
