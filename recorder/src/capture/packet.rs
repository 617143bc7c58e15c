//! The frames that stand for what was relayed: Ethernet, IP, and TCP or UDP before the payload.
//!
//! Layers 2 to 4 are made up and say so in the file's comment; they are the same for the same input
//! every time: fixed MAC addresses, TTL 64, don't-fragment, identification 0, real checksums.
//! A packet may hold less payload than its lengths say (a cut packet); its checksum is then 0, as
//! nobody can verify it.
//!
//! Only the headers are made here: payload is read once, for its checksum, where it lies.

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use schemas::vocab::Direction;

use super::checksum::Sum;

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LISTEN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const HOPS: u8 = 64;
const ETHERNET_LEN: usize = 14;
const IPV4_LEN: usize = 20;
const IPV6_LEN: usize = 40;
const TCP_LEN: usize = 20;
const UDP_LEN: usize = 8;
/// MSS, no operation, window scale: what a SYN carries.
const SYN_OPTIONS_LEN: usize = 8;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// Scale of the windows that both sides offer: 65,535 << 14 is never filled.
const WINDOW_SCALE: u8 = 14;
const WINDOW: u16 = u16::MAX;

/// The two ends of the client's connection, of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Endpoints {
    client: SocketAddr,
    listen: SocketAddr,
}

/// One TCP segment.
#[derive(Debug, Clone, Copy, Default)]
pub struct Segment<'a> {
    /// Sequence number.
    pub seq: u32,
    /// What is acknowledged; none: no ACK flag.
    pub ack: Option<u32>,
    /// Opens the stream of its direction.
    pub syn: bool,
    /// Ends the stream of its direction.
    pub fin: bool,
    /// Resets the connection.
    pub rst: bool,
    /// Is the last of one read.
    pub psh: bool,
    /// The payload that is kept.
    pub payload: &'a [u8],
    /// Payload cut behind it, in bytes.
    pub cut: usize,
}

/// The headers of one frame.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    bytes: [u8; Self::LONGEST],
    len: usize,
}

impl Head {
    const LONGEST: usize = ETHERNET_LEN + IPV6_LEN + TCP_LEN + SYN_OPTIONS_LEN;

