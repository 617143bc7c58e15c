//! A name server on loopback that says what a test wants, or nothing.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, Query, ResponseCode};
use hickory_resolver::proto::rr::rdata::{CNAME, PTR, SOA};
use hickory_resolver::proto::rr::{Name, RData, Record};

/// What the server has to say about one name.
#[derive(Debug, Clone)]
pub enum Says {
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
#[derive(Debug)]
pub struct NameServer {
    /// Where it is asked.
    pub address: SocketAddr,
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
    pub fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("50 ms is not zero");
        let server = Self {
            address: socket.local_addr().expect("it is bound"),
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
                *locked(&asked).entry(query.name().to_lowercase()).or_default() += 1;
                if hangs.load(Ordering::Relaxed) {
                    continue;
                }
                let says = locked(&zone).get(&query.name().to_lowercase()).cloned();
                if let Some(answer) = answer(&question, &query, says.unwrap_or(Says::Nothing(60))) {
                    // Who asked may have given up.
                    drop(socket.send_to(&answer, from));
                }
            }
        });
        server
    }

    /// Says this about a name from now on.
    pub fn say(&self, name: &str, says: Says) {
        locked(&self.zone).insert(ascii(name).to_lowercase(), says);
    }

    /// Gives a host these addresses.
    pub fn host(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let data = addresses.iter().map(|ip| RData::from(address_of(ip)));
        self.say(name, Says::Records(ttl, data.collect()));
    }

    /// Gives an address these names.
    pub fn pointers(&self, address: &str, ttl: u32, names: &[&str]) {
        let data = names.iter().map(|name| RData::PTR(PTR(ascii(name))));
        self.say(&reverse(address), Says::Records(ttl, data.collect()));
    }

    /// Makes a name an alias of another.
    pub fn alias(&self, name: &str, ttl: u32, of: &str) {
        let data = RData::CNAME(CNAME(ascii(of)));
        self.say(name, Says::Records(ttl, vec![data]));
    }

    /// Answers nobody any more, or again.
    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Relaxed);
    }

    /// How often a name was asked for, for whatever of it.
    pub fn times_asked(&self, name: &str) -> usize {
        let name = ascii(name).to_lowercase();
        locked(&self.asked).get(&name).copied().unwrap_or(0)
    }

    /// How often anything was asked.
    pub fn times_asked_anything(&self) -> usize {
        locked(&self.asked).values().sum()
    }
}

fn ascii(name: &str) -> Name {
    Name::from_ascii(name).expect("tests ask for names")
}

fn address_of(text: &str) -> IpAddr {
    text.parse().expect("tests give addresses")
}

fn locked<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name that an address has in the reverse zone.
pub fn reverse(address: &str) -> String {
    Name::from(address_of(address)).to_ascii()
}

fn answer(question: &Message, query: &Query, says: Says) -> Option<Vec<u8>> {
    let mut answer = Message::response(question.id, question.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let nothing = |answer: &mut Message, ttl| {
        let zone = ascii("example.com.");
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
    Some(answer.to_vec().expect("few records fit"))
}
