//! The files that a configuration names with an `@`. This crate opens none: the shell is told which
//! there are ([`files_of`]) and hands over what they hold in [`Environment::files`].
//!
//! A file of networks has one network or address on a line; what follows a `#` or `;` is a comment.
//! A file of customers is a TOML table: `"192.0.2.0/24" = "acme"`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;
use schemas::config::{Document, Findings, Refusal};
use schemas::vocab::CustomerName;

use super::Environment;
use super::address::network;
use super::raw::{File, RawCustomer, RawOrigin, name};

/// Most files of a configuration.
const MAX_FILES: usize = 256;

/// Most networks in all files together, a file that is named twice counted once.
pub const MAX_FILE_NETWORKS: usize = 500_000;

/// The files that a configuration names, by the paths as they stand there; none if it cannot be
/// read at all. A relative path begins at the directory of the configuration.
pub fn files_of(source: &str) -> BTreeSet<PathBuf> {
    let mut findings = Findings::new(source);
    let document = Document::parse(source, &mut findings);
    let file = File::read(&document, &mut findings);
    let mut files = BTreeSet::new();
    for (path, ..) in named(&file) {
        if files.len() == MAX_FILES {
            break;
        }
        files.insert(path.to_owned());
    }
    files
}

/// How a file is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Networks,
    Customers,
}

/// Every `@` of a configuration with its place.
fn named(file: &File) -> impl Iterator<Item = (&Path, Range<usize>, Kind)> {
    file.rules.iter().flat_map(|rule| {
        let origins = rule.from.entries().iter().chain(rule.not_from.entries());
        let networks = origins.filter_map(|entry| match entry.get_ref() {
            RawOrigin::File(path) => Some((path.as_path(), entry.span(), Kind::Networks)),
            RawOrigin::Plain(_) => None,
        });
        let customers = rule.customer.given().and_then(|customer| match customer.get_ref() {
            RawCustomer::File(path) => Some((path.as_path(), customer.span(), Kind::Customers)),
            RawCustomer::Fixed(_) => None,
        });
        networks.chain(customers)
    })
}

/// What the files of a configuration mean.
#[derive(Debug, Default)]
pub(super) struct Files {
    networks: HashMap<PathBuf, Arc<[IpNet]>>,
    customers: HashMap<PathBuf, Arc<[(IpNet, CustomerName)]>>,
}

impl Files {
    /// Reads every file once, whatever the number of rules that name it. `configuration` is the
    /// name of the file that names them.
    pub(super) fn read(
        file: &File,
        configuration: &str,
        environment: &Environment,
        findings: &mut Findings<'_>,
    ) -> Self {
        let mut files = Self::default();
        let mut seen = BTreeSet::new();
        let mut room = MAX_FILE_NETWORKS;
        for (path, span, kind) in named(file) {
            if seen.contains(&(path, kind as u8)) {
                continue;
            }
            if seen.len() == MAX_FILES {
                let message = format!("more than {MAX_FILES} files are named");
                findings.fault(span, Refusal::new(message, "write their networks into fewer"));
                break;
            }
            seen.insert((path, kind as u8));
            let text = match environment.files.get(path) {
                Some(Ok(text)) => text,
                Some(Err(why)) => {
                    let message = format!("cannot read {}: {why}", path.display());
                    let help = "a relative path begins at the directory of this file";
                    findings.fault(span, Refusal::new(message, help));
                    continue;
                }
                None => {
                    let message = format!("{} was not read", path.display());
                    findings.fault(span, Refusal::new(message, ""));
                    continue;
                }
            };
            let shown = Path::new(configuration).with_file_name(path).display().to_string();
            let mut own = Findings::new(text);
            match kind {
                Kind::Networks => {
                    let networks = networks_of(text, &mut room, &mut own);
                    files.networks.insert(path.to_owned(), networks.into());
                }
                Kind::Customers => {
                    let customers = customers_of(text, &mut room, &mut own);
                    files.customers.insert(path.to_owned(), customers.into());
                }
            }
            findings.take_in(span, own.into_diagnostics(&shown));
        }
        files
    }

    /// The networks of a file without faults.
    pub(super) fn networks(&self, path: &Path) -> Option<Arc<[IpNet]>> {
        self.networks.get(path).map(Arc::clone)
    }

    /// The customers of a file without faults.
    pub(super) fn customers(&self, path: &Path) -> Option<Arc<[(IpNet, CustomerName)]>> {
        self.customers.get(path).map(Arc::clone)
    }
}

/// What the revision of a configuration depends on besides its own text: the files that it names,
/// in the order of their paths.
pub(super) fn contents<'e>(
    file: &File,
    environment: &'e Environment,
) -> BTreeMap<PathBuf, &'e str> {
    let text = |path: &Path| environment.files.get(path)?.as_deref().ok();
    named(file).filter_map(|(path, ..)| Some((path.to_owned(), text(path)?))).collect()
}