    fn new() -> Self {
        Self { bytes: [0; Self::LONGEST], len: 0 }
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    fn put_at(&mut self, at: usize, bytes: [u8; 2]) {
        self.bytes[at..at + 2].copy_from_slice(&bytes);
    }

    /// As they stand in the frame.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Endpoints {
    /// The two ends; `None` when one is IPv4 and the other IPv6. IPv4-mapped addresses are IPv4.
    pub fn new(client: SocketAddr, listen: SocketAddr) -> Option<Self> {
        let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        let (client, listen) = (plain(client), plain(listen));
        (client.is_ipv4() == listen.is_ipv4()).then_some(Self { client, listen })
    }

    /// Most payload of one TCP segment, in bytes.
    pub fn max_segment(&self) -> usize {
        self.max_ip_payload() - TCP_LEN
    }

    /// Most payload of one datagram, in bytes.
    pub fn max_datagram(&self) -> usize {
        self.max_ip_payload() - UDP_LEN
    }

    fn max_ip_payload(&self) -> usize {
        let header = if self.client.is_ipv4() { IPV4_LEN } else { 0 };
        usize::from(u16::MAX) - header
    }

    /// The headers of `segment`, whose payload and cut together do not exceed
    /// [`Self::max_segment`].
    pub fn tcp(&self, direction: Direction, segment: &Segment<'_>) -> Head {
        let options = if segment.syn { SYN_OPTIONS_LEN } else { 0 };
        let len = TCP_LEN + options + segment.payload.len() + segment.cut;
        let (mut head, from, to) = self.begin(direction, TCP, len);
        let begin = head.len;
        head.put(&from.port().to_be_bytes());
        head.put(&to.port().to_be_bytes());
        head.put(&segment.seq.to_be_bytes());
        head.put(&segment.ack.unwrap_or_default().to_be_bytes());
        let words = if segment.syn { 7 } else { 5 };
        let flag = |set: bool, bit: u8| u8::from(set) << bit;
        let flags = flag(segment.fin, 0)
            | flag(segment.syn, 1)
            | flag(segment.rst, 2)
            | flag(segment.psh, 3)
            | flag(segment.ack.is_some(), 4);
        head.put(&[words << 4, flags]);
        head.put(&WINDOW.to_be_bytes());
        // Checksum and urgent pointer.
        head.put(&[0; 4]);
        if segment.syn {
            let mss = u16::try_from(self.max_segment()).unwrap_or(u16::MAX).to_be_bytes();
            head.put(&[2, 4, mss[0], mss[1], 1, 3, 3, WINDOW_SCALE]);
        }
        if segment.cut == 0 {
            let sum = pseudo_header(from, to, TCP, len).add(&head.bytes[begin..head.len]);
            head.put_at(begin + 16, sum.add(segment.payload).finish());
        }
        head
    }

    /// The headers of a datagram, whose payload and cut together do not exceed
    /// [`Self::max_datagram`].
    pub fn udp(&self, direction: Direction, payload: &[u8], cut: usize) -> Head {
        let len = UDP_LEN + payload.len() + cut;
        let (mut head, from, to) = self.begin(direction, UDP, len);
        let begin = head.len;
        head.put(&from.port().to_be_bytes());
        head.put(&to.port().to_be_bytes());
        head.put(&length(len).to_be_bytes());
        head.put(&[0; 2]);
        if cut == 0 {
            let sum = pseudo_header(from, to, UDP, len).add(&head.bytes[begin..head.len]);
            // 0 would say that there is none.
            let sum = Some(sum.add(payload).finish()).filter(|sum| *sum != [0; 2]);
            head.put_at(begin + 6, sum.unwrap_or([u8::MAX; 2]));
        }
        head
    }

    /// The Ethernet and IP headers before `len` bytes of `protocol`, and who sends to whom.
    fn begin(
        &self,
        direction: Direction,
        protocol: u8,
        len: usize,
    ) -> (Head, SocketAddr, SocketAddr) {
        let (from, to, source, destination) = match direction {
            Direction::Up => (self.client, self.listen, CLIENT_MAC, LISTEN_MAC),
            Direction::Down => (self.listen, self.client, LISTEN_MAC, CLIENT_MAC),
        };
        let mut head = Head::new();
        head.put(&destination);
        head.put(&source);
        if let (IpAddr::V4(from), IpAddr::V4(to)) = (from.ip(), to.ip()) {
            head.put(&[0x08, 0x00, 0x45, 0]);
            head.put(&length(IPV4_LEN + len).to_be_bytes());
            // Identification 0, don't fragment, and room for the checksum.
            head.put(&[0, 0, 0x40, 0, HOPS, protocol, 0, 0]);
            head.put(&from.octets());
            head.put(&to.octets());
            let sum = Sum::default().add(&head.bytes[ETHERNET_LEN..head.len]);
            head.put_at(ETHERNET_LEN + 10, sum.finish());
        } else {
            head.put(&[0x86, 0xdd, 0x60, 0, 0, 0]);
            head.put(&length(len).to_be_bytes());
            head.put(&[protocol, HOPS]);
            head.put(&v6(from));
            head.put(&v6(to));
        }
        (head, from, to)
    }
}

/// A length as the headers hold it; segments are cut to the longest that fits.
fn length(len: usize) -> u16 {
    u16::try_from(len).expect("segments are cut to the longest that fits")
}

fn v6(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// What the checksum of TCP and UDP covers besides the packet.
fn pseudo_header(from: SocketAddr, to: SocketAddr, protocol: u8, len: usize) -> Sum {
    let sum = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => Sum::default().add(&from.octets()).add(&to.octets()),
        _ => Sum::default().add(&v6(from)).add(&v6(to)),
    };
    sum.add_u32(protocol.into()).add_u32(length(len).into())
}
