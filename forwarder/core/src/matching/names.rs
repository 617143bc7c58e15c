//! Sets of names, asked for the name of one client.

use crate::config::ServerName;

/// Domains: each stands for itself and for every name below it.
#[derive(Debug, Clone, Default)]
pub(super) struct Domains(Box<[Box<str>]>);

impl Domains {
    /// Domains in lower case, without a dot at either end.
    pub(super) fn new<'a>(domains: impl Iterator<Item = &'a str>) -> Self {
        Self(sorted(domains))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `name` is one of them or below one.
    pub(super) fn hold(&self, name: &str) -> bool {
        has(&self.0, name) || above(name).any(|domain| has(&self.0, domain))
    }
}

/// What `server_name` of one rule says.
#[derive(Debug, Clone, Default)]
pub(super) struct ServerNames {
    exact: Box<[Box<str>]>,
    below: Box<[Box<str>]>,
}

impl ServerNames {
    pub(super) fn new(names: &[ServerName]) -> Self {
        let (mut exact, mut below) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                ServerName::Exact(name) => exact.push(name.as_str()),
                ServerName::Below(name) => below.push(name.as_str()),
            }
        }
        Self { exact: sorted(exact.into_iter()), below: sorted(below.into_iter()) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.exact.is_empty() && self.below.is_empty()
    }

    /// Whether one of them means `name`.
    pub(super) fn mean(&self, name: &str) -> bool {
        has(&self.exact, name)
            || !self.below.is_empty() && above(name).any(|domain| has(&self.below, domain))
    }
}

fn sorted<'a>(names: impl Iterator<Item = &'a str>) -> Box<[Box<str>]> {
    let mut names: Vec<Box<str>> = names.map(Box::from).collect();
    names.sort_unstable();
    names.dedup();
    names.into()
}

fn has(sorted: &[Box<str>], name: &str) -> bool {
    sorted.binary_search_by(|own| (**own).cmp(name)).is_ok()
}

/// The domains above a name, the nearest first: `b.c` and `c` of `a.b.c`.
fn above(name: &str) -> impl Iterator<Item = &str> {
    // A dot in front has no label before it.
    name.char_indices().filter(|&(at, dot)| dot == '.' && at > 0).map(|(at, _)| &name[at + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_holds_itself_and_what_is_below_it_on_the_border_of_a_label() {
        let domains = Domains::new(["example.com", "test"].into_iter());
        for (name, expected) in [
            ("example.com", true),
            ("a.example.com", true),
            ("a.b.example.com", true),
            ("badexample.com", false),
            ("example.com.evil", false),
            ("com", false),
            ("", false),
            ("test", true),
            ("atest", false),
            ("a.test", true),
        ] {
            assert_eq!(domains.hold(name), expected, "{name}");
        }
        assert!(!Domains::default().hold("example.com"));
    }

    #[test]
    fn many_server_names_mean_what_each_of_them_does() {
        let names = ["a.example.com", "example.net"].map(|name| ServerName::Exact(name.to_owned()));
        let below = ["example.com", "b.example.net"].map(|name| ServerName::Below(name.to_owned()));
        let all: Vec<ServerName> = names.into_iter().chain(below).collect();
        let compiled = ServerNames::new(&all);
        for name in [
            "a.example.com",
            "example.com",
            ".example.com",
            "b.a.example.com",
            "example.net",
            "a.example.net",
            "b.example.net",
            "c.b.example.net",
            "xb.example.net",
            "..",
            ".",
            "",
        ] {
            let expected = all.iter().any(|one| one.means(name));
            assert_eq!(compiled.mean(name), expected, "{name}");
        }
    }
}
