//! Who may pass: the rules, asked in order.
//!
//! A [`Matcher`] is a configuration's rules, ready to be asked, together with what the names in them
//! mean at the moment (the [`Book`]). Asking is stateless: a verdict may be a [`Question`] about the
//! client; whoever finds the answer out asks again with it.
//!
//! What is asked for: only what the first rule needs that may still match. A rule of which the
//! transport, listener, port or address of the client already says no needs nothing, and neither
//! does one of which the answer would change nothing; a rule after the one that decides is not
//! looked at. Of two questions the reverse name comes first.
//!
//! What is not known: a lookup that failed, a host name in the rule that does not resolve, a server
//! name that the client did not send. Then the whole rule may or may not match, and its
//! `unknown_name` says which it is. With the defaults a rule that blocks takes it for a match and a
//! rule that passes does not, wherever the unknown stands: in `from`, in `server_name`, or turned
//! around in `not_from`. So nobody gets in by what is not known.

mod book;
mod conditions;
mod customers;
mod names;
mod networks;
mod scope;

pub use book::Book;
pub use customers::CustomerTable;

use std::net::IpAddr;

use ipnet::IpNet;
use schemas::vocab::Transport;

use self::conditions::{Conditions, Truth};
use self::networks::{Mention, Networks, WORD, place};
use self::scope::Scope;
use crate::config::{Action, Config, Dns, Listener, Rule};

/// A client as the rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// The listener it came to.
    pub listener: Listener,
    /// The effective client's address.
    pub ip: IpAddr,
    /// The effective client's port.
    pub port: u16,
    /// What reverse lookup says about the address.
    pub reverse: Fact<&'a ReverseNames>,
    /// Which server it asked for, in lower case and without a dot at the end.
    pub server_name: Fact<&'a str>,
}

/// Something about a client that takes time to find out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fact<T> {
    /// Nobody has looked.
    #[default]
    NotAsked,
    /// It cannot be found out.
    Unknown,
    /// This it is.
    Known(T),
}

impl<T> Fact<T> {
    /// The same fact, borrowed.
    pub fn as_ref(&self) -> Fact<&T> {
        match self {
            Self::NotAsked => Fact::NotAsked,
            Self::Unknown => Fact::Unknown,
            Self::Known(value) => Fact::Known(value),
        }
    }

    /// The same fact, in other words.
    pub fn map<U>(self, words: impl FnOnce(T) -> U) -> Fact<U> {
        match self {
            Self::NotAsked => Fact::NotAsked,
            Self::Unknown => Fact::Unknown,
            Self::Known(value) => Fact::Known(words(value)),
        }
    }
}

/// What reverse lookup says about an address. An address without any name is this, empty; a lookup
/// that failed is [`Fact::Unknown`]. To rules that ask for a domain it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReverseNames {
    /// Whether there is a name at all.
    pub has_name: bool,
    /// The names that have the address among their own, in lower case and without a dot at the end.
    pub confirmed: Vec<String>,
}

/// The answer of the rules about one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is relayed, as this rule says.
    Pass {
        /// Index into [`Config::rules`].
        rule: usize,
    },
    /// It is refused.
    Block {
        /// The rule that refuses; `None`: no rule matched.
        rule: Option<usize>,
    },
    /// This rule passes it, and `[dns]` requires a name that it does not have.
    Nameless {
        /// Index into [`Config::rules`].
        rule: usize,
    },
    /// That depends.
    Ask(Question),
}

/// What a verdict depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// What reverse lookup says about the client.
    ReverseName,
    /// Which server the client asks for.
    ServerName,
}

/// Rules, ready to be asked.
#[derive(Debug, Clone)]
pub struct Matcher {
    networks: Networks,
    /// By the index of the rule.
    rules: Vec<Judged>,
    /// By the index of the service, and TCP before UDP.
    lanes: Vec<[Lane; 2]>,
    dns: Dns,
}

/// What is left of a rule besides its networks, its services and its transport.
#[derive(Debug, Clone)]
struct Judged {
    passes: bool,
    /// Clients of the ports outside of these need not be asked about more.
    ports: [u16; 2],
    conditions: Option<Box<Conditions>>,
}

/// The rules that have a say in one service and transport, by words of 64.
#[derive(Debug, Clone)]
struct Lane {
    members: Box<[u64]>,
    /// Those among them that one may meet anywhere, without the empty words.
    anywhere: Box<[Anywhere]>,
}

/// Rules that one may meet whatever one's address is.
#[derive(Debug, Clone, Copy)]
struct Anywhere {
    at: usize,
    /// Those about everyone.
    everyone: u64,
    /// Those about names.
    by_name: u64,
}

impl Matcher {
    /// The rules of a configuration, and what the names in them mean.
    ///
    /// # Panics
    /// There are more rules or networks than memory holds.
    pub fn new(config: &Config, book: &Book) -> Self {
        let scopes: Vec<Option<Scope>> =
            config.rules.iter().map(|rule| Scope::of(rule, book)).collect();
        let lane = |service, transport| Lane::new(config, &scopes, service, transport);
        let lanes = (0..config.services.len())
            .map(|service| [lane(service, Transport::Tcp), lane(service, Transport::Udp)])
            .collect();
        Self {
            rules: config.rules.iter().map(Judged::new).collect(),
            lanes,
            networks: Networks::new(mentions(&scopes)),
            dns: config.dns.clone(),
        }
    }

