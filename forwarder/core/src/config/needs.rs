//! What has to be found out about a client before a rule can be judged.

use super::{Action, Config, Origin, Rule};

/// What a rule needs besides addresses and ports.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needs<'a> {
    /// The client's name, by reverse lookup: because of its own conditions, or because `[dns]`
    /// requires one of every client that passes.
    pub reverse_name: bool,
    /// Whether one of its own conditions is about a name, which may be unknown.
    pub own_names: bool,
    /// The name of the server that the client asks for.
    pub server_name: bool,
    /// The addresses of these host names, which are followed in the background.
    pub names: Vec<&'a str>,
    /// The addresses of these network interfaces.
    pub interfaces: Vec<&'a str>,
}

impl Config {
    /// What a rule needs. A client waits only for what takes time, the first two, and only when the
    /// rule could still match it otherwise.
    pub fn needs<'a>(&self, rule: &'a Rule) -> Needs<'a> {
        let required = self.dns.require_ptr || self.dns.require_confirmed;
        let mut needs = Needs {
            reverse_name: required && matches!(rule.action, Action::Pass(_)),
            server_name: !rule.server_name.is_empty(),
            own_names: !rule.server_name.is_empty(),
            ..Needs::default()
        };
        for origin in rule.from.iter().chain(&rule.not_from) {
            match origin {
                Origin::Domain(_) => {
                    needs.own_names = true;
                    needs.reverse_name = true;
                }
                Origin::Name(name) => {
                    needs.own_names = true;
                    needs.names.push(name);
                }
                Origin::Interface(name) => needs.interfaces.push(name),
                Origin::Network(_) | Origin::File(_) => {}
            }
        }
        needs
    }
}
