//! From the text of `tariffs.toml` to [`Tariffs`].
//!
//! Every table is read on its own, every key of it whatever is wrong with the others; then what
//! they say together is checked. A table with a fault is left out of later checks, so that one
//! mistake is told once.

mod contract;
mod item;
mod pricing;
mod tariff;
mod value;
mod window;

use schemas::config::{Diagnostics, Document, Findings, Refusal, Section, Value};

use super::Tariffs;

/// Most tariffs of a file, versions counted.
const MAX_TARIFFS: usize = 4096;
/// Most contracts of a file.
const MAX_CONTRACTS: usize = 65_536;

/// Every key of the file by its path, as `docs/tariffs.md` must describe it.
pub const KEYS: &[&str] = &[
    "tariff",
    "tariff.name",
    "tariff.currency",
    "tariff.tz",
    "tariff.anchor_day",
    "tariff.valid_from",
    "tariff.valid_to",
    "tariff.tax",
    "tariff.item",
    "tariff.item.name",
    "tariff.item.fee",
    "tariff.item.metric",
    "tariff.item.unit",
    "tariff.item.services",
    "tariff.item.rules",
    "tariff.item.rounding",
    "tariff.item.rounding.mode",
    "tariff.item.rounding.places",
    "tariff.item.allowance",
    "tariff.item.price",
    "tariff.item.model",
    "tariff.item.tiers",
    "tariff.item.tiers.up_to",
    "tariff.item.tiers.price",
    "tariff.item.tiers.fee",
    "tariff.item.package",
    "tariff.item.package.size",
    "tariff.item.package.price",
    "tariff.item.windows",
    "tariff.item.windows.name",
    "tariff.item.windows.days",
    "tariff.item.windows.hours",
    "tariff.item.windows.price",
    "tariff.item.percentile",
    "tariff.item.percentile.percent",
    "tariff.item.percentile.mode",
    "tariff.item.percentile.rank",
    "tariff.item.percentile.missing",
    "tariff.item.percentile.slot",
    "tariff.item.commit",
    "tariff.item.overage",
    "tariff.item.discount",
    "tariff.item.maximum",
    "tariff.item.minimum",
    "tariff.item.prorate",
    "tariff.item.tax",
    "contract",
    "contract.customer",
    "contract.rule",
    "contract.service",
    "contract.tariff",
    "contract.valid_from",
    "contract.valid_to",
    "contract.discount",
    "contract.tax",
    "contract.credit",
    "contract.credit.name",
    "contract.credit.amount",
    "contract.credit.valid_from",
    "contract.credit.expires",
];

impl Tariffs {
    /// What `text`, the content of `file`, means.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        let mut reader = Reader { text, findings: Findings::new(text) };
        let document = Document::parse(text, &mut reader.findings).with_keys(KEYS);
        let mut root = document.root();
        let tables = reader.tables(&mut root, "tariff", MAX_TARIFFS);
        let tariffs = tariff::tariffs(tables, &mut reader);
        let tables = reader.tables(&mut root, "contract", MAX_CONTRACTS);
        let contracts = contract::contracts(tables, &tariffs, &mut reader);
        root.finish(&mut reader.findings);
        if reader.findings.has_faults() {
            return Err(reader.findings.into_diagnostics(file));
        }
        Ok(Self {
            tariffs: tariffs.into_iter().filter_map(|named| named.tariff).collect(),
            contracts,
        })
    }
}

/// The text that is read, and what was found wrong with it.
struct Reader<'t> {
    text: &'t str,
    findings: Findings<'t>,
}

impl<'t> Reader<'t> {
    /// A value as it is spelled.
    fn spelled(&self, value: &Value<'_>) -> &'t str {
        self.text.get(value.span()).unwrap_or_default()
    }

    /// The line that a value begins in.
    fn line_of(&self, value: &Value<'_>) -> usize {
        self.findings.line_of(value.span())
    }

    /// Says what is wrong with a value.
    fn fault(&mut self, value: &Value<'_>, message: impl Into<String>, help: impl Into<String>) {
        value.fault(Refusal::new(message, help), &mut self.findings);
    }

    /// The tables `[[key]]`, each with its value for its place; at most `most`.
    fn tables<'d>(
        &mut self,
        section: &mut Section<'d>,
        key: &'static str,
        most: usize,
    ) -> Vec<(Value<'d>, Section<'d>)> {
        let Some(value) = section.get(key) else { return Vec::new() };
        let help = format!("begin every entry with [[{}]]", value.path());
        self.tables_of(&value, &help, most)
    }

    /// The tables of an array, each with its value for its place; at most `most`.
    fn tables_of<'d>(
        &mut self,
        value: &Value<'d>,
        help: &str,
        most: usize,
    ) -> Vec<(Value<'d>, Section<'d>)> {
        let entries = value.array(help, &mut self.findings).unwrap_or_default();
        if let Some(first_too_many) = entries.get(most) {
            self.fault(first_too_many, format!("there are more than {most}"), "remove some");
        }
        let mut tables = Vec::new();
        for entry in entries.into_iter().take(most) {
            if !entry.is_table() {
                self.fault(&entry, "this is no table", help);
            } else if let Some(section) = entry.section(&mut self.findings) {
                tables.push((entry, section));
            }
        }
        tables
    }
}

/// A key that may be left out: `default` then, and `None` when it is there and faulty.
fn optional<'d, T>(
    section: &mut Section<'d>,
    key: &'static str,
    default: T,
    read: impl FnOnce(&Value<'d>) -> Option<T>,
) -> Option<T> {
    match section.get(key) {
        Some(value) => read(&value),
        None => Some(default),
    }
}
