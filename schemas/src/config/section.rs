//! A walk over a TOML file that knows where every key and value stands.

use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::diagnostic::{Findings, Refusal};
use super::quantity;

/// A parsed file.
#[derive(Debug)]
pub struct Document<'d> {
    root: Spanned<DeTable<'d>>,
    keys: &'static [&'static str],
}

impl<'d> Document<'d> {
    /// The file `text`, as far as it can be understood; what cannot goes to `findings`.
    pub fn parse(text: &'d str, findings: &mut Findings<'_>) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(text.len()..text.len());
            let message = format!("this is not TOML: {}", error.message());
            const HELP: &str = "a line is key = value, [section] or [[entry]]; a text stands in \
                                double quotes: \"text\"";
            findings.fault(span, Refusal::new(message, HELP));
        }
        Self { root, keys: &[] }
    }

    /// Names every key by its path (`section.key`), so that one in a wrong place can be told where
    /// it belongs: a key behind a `[section]` is in it, which is easily forgotten.
    pub fn with_keys(self, keys: &'static [&'static str]) -> Self {
        Self { keys, ..self }
    }

    /// The top of the file.
    pub fn root(&self) -> Section<'_> {
        Section::new(String::new(), None, self.root.get_ref(), self.keys)
    }
}

/// One table of the file. Each key is asked for once; [`Section::finish`] then tells what nobody
/// asked for.
#[derive(Debug)]
pub struct Section<'d> {
    path: String,
    /// `None`: the whole file.
    span: Option<Range<usize>>,
    table: &'d DeTable<'d>,
    known: Vec<&'static str>,
    later: Vec<&'static str>,
    /// See [`Document::with_keys`].
    all: &'static [&'static str],
}

impl<'d> Section<'d> {
    fn new(
        path: String,
        span: Option<Range<usize>>,
        table: &'d DeTable<'d>,
        all: &'static [&'static str],
    ) -> Self {
        Self { path, span, table, known: Vec::new(), later: Vec::new(), all }
    }

    /// Says that the table as a whole is wrong.
    pub fn fault(&self, refusal: Refusal, findings: &mut Findings<'_>) {
        match self.span.clone() {
            Some(span) => findings.fault(span, refusal),
            None => findings.fault_of_file(refusal),
        }
    }

    /// The table's keys joined by points; empty for the top.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value of `key`, if the file has one.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'d>> {
        self.known.push(key);
        let value = self.table.get(key)?;
        Some(Value {
            path: join(&self.path, key),
            span: value.span(),
            value: value.get_ref(),
            all: self.all,
        })
    }

    /// Every key with its place and value, in the order of the file, for a table whose keys are
    /// data. They need not be asked for one by one.
    pub fn entries(&self) -> Vec<(&'d str, Range<usize>, Value<'d>)> {
        let mut entries: Vec<_> = self
            .table
            .iter()
            .map(|(key, value)| {
                let value = Value {
                    path: key.get_ref().to_string(),
                    span: value.span(),
                    value: value.get_ref(),
                    all: self.all,
                };
                (key.get_ref().as_ref(), key.span(), value)
            })
            .collect();
        entries.sort_unstable_by_key(|(_, span, _)| span.start);
        entries
    }

    /// The value of `key`; its absence is a fault with `help`.
    pub fn require(
        &mut self,
        key: &'static str,
        help: &str,
        findings: &mut Findings<'_>,
    ) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            let message = format!("{} is missing", join(&self.path, key));
            self.fault(Refusal::new(message, help), findings);
        }
        value
    }

    /// The table under `key`, if the file has one; anything but a table is a fault.
    pub fn section(
        &mut self,
        key: &'static str,
        findings: &mut Findings<'_>,
    ) -> Option<Section<'d>> {
        self.get(key)?.section(findings)
    }

    /// Names keys that Weir has but this version does not build yet; using one is a fault.
    pub fn later(&mut self, keys: &[&'static str]) {
        self.later.extend_from_slice(keys);
    }

    /// Every key that nobody asked for is a fault: known to a later version, or unknown.
    pub fn finish(self, findings: &mut Findings<'_>) {
        for key in self.table.keys() {
            let name = key.get_ref().as_ref();
            if self.known.contains(&name) {
                continue;
            }
            let path = join(&self.path, name);
            if self.later.contains(&name) {
                findings.fault(key.span(), Refusal::later(path, "remove it"));
                continue;
            }
            let here = if self.path.is_empty() {
                "at the top of the file".to_owned()
            } else {
                format!("in [{}]", self.path)
            };
            let help = match nearest(name, self.known.iter().chain(&self.later)) {
                Some(near) => format!("did you mean {near}?"),
                None => belongs(name, self.all)
                    .unwrap_or_else(|| format!("keys {here} are: {}", self.known.join(", "))),
            };
            findings.fault(key.span(), Refusal::new(format!("{path} is not a key"), help));
        }
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// Where else a key of this name would be right.
fn belongs(name: &str, all: &[&str]) -> Option<String> {
    let parts = all.iter().map(|path| path.rsplit_once('.').unwrap_or(("", path)));
    let (section, _) = parts.into_iter().find(|(_, key)| *key == name)?;
    Some(match section {
        "" => format!("{name} belongs at the top of the file, before the first [section]"),
        _ => format!("did you mean {section}.{name}?"),
    })
}

/// The key that `name` is most likely a misspelling of.
fn nearest<'k>(name: &str, keys: impl Iterator<Item = &'k &'static str>) -> Option<&'static str> {
    let name = name.to_lowercase();
    keys.map(|key| (strsim::jaro_winkler(&name, key), *key))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, key)| key)
}

