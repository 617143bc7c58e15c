//! Asking the name servers, and `/etc/hosts` before them: one question at a time, nothing kept.
//!
//! hickory carries the messages. Its own resolver is not used: it answers questions about
//! 127.0.0.0/8 from a book of its own, and hides how long an empty answer may be kept.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::{DnsHandle, FirstAnswer};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig, system_conf};

use super::cache::{Answer, Question};

/// Addresses of one host that are used.
pub(crate) const ADDRESSES: usize = 1024;

/// Names of one address that are used. Each costs two questions more when it is confirmed.
pub(crate) const NAMES: usize = 8;

/// Aliases that are followed from one name to the next.
const ALIASES: usize = 8;

/// Times that a question is sent to all name servers.
const ATTEMPTS: u32 = 2;

/// What the name service has to say, and for how long if it says so.
pub(crate) type Said = (Answer, Option<Duration>);

/// The way to the name servers.
pub(crate) struct Wire {
    pool: NameServerPool<TokioRuntimeProvider>,
    options: DnsRequestOptions,
    hosts: Hosts,
    search: Vec<Name>,
    /// Dots from which on a name is taken as it stands before the search list is tried.
    ndots: usize,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("search", &self.search).finish_non_exhaustive()
    }
}

/// Which name servers are asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    /// Empty: those of the system, with its search list.
    pub(crate) addresses: Vec<SocketAddr>,
    /// For one question, all attempts together. Never zero.
    pub(crate) patience: Duration,
}

impl Wire {
    /// A way to these servers. What the system has to say about names is read now.
    pub(crate) fn new(servers: &Servers) -> Self {
        let (mut list, mut search, mut ndots) = (Vec::new(), Vec::new(), 1);
        if servers.addresses.is_empty() {
            match system_conf::read_system_conf() {
                Ok((config, options)) => {
                    list = config.name_servers;
                    search = config.search;
                    ndots = options.ndots;
                }
                Err(error) => tracing::warn!(
                    %error,
                    "cannot read /etc/resolv.conf: only names in /etc/hosts are known; set `[dns] servers`"
                ),
            }
        } else {
            list.extend(servers.addresses.iter().copied().map(name_server));
        }
        let hosts = Hosts::from_system().unwrap_or_else(|error| {
            tracing::debug!(%error, "cannot read /etc/hosts");
            Hosts::default()
        });
        let mut options = ResolverOpts::default();
        options.timeout = servers.patience / ATTEMPTS;
        let mut request = DnsRequestOptions::default();
        request.use_edns = true;
        // A build without TLS has nothing in there that could fail.
        let tls = TlsConfig::new().expect("no TLS is configured");
        let context = Arc::new(PoolContext::new(options, tls));
        let pool = NameServerPool::from_config(list, context, TokioRuntimeProvider::default());
        Self { pool, options: request, hosts, search, ndots }
    }

    /// Asks until somebody answers. The caller sets the deadline.
    pub(crate) async fn ask(&self, question: &Question) -> Said {
        match question {
            Question::V4(host) => self.addresses(host, RecordType::A).await,
            Question::V6(host) => self.addresses(host, RecordType::AAAA).await,
            Question::Names(address) => {
                let name = Name::from(*address);
                if let Some(found) = self.hosts.lookup_static_host(&pointer(&name)) {
                    return names(found.answers(), None);
                }
                self.follow(name, RecordType::PTR).await
            }
        }
    }

    async fn addresses(&self, host: &str, kind: RecordType) -> Said {
        let Ok(name) = Name::from_str_relaxed(host) else { return (Answer::Nothing, None) };
        let here = [RecordType::A, RecordType::AAAA].map(|kind| {
            let query = Query::query(name.clone(), kind);
            self.hosts.lookup_static_host(&query).map(|found| (kind, found))
        });
        if here.iter().any(Option::is_some) {
            // A host in the file has the addresses that the file gives it, and no others.
            let found = here.into_iter().flatten().find(|(found, _)| *found == kind);
            return found.map_or((Answer::Nothing, Some(Duration::MAX)), |(_, found)| {
                addresses(found.answers(), Some(Duration::MAX))
            });
        }
        if name.is_localhost() {
            return (loopback(kind), Some(Duration::MAX));
        }
        let mut said = (Answer::Failed, None);
        for candidate in self.candidates(name) {
            let next = self.follow(candidate, kind).await;
            match (&next.0, &said.0) {
                (Answer::Addresses(_) | Answer::Names(_), _) => return next,
                // A name that nobody could tell anything of may exist all the same.
                (Answer::Failed, _) => return next,
                (Answer::Nothing, _) => said = next,
            }
        }
        said
    }

