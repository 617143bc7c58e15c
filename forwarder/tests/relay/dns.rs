//! A name server on loopback that says what a test wants, or nothing.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, PTR, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record};

use crate::support::ANY;

/// What the server has to say about one name.
#[derive(Debug, Clone)]
pub(crate) enum Says {
    /// Records, all with this TTL in seconds.
    Records(u32, Vec<RData>),
    /// The name does not exist; for so many seconds.
    Nothing(u32),
    /// It cannot tell.
    Failure,
    /// Not a word.
    Silence,
}

/// The server. It stops when dropped.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<HashMap<Name, Says>>>,
    asked: Arc<Mutex<HashMap<Name, usize>>>,
    hangs: Arc<AtomicBool>,
    stopped: Arc<AtomicBool>,
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
    }
}

impl NameServer {
    /// A server that knows no name yet.
    pub(crate) fn start() -> Self {
        let socket = UdpSocket::bind(ANY).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let server = Self {
            address: socket.local_addr().unwrap(),
            zone: Arc::default(),
            asked: Arc::default(),
            hangs: Arc::default(),
            stopped: Arc::default(),
        };
        let (zone, asked) = (Arc::clone(&server.zone), Arc::clone(&server.asked));
        let (hangs, stopped) = (Arc::clone(&server.hangs), Arc::clone(&server.stopped));
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                let Ok((len, from)) = socket.recv_from(&mut buffer) else { continue };
                let Ok(question) = Message::from_vec(&buffer[..len]) else { continue };
                let Some(query) = question.queries.first().cloned() else { continue };
                *asked.lock().unwrap().entry(query.name().to_lowercase()).or_default() += 1;
                if hangs.load(Ordering::Relaxed) {
                    continue;
                }
                let says = zone.lock().unwrap().get(&query.name().to_lowercase()).cloned();
                if let Some(answer) = answer(&question, &query, says.unwrap_or(Says::Nothing(60))) {
                    // Who asked may have given up.
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        server
    }

    /// Says this about a name from now on.
    pub(crate) fn say(&self, name: &str, says: Says) {
        self.zone.lock().unwrap().insert(Name::from_ascii(name).unwrap().to_lowercase(), says);
    }

    /// Gives a host these addresses.
    pub(crate) fn host(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let data = addresses.iter().map(|ip| RData::from(ip.parse::<IpAddr>().unwrap()));
        self.say(name, Says::Records(ttl, data.collect()));
    }

    /// Gives an address these names.
    pub(crate) fn pointers(&self, address: &str, ttl: u32, names: &[&str]) {
        let data = names.iter().map(|name| RData::PTR(PTR(Name::from_ascii(name).unwrap())));
        self.say(&reverse(address), Says::Records(ttl, data.collect()));
    }

    /// Makes a name an alias of another.
    pub(crate) fn alias(&self, name: &str, ttl: u32, of: &str) {
        let data = RData::CNAME(CNAME(Name::from_ascii(of).unwrap()));
        self.say(name, Says::Records(ttl, vec![data]));
    }

    /// Answers nobody any more, or again.
    pub(crate) fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    /// How often a name was asked for, for whatever of it.
    pub(crate) fn times_asked(&self, name: &str) -> usize {
        let name = Name::from_ascii(name).unwrap().to_lowercase();
        self.asked.lock().unwrap().get(&name).copied().unwrap_or(0)
    }

    /// How often anything was asked.
    pub(crate) fn times_asked_anything(&self) -> usize {
        self.asked.lock().unwrap().values().sum()
    }
}

/// The name that an address has in the reverse zone.
pub(crate) fn reverse(address: &str) -> String {
    Name::from(address.parse::<IpAddr>().unwrap()).to_ascii()
}

fn answer(question: &Message, query: &Query, says: Says) -> Option<Vec<u8>> {
    let mut answer = Message::response(question.id, question.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let nothing = |answer: &mut Message, ttl| {
        let zone = Name::from_ascii("example.com.").unwrap();
        let soa = SOA::new(zone.clone(), zone.clone(), 1, 60, 60, 60, ttl);
        answer.add_authority(Record::from_rdata(zone, ttl, RData::SOA(soa)));
    };
    match says {
        Says::Records(ttl, data) => {
            let wanted = |data: &RData| {
                data.record_type() == query.query_type() || matches!(data, RData::CNAME(_))
            };
            for data in data.into_iter().filter(wanted) {
                answer.add_answer(Record::from_rdata(query.name().clone(), ttl, data));
            }
            if answer.answers.is_empty() {
                nothing(&mut answer, ttl);
            }
        }
        Says::Nothing(ttl) => {
            answer.metadata.response_code = ResponseCode::NXDomain;
            nothing(&mut answer, ttl);
        }
        Says::Failure => answer.metadata.response_code = ResponseCode::ServFail,
        Says::Silence => return None,
    }
    Some(answer.to_vec().unwrap())
}
