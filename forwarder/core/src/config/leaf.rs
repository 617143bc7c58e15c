//! One value of the file with its place, and whether it was there at all.

use schemas::config::{Findings, Refusal, Section, Value};
use toml::Spanned;

use super::keys::LATER;

/// What a file says under one key.
#[derive(Debug, Clone)]
pub(super) enum Leaf<T> {
    /// The key is not there.
    Absent,
    /// It is there, and what is wrong with it was reported.
    Faulty,
    /// It is there.
    Given(Spanned<T>),
}

impl<T> Leaf<T> {
    /// What was given.
    pub(super) fn given(&self) -> Option<&Spanned<T>> {
        match self {
            Self::Given(value) => Some(value),
            Self::Absent | Self::Faulty => None,
        }
    }

    /// What was given, without its place.
    pub(super) fn value(&self) -> Option<&T> {
        self.given().map(Spanned::get_ref)
    }

    pub(super) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    fn read(value: &Value<'_>, read: Option<T>) -> Self {
        read.map_or(Self::Faulty, |read| Self::Given(Spanned::new(value.span(), read)))
    }
}

impl<T> Leaf<Vec<T>> {
    /// The entries of the list; none when it is not there.
    pub(super) fn entries(&self) -> &[T] {
        self.value().map(Vec::as_slice).unwrap_or_default()
    }
}

/// A list whose faulty entries were reported and left out.
pub(super) type List<T> = Vec<Spanned<T>>;

/// The keys of one table of the file; of a table that is not there, every key is absent.
#[derive(Debug)]
pub(super) struct Keys<'d> {
    section: Option<Section<'d>>,
}

impl<'d> Keys<'d> {
    pub(super) fn of(mut section: Option<Section<'d>>) -> Self {
        if let Some(section) = &mut section {
            let path = section.path().to_owned();
            let own = LATER.iter().filter_map(|key| match key.rsplit_once('.') {
                Some((parent, name)) => (parent == path).then_some(name),
                None => path.is_empty().then_some(*key),
            });
            section.later(&own.collect::<Vec<_>>());
        }
        Self { section }
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self, findings: &mut Findings<'_>) {
        if let Some(section) = self.section {
            section.finish(findings);
        }
    }

    /// The value of `key` as it is.
    pub(super) fn get(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.section.as_mut()?.get(key)
    }

    /// The keys of the table `key`.
    pub(super) fn table(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Self {
        Self::of(self.get(key).and_then(|value| value.section(findings)))
    }

    /// The tables `[[key]]`, each with the place of its header.
    pub(super) fn tables(
        &mut self,
        key: &'static str,
        help: &str,
        findings: &mut Findings<'_>,
    ) -> Vec<Spanned<Self>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let mut tables = Vec::new();
        for entry in value.array(help, findings).unwrap_or_default() {
            if !entry.is_table() {
                entry.fault(Refusal::new("this is no table", help), findings);
            } else if let Some(section) = entry.section(findings) {
                tables.push(Spanned::new(entry.span(), Self::of(Some(section))));
            }
        }
        tables
    }

    /// A text that `read` makes a value of.
    pub(super) fn text<T>(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings<'_>,
        read: impl FnOnce(&str) -> Result<T, Refusal>,
    ) -> Leaf<T> {
        let Some(value) = self.get(key) else { return Leaf::Absent };
        let read = value.read(&format!("write {key} = \"{example}\""), read, findings);
        Leaf::read(&value, read)
    }

    /// A whole number from `range`.
    pub(super) fn integer(
        &mut self,
        key: &'static str,
        range: std::ops::RangeInclusive<u64>,
        findings: &mut Findings<'_>,
    ) -> Leaf<u64> {
        let Some(value) = self.get(key) else { return Leaf::Absent };
        let read = value.integer(range, findings);
        Leaf::read(&value, read)
    }

    /// True or false.
    pub(super) fn boolean(&mut self, key: &'static str, findings: &mut Findings<'_>) -> Leaf<bool> {
        let Some(value) = self.get(key) else { return Leaf::Absent };
        let read = value.boolean(findings);
        Leaf::read(&value, read)
    }

    /// A list of texts that `read` makes values of, which may be empty.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        example: &str,
        findings: &mut Findings<'_>,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Leaf<List<T>> {
        match self.get(key) {
            Some(value) => list_of(key, &value, example, findings, read),
            None => Leaf::Absent,
        }
    }

    /// A list that may not be empty: an empty one would have to mean nothing or everything, and
    /// a list that a script left empty must not let everyone in.
    pub(super) fn some<T>(
        &mut self,
        key: &'static str,
        example: &str,
        empty: &str,
        findings: &mut Findings<'_>,
        read: impl Fn(&str) -> Result<T, Refusal>,
    ) -> Leaf<List<T>> {
        let Some(value) = self.get(key) else { return Leaf::Absent };
        match list_of(key, &value, example, findings, read) {
            Leaf::Given(list) if list.get_ref().is_empty() => {
                value.fault(Refusal::new("the list is empty", empty), findings);
                Leaf::Faulty
            }
            leaf => leaf,
        }
    }
}

fn list_of<T>(
    key: &str,
    value: &Value<'_>,
    example: &str,
    findings: &mut Findings<'_>,
    read: impl Fn(&str) -> Result<T, Refusal>,
) -> Leaf<List<T>> {
    let help = match value.as_str() {
        Some(text) => format!("write {key} = [{text:?}]"),
        None => format!("write {key} = [\"{example}\"]"),
    };
    let Some(entries) = value.array(&help, findings) else { return Leaf::Faulty };
    let mut list = List::new();
    let mut all_good = true;
    for entry in entries {
        match entry.read(&help, &read, findings) {
            Some(read) => list.push(Spanned::new(entry.span(), read)),
            None => all_good = false,
        }
    }
    // A list that lost some entries is still good for the checks of the others.
    if list.is_empty() && !all_good {
        return Leaf::Faulty;
    }
    Leaf::Given(Spanned::new(value.span(), list))
}