    /// Asks the rules about a client of the service with index `service`. The first rule that
    /// matches decides; no match is a block. An IPv4 client that arrived as IPv6 is judged as IPv4.
    ///
    /// # Panics
    /// There is no service with that index.
    pub fn judge(&self, service: usize, client: &Client<'_>) -> Verdict {
        let client = Client { ip: client.ip.to_canonical(), ..*client };
        let lane = match client.listener.transport {
            Transport::Tcp => &self.lanes[service][0],
            Transport::Udp => &self.lanes[service][1],
        };
        let mut around = self.networks.around(IpNet::from(client.ip));
        let mut anywhere = lane.anywhere.iter().copied().peekable();
        loop {
            let nearest = [around.from.next(), anywhere.peek().map(|word| word.at)];
            let Some(at) = nearest.into_iter().flatten().min() else {
                return Verdict::Block { rule: None };
            };
            let here = anywhere.next_if(|word| word.at == at);
            let by_address =
                around.from.read(at) & lane.members[at] | here.map_or(0, |word| word.everyone);
            let mut left = by_address | here.map_or(0, |word| word.by_name);
            if left != 0 {
                left &= !around.except.read(at);
            }
            while left != 0 {
                let bit = left & left.wrapping_neg();
                left ^= bit;
                let rule = at * WORD + bit.trailing_zeros() as usize;
                match self.rules[rule].met(&client, by_address & bit != 0) {
                    Truth::Yes => return self.decided(rule, &client),
                    Truth::No => {}
                    Truth::Ask(question) => return Verdict::Ask(question),
                }
            }
        }
    }

    fn decided(&self, rule: usize, client: &Client<'_>) -> Verdict {
        if !self.rules[rule].passes {
            return Verdict::Block { rule: Some(rule) };
        }
        if !self.dns.require_ptr && !self.dns.require_confirmed {
            return Verdict::Pass { rule };
        }
        match client.reverse {
            Fact::NotAsked => Verdict::Ask(Question::ReverseName),
            Fact::Known(names)
                if names.has_name
                    && !(self.dns.require_confirmed && names.confirmed.is_empty()) =>
            {
                Verdict::Pass { rule }
            }
            Fact::Known(_) | Fact::Unknown => Verdict::Nameless { rule },
        }
    }
}

impl Judged {
    fn new(rule: &Rule) -> Self {
        let first = rule.client_port.iter().map(|ports| *ports.start()).min();
        let last = rule.client_port.iter().map(|ports| *ports.end()).max();
        Self {
            passes: matches!(rule.action, Action::Pass(_)),
            ports: [first.unwrap_or(0), last.unwrap_or(u16::MAX)],
            conditions: Conditions::new(rule).map(Box::new),
        }
    }

    fn met(&self, client: &Client<'_>, by_address: bool) -> Truth {
        match &self.conditions {
            _ if client.port < self.ports[0] || client.port > self.ports[1] => Truth::No,
            None => Truth::Yes,
            Some(conditions) => conditions.met(client, by_address),
        }
    }
}

impl Lane {
    fn new(
        config: &Config,
        scopes: &[Option<Scope>],
        service: usize,
        transport: Transport,
    ) -> Self {
        let mut members = vec![0; scopes.len().div_ceil(WORD)].into_boxed_slice();
        let mut anywhere: Vec<Anywhere> = Vec::new();
        for &rule in config.rules_of(service) {
            let has_a_say = config.rules[rule].transport.is_none_or(|own| own == transport);
            let Some(scope) = scopes[rule].as_ref().filter(|_| has_a_say) else { continue };
            let (at, bit) = place(rule);
            members[at] |= bit;
            if !scope.everyone && !scope.by_name {
                continue;
            }
            if anywhere.last().is_none_or(|word| word.at != at) {
                anywhere.push(Anywhere { at, everyone: 0, by_name: 0 });
            }
            let word = anywhere.last_mut().expect("one was pushed if there was none");
            let rules = if scope.everyone { &mut word.everyone } else { &mut word.by_name };
            *rules |= bit;
        }
        Self { members, anywhere: anywhere.into() }
    }
}

/// Every network of every rule.
fn mentions(scopes: &[Option<Scope>]) -> Vec<Mention> {
    let mut mentions = Vec::new();
    for (rule, scope) in scopes.iter().enumerate() {
        let Some(scope) = scope else { continue };
        let rule =
            u32::try_from(rule).expect("memory holds fewer rules than four thousand million");
        let from: &[IpNet] = if scope.everyone { &[] } else { &scope.from };
        let mention = |except| move |&network: &IpNet| Mention { network, except, rule };
        mentions.extend(from.iter().map(mention(false)));
        mentions.extend(scope.except.iter().map(mention(true)));
    }
    mentions
}