/// Says once that the files hold too much, and whether this network still has room.
fn has_room(room: &mut usize, span: Range<usize>, findings: &mut Findings<'_>) -> bool {
    if let Some(less) = room.checked_sub(1) {
        *room = less;
        return true;
    }
    let message = format!("there are more than {MAX_FILE_NETWORKS} networks in all files together");
    findings.fault(span, Refusal::new(message, "write larger networks instead of their parts"));
    false
}

fn networks_of(text: &str, room: &mut usize, findings: &mut Findings<'_>) -> Vec<IpNet> {
    let mut networks = Vec::new();
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let entry = line.split(['#', ';']).next().unwrap_or_default();
        let start = at + entry.len() - entry.trim_start().len();
        at += line.len();
        let entry = entry.trim();
        if entry.is_empty() {
            continue;
        }
        let span = start..start + entry.len();
        match network(entry) {
            Ok(_) if !has_room(room, span.clone(), findings) => break,
            Ok(network) => networks.push(network),
            Err(refusal) => findings.fault(span, refusal),
        }
    }
    networks.sort_unstable();
    networks.dedup();
    networks
}

fn customers_of(
    text: &str,
    room: &mut usize,
    findings: &mut Findings<'_>,
) -> Vec<(IpNet, CustomerName)> {
    const HELP: &str = "write a network and who is billed, as in \"192.0.2.0/24\" = \"acme\"";
    let document = Document::parse(text, findings);
    let mut customers = Vec::new();
    let mut seen: HashMap<IpNet, Range<usize>> = HashMap::new();
    for (key, span, value) in document.root().entries() {
        let network = network(key).map_err(|refusal| findings.fault(span.clone(), refusal));
        let customer = value.read(HELP, name::<CustomerName>, findings);
        let (Ok(network), Some(customer)) = (network, customer) else { continue };
        if !has_room(room, span.clone(), findings) {
            break;
        }
        match seen.get(&network) {
            Some(first) => {
                let line = findings.line_of(first.clone());
                let message = format!("{network} has a customer in line {line}");
                findings.fault(span, Refusal::new(message, "remove one of the two"));
            }
            None => {
                seen.insert(network, span);
                customers.push((network, customer));
            }
        }
    }
    customers.sort_unstable_by_key(|(network, _)| *network);
    customers
}

/// The faults of files, when there is nothing else to say of them.
#[cfg(test)]
fn faults(text: &str, read: impl FnOnce(&mut Findings<'_>)) -> schemas::config::Diagnostics {
    let mut findings = Findings::new(text);
    read(&mut findings);
    findings.into_diagnostics("f")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_networks_has_one_on_a_line_and_comments() {
        let text = "# ours\n10.0.0.0/8 ; all\n\n  192.0.2.7\r\n2001:db8::/32#\n10.0.0.0/8";
        let mut findings = Findings::new(text);
        let networks = networks_of(text, &mut 10, &mut findings);
        assert!(!findings.has_faults());
        let shown: Vec<String> = networks.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
    }

    #[test]
    fn a_file_is_found_behind_many_rules_that_name_another() {
        let rule = |path: &str| format!("[[rule]]\nfrom = [\"@{path}\"]\n");
        let source = rule("first.txt").repeat(2 * MAX_FILES) + &rule("last.txt");
        let files = files_of(&source);
        assert_eq!(files, ["first.txt", "last.txt"].map(PathBuf::from).into());
        let many: String = (0..2 * MAX_FILES).map(|file| rule(&file.to_string())).collect();
        assert_eq!(files_of(&many).len(), MAX_FILES);
    }

    #[test]
    fn what_is_wrong_in_a_file_has_its_place_there() {
        let text = "10.0.0.0/8\n  10.1.2.3/8 # bits\nguests.example.com\n";
        let found = faults(text, |findings| drop(networks_of(text, &mut 10, findings)));
        let lines: Vec<String> = found.lines().collect();
        assert!(lines[0].starts_with("f:2:3: \"10.1.2.3/8\" has bits set"), "{lines:?}");
        assert!(lines[1].starts_with("f:3:1: \"guests.example.com\" is not"), "{lines:?}");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn a_network_has_one_customer() {
        let text = "\"192.0.2.1\" = \"acme\"\n\"192.0.2.1/32\" = \"emca\"\n\"10.0.0.0/8\" = 7\n\
                    \"x\" = \"-\"\n\"10.1.0.0/16\" = \"b\"\n";
        let found = faults(text, |findings| {
            assert_eq!(customers_of(text, &mut 10, findings).len(), 2);
        });
        insta::assert_snapshot!(found);
    }

    #[test]
    fn files_beyond_the_bound_are_refused_once() {
        let text = "10.0.0.1\n10.0.0.2\n10.0.0.3\n10.0.0.4\n";
        let found = faults(text, |findings| drop(networks_of(text, &mut 2, findings)));
        assert_eq!(found.list.len(), 1);
        assert_eq!(found.list[0].place.as_ref().map(|place| place.line), Some(3));
    }
}