/// One value of the file.
#[derive(Debug, Clone)]
pub struct Value<'d> {
    path: String,
    span: Range<usize>,
    value: &'d DeValue<'d>,
    /// See [`Document::with_keys`].
    all: &'static [&'static str],
}

impl<'d> Value<'d> {
    /// Where the value stands.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// The value's keys joined by points.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value as text, if it is one.
    pub fn as_str(&self) -> Option<&'d str> {
        self.value.as_str()
    }

    /// Whether the value is a table.
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// Whether the value is an array.
    pub fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// Says that the value is wrong; its path is put before the message.
    pub fn fault(&self, mut refusal: Refusal, findings: &mut Findings<'_>) {
        refusal.message = format!("{}: {}", self.path, refusal.message);
        findings.fault(self.span(), refusal);
    }

    fn wrong_type(&self, expected: &str, help: &str, findings: &mut Findings<'_>) {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a bare number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.fault(Refusal::new(format!("expected {expected}, found {found}"), help), findings);
    }

    /// The value as text; anything else is a fault with `help`.
    pub fn text(&self, help: &str, findings: &mut Findings<'_>) -> Option<&'d str> {
        let text = self.value.as_str();
        if text.is_none() {
            self.wrong_type("a text in quotes", help, findings);
        }
        text
    }

    /// The value as a text that `T` understands; anything else is a fault with `help`.
    pub fn parse<T>(&self, help: &str, findings: &mut Findings<'_>) -> Option<T>
    where
        T: FromStr,
        T::Err: Display,
    {
        match self.text(help, findings)?.parse() {
            Ok(parsed) => Some(parsed),
            Err(error) => {
                self.fault(Refusal::new(error.to_string(), help), findings);
                None
            }
        }
    }

    /// The value as a whole number in `range`.
    pub fn integer(&self, range: RangeInclusive<u64>, findings: &mut Findings<'_>) -> Option<u64> {
        let help = format!("write a whole number from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = self.value else {
            self.wrong_type("a whole number", &help, findings);
            return None;
        };
        let number = u64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let number = number.filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(Refusal::new(format!("{integer} is out of range"), help), findings);
        }
        number
    }

    /// The value as true or false.
    pub fn boolean(&self, findings: &mut Findings<'_>) -> Option<bool> {
        let value = self.value.as_bool();
        if value.is_none() {
            self.wrong_type("true or false", "write true or false, without quotes", findings);
        }
        value
    }

    /// The value as a size in bytes.
    pub fn size(&self, findings: &mut Findings<'_>) -> Option<u64> {
        self.read(r#"write a size, as in "64 KiB""#, quantity::size, findings)
    }

    /// The value as a duration.
    pub fn duration(&self, findings: &mut Findings<'_>) -> Option<Duration> {
        self.read(r#"write a duration, as in "10s""#, quantity::duration, findings)
    }

    /// The value as a text that `reader` takes; `help` is for a value that is no text.
    pub fn read<T>(
        &self,
        help: &str,
        reader: impl FnOnce(&'d str) -> Result<T, Refusal>,
        findings: &mut Findings<'_>,
    ) -> Option<T> {
        reader(self.text(help, findings)?).map_err(|refusal| self.fault(refusal, findings)).ok()
    }

    /// The members of the value, an array; anything else is a fault with `help`.
    pub fn array(&self, help: &str, findings: &mut Findings<'_>) -> Option<Vec<Value<'d>>> {
        let DeValue::Array(members) = self.value else {
            self.wrong_type("an array", help, findings);
            return None;
        };
        let member = |member: &'d Spanned<DeValue<'d>>| Value {
            path: self.path.clone(),
            span: member.span(),
            value: member.get_ref(),
            all: self.all,
        };
        Some(members.iter().map(member).collect())
    }

    /// The value as a table; anything else is a fault.
    pub fn section(&self, findings: &mut Findings<'_>) -> Option<Section<'d>> {
        let DeValue::Table(table) = self.value else {
            let help = format!("write [{}] on a line of its own, or {{ … }}", self.path);
            self.wrong_type("a table", &help, findings);
            return None;
        };
        Some(Section::new(self.path.clone(), Some(self.span()), table, self.all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str, walk: impl FnOnce(&mut Section<'_>, &mut Findings<'_>)) -> String {
        let mut faults = Findings::new(text);
        let document = Document::parse(text, &mut faults);
        let mut root = document.root();
        walk(&mut root, &mut faults);
        root.finish(&mut faults);
        faults.into_diagnostics("some.toml").to_string()
    }

    #[test]
    fn every_fault_of_a_file_is_told_with_its_place() {
        let text = r#"
name = "-bad"
publish_evry = "10s"
size = 64
every = "10 sec"
number = 0x20
on = "yes"
later = true
zzz = 1
list = "one"
[inner]
x = 1
"#;
        let told = faults_of(text, |root, faults| {
            root.get("name").unwrap().parse::<crate::vocab::NodeName>("write a name", faults);
            root.get("publish_every");
            root.get("size").unwrap().size(faults);
            root.get("every").unwrap().duration(faults);
            root.get("number").unwrap().integer(1..=9, faults);
            root.get("on").unwrap().boolean(faults);
            root.get("list").unwrap().array("write [\"one\"]", faults);
            root.section("inner", faults).unwrap().finish(faults);
            root.require("must", "write must = 1", faults);
            root.later(&["later"]);
        });
        insta::assert_snapshot!(told);
    }

    #[test]
    fn malformed_toml_is_a_fault_and_the_rest_is_still_read() {
        let told = faults_of("a = = 1\nb = 2\nc = 3\n", |root, _| {
            root.get("a");
            root.get("b");
        });
        insta::assert_snapshot!(told);
    }

    #[test]
    fn a_key_in_the_wrong_place_is_told_where_it_belongs() {
        let text = "[inner]\nnode = 1\nspool = 2\n";
        let mut faults = Findings::new(text);
        let document = Document::parse(text, &mut faults).with_keys(&["node", "recorder.spool"]);
        let mut root = document.root();
        root.section("inner", &mut faults).unwrap().finish(&mut faults);
        let told = faults.into_diagnostics("some.toml").to_string();
        assert!(told.contains("node belongs at the top of the file, before the first"), "{told}");
        assert!(told.contains("did you mean recorder.spool?"), "{told}");
    }

    #[test]
    fn a_good_file_has_no_faults() {
        let told = faults_of("size = \"1 MiB\"\nn = 5\nt = { on = true }", |root, faults| {
            assert_eq!(root.get("size").unwrap().size(faults), Some(1 << 20));
            assert_eq!(root.get("n").unwrap().integer(0..=9, faults), Some(5));
            let mut inner = root.section("t", faults).unwrap();
            assert_eq!(inner.get("on").unwrap().boolean(faults), Some(true));
            inner.finish(faults);
            assert_eq!(root.get("absent").map(|v| v.span()), None);
        });
        assert_eq!(told, "");
    }
}