    /// What a name may stand for, in the order of asking.
    fn candidates(&self, name: Name) -> Vec<Name> {
        let mut whole = name.clone();
        whole.set_fqdn(true);
        if name.is_fqdn() || self.search.is_empty() {
            return vec![whole];
        }
        let searched = self.search.iter().filter_map(|domain| {
            let mut longer = name.clone().append_domain(domain).ok()?;
            longer.set_fqdn(true);
            Some(longer)
        });
        if usize::from(name.num_labels()) > self.ndots {
            std::iter::once(whole).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(whole.clone())).collect()
        }
    }

    /// Asks for the records of a name, and of the name that it is an alias of.
    async fn follow(&self, mut name: Name, kind: RecordType) -> Said {
        let mut ttl: Option<u32> = None;
        for _ in 0..ALIASES {
            let query = Query::query(name.clone(), kind);
            let records = match self.send(query).await {
                Ok(records) => records,
                Err(said) => return said,
            };
            let mut links = 0;
            while let Some((next, lasts)) = alias(&records, &name) {
                ttl = Some(ttl.map_or(lasts, |ttl| ttl.min(lasts)));
                name = next;
                links += 1;
                if links == ALIASES {
                    return (Answer::Failed, None);
                }
            }
            let own: Vec<Record> = records
                .into_iter()
                .filter(|record| record.name == name && record.record_type() == kind)
                .collect();
            if own.is_empty() && links > 0 {
                continue;
            }
            let longest = ttl.map(|ttl| Duration::from_secs(ttl.into()));
            return match kind {
                RecordType::PTR => names(&own, longest),
                _ => addresses(&own, longest),
            };
        }
        (Answer::Failed, None)
    }

    async fn send(&self, query: Query) -> Result<Vec<Record>, Said> {
        let mut last = NetError::NoConnections;
        for _ in 0..ATTEMPTS {
            let response = self.pool.lookup(query.clone(), self.options).first_answer().await;
            match response.and_then(|response| Ok(DnsError::from_response(response)?)) {
                Ok(response) => return Ok(response.into_message().answers),
                Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                    let ttl = none.negative_ttl.map(|ttl| Duration::from_secs(ttl.into()));
                    return Err((Answer::Nothing, ttl));
                }
                Err(error) => last = error,
            }
        }
        tracing::debug!(name = %query.name(), kind = %query.query_type(), error = %last, "no answer");
        Err((Answer::Failed, None))
    }
}

fn name_server(address: SocketAddr) -> NameServerConfig {
    let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
    udp.port = address.port();
    tcp.port = address.port();
    NameServerConfig::new(address.ip(), true, vec![udp, tcp])
}

fn pointer(name: &Name) -> Query {
    Query::query(name.clone(), RecordType::PTR)
}

/// Where a name leads that is an alias, and for how long.
fn alias(records: &[Record], name: &Name) -> Option<(Name, u32)> {
    records.iter().find_map(|record| match &record.data {
        RData::CNAME(cname) if record.name == *name => Some((cname.0.clone(), record.ttl)),
        _ => None,
    })
}

/// RFC 6761: the name needs no server.
fn loopback(kind: RecordType) -> Answer {
    let address: IpAddr = match kind {
        RecordType::A => std::net::Ipv4Addr::LOCALHOST.into(),
        _ => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    Answer::Addresses(Arc::new([address]))
}

fn addresses(records: &[Record], longest: Option<Duration>) -> Said {
    let found = records.iter().filter_map(|record| record.data.ip_addr());
    // Nobody can be or be reached at such addresses: a zone that has them means something else.
    let mut found: Vec<_> = found
        .map(|address| address.to_canonical())
        .filter(|address| !address.is_unspecified() && !address.is_multicast())
        .collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(ADDRESSES);
    let ttl = shortest(records, longest);
    if found.is_empty() { (Answer::Nothing, ttl) } else { (Answer::Addresses(found.into()), ttl) }
}

fn names(records: &[Record], longest: Option<Duration>) -> Said {
    let found = records.iter().filter_map(|record| match &record.data {
        RData::PTR(pointer) => host_name(&pointer.0),
        _ => None,
    });
    let mut found: Vec<_> = found.collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(NAMES);
    let ttl = shortest(records, longest);
    if found.is_empty() { (Answer::Nothing, ttl) } else { (Answer::Names(found.into()), ttl) }
}

fn shortest(records: &[Record], longest: Option<Duration>) -> Option<Duration> {
    let ttls = records.iter().map(|record| Duration::from_secs(record.ttl.into()));
    ttls.chain(longest).min()
}

/// A name as host names are compared: in lower case, without a dot at its end. `None`: no host has
/// such a name; with a dot inside a label it would even pass for another one's.
fn host_name(name: &Name) -> Option<Arc<str>> {
    let mut text = String::new();
    for label in name.iter() {
        let good = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if !label.iter().all(good) {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        text.extend(label.iter().map(|byte| char::from(byte.to_ascii_lowercase())));
    }
    if text.is_empty() { None } else { Some(text.into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_one_spelling_and_strange_ones_not_at_all() {
        let spelled = |text: &str| host_name(&Name::from_ascii(text).unwrap());
        for text in ["WWW.Example.COM.", "www.example.com"] {
            assert_eq!(spelled(text).as_deref(), Some("www.example.com"));
        }
        assert_eq!(spelled("."), None);
        for strange in [&b"evil.example"[..], b"a\nb", b"a b", "\u{e9}".as_bytes()] {
            let name = Name::from_labels([strange, b"com"]).unwrap();
            assert_eq!(host_name(&name), None, "{name}");
        }
    }

    #[test]
    fn addresses_that_mean_nobody_are_left_out() {
        let name = Name::from_ascii("h.example.com.").unwrap();
        let record = |ttl, ip: &str| {
            Record::from_rdata(name.clone(), ttl, RData::from(ip.parse::<IpAddr>().unwrap()))
        };
        let ours = [
            record(60, "192.0.2.2"),
            record(30, "192.0.2.1"),
            record(60, "0.0.0.0"),
            record(60, "224.0.0.1"),
            record(60, "::ffff:192.0.2.1"),
        ];
        let (answer, ttl) = addresses(&ours, None);
        let expected = ["192.0.2.1", "192.0.2.2"].map(|ip| ip.parse().unwrap());
        assert_eq!(answer, Answer::Addresses(Arc::new(expected)));
        assert_eq!(ttl, Some(Duration::from_secs(30)));
        assert_eq!(addresses(&ours[2..4], None).0, Answer::Nothing);
    }
}
