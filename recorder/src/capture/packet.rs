//! The frames that stand for what was relayed: Ethernet, IP, and TCP or UDP around the payload.
//!
//! Layers 2 to 4 are made up and say so in the file's comment; they are the same for the same input
//! every time: fixed MAC addresses, TTL 64, don't-fragment, identification 0, real checksums.
//! A packet may hold less payload than its lengths say (a cut packet); its checksum is then 0, as
//! nobody can verify it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptionElement,
    UdpHeader,
};
use schemas::vocab::{Direction, PerDirection};

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const LISTEN_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const HOPS: u8 = 64;
const TCP_HEADER_LEN: usize = 20;
const UDP_HEADER_LEN: usize = 8;
const IPV4_HEADER_LEN: usize = 20;
/// Scale of the windows that both sides offer: 65,535 << 14 is never filled.
const WINDOW_SCALE: u8 = 14;
const WINDOW: u16 = u16::MAX;

/// The two ends of the client's connection, of one address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Endpoints {
    client: SocketAddr,
    listen: SocketAddr,
}

/// One TCP segment.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Segment<'a> {
    pub(super) seq: u32,
    pub(super) ack: Option<u32>,
    pub(super) syn: bool,
    pub(super) fin: bool,
    pub(super) rst: bool,
    pub(super) psh: bool,
    /// The payload that is kept.
    pub(super) payload: &'a [u8],
    /// Payload cut behind it, in bytes.
    pub(super) cut: usize,
}

impl Endpoints {
    /// The two ends; `None` when one is IPv4 and the other IPv6. IPv4-mapped addresses are IPv4.
    pub(super) fn new(client: SocketAddr, listen: SocketAddr) -> Option<Self> {
        let plain = |a: SocketAddr| SocketAddr::new(a.ip().to_canonical(), a.port());
        let (client, listen) = (plain(client), plain(listen));
        (client.is_ipv4() == listen.is_ipv4()).then_some(Self { client, listen })
    }

    /// Most payload of one TCP segment, in bytes.
    pub(super) fn max_segment(&self) -> usize {
        self.max_ip_payload() - TCP_HEADER_LEN
    }

    /// Most payload of one datagram, in bytes.
    pub(super) fn max_datagram(&self) -> usize {
        self.max_ip_payload() - UDP_HEADER_LEN
    }

    fn max_ip_payload(&self) -> usize {
        let header = if self.client.is_ipv4() { IPV4_HEADER_LEN } else { 0 };
        usize::from(u16::MAX) - header
    }

    fn pair(&self, direction: Direction) -> (SocketAddr, SocketAddr) {
        match direction {
            Direction::Up => (self.client, self.listen),
            Direction::Down => (self.listen, self.client),
        }
    }

    /// Writes the frame of `segment` into `out` (cleared first) and returns its length without
    /// cuts, in bytes.
    ///
    /// Payload and cut together must not exceed [`Self::max_segment`].
    pub(super) fn tcp(&self, direction: Direction, segment: Segment<'_>, out: &mut Vec<u8>) -> u32 {
        let (from, to) = self.pair(direction);
        let mut header = TcpHeader::new(from.port(), to.port(), segment.seq, WINDOW);
        header.ack = segment.ack.is_some();
        header.acknowledgment_number = segment.ack.unwrap_or_default();
        header.syn = segment.syn;
        header.fin = segment.fin;
        header.rst = segment.rst;
        header.psh = segment.psh;
        if segment.syn {
            let mss = u16::try_from(self.max_segment()).unwrap_or(u16::MAX);
            let options = [
                TcpOptionElement::MaximumSegmentSize(mss),
                TcpOptionElement::Noop,
                TcpOptionElement::WindowScale(WINDOW_SCALE),
            ];
            header.set_options(&options).expect("eight bytes of options fit");
        }
        if segment.cut == 0 {
            header.checksum = match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), segment.payload)
                }
                _ => header.calc_checksum_ipv6_raw(v6(from), v6(to), segment.payload),
            }
            .expect("segments are cut to the longest that fits");
        }
        let len = header.header_len() + segment.payload.len() + segment.cut;
        let whole = begin(direction, from, to, IpNumber::TCP, len, out);
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(segment.payload);
        whole
    }

    /// Writes the frame of a datagram into `out` (cleared first) and returns its length without
    /// cuts, in bytes.
    ///
    /// Payload and cut together must not exceed [`Self::max_datagram`].
    pub(super) fn udp(
        &self,
        direction: Direction,
        payload: &[u8],
        cut: usize,
        out: &mut Vec<u8>,
    ) -> u32 {
        let (from, to) = self.pair(direction);
        let len = UDP_HEADER_LEN + payload.len() + cut;
        let mut header = UdpHeader {
            source_port: from.port(),
            destination_port: to.port(),
            length: u16::try_from(len).unwrap_or(u16::MAX),
            checksum: 0,
        };
        if cut == 0 {
            header.checksum = match (from.ip(), to.ip()) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
                }
                _ => header.calc_checksum_ipv6_raw(v6(from), v6(to), payload),
            }
            .expect("datagrams are no longer than the longest that fits");
        }
        let whole = begin(direction, from, to, IpNumber::UDP, len, out);
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(payload);
        whole
    }
}

fn v4(address: SocketAddr) -> Option<[u8; 4]> {
    match address.ip() {
        IpAddr::V4(ip) => Some(Ipv4Addr::octets(&ip)),
        IpAddr::V6(_) => None,
    }
}

fn v6(address: SocketAddr) -> [u8; 16] {
    match address.ip() {
        IpAddr::V4(ip) => Ipv4Addr::to_ipv6_mapped(&ip).octets(),
        IpAddr::V6(ip) => Ipv6Addr::octets(&ip),
    }
}

/// Writes the Ethernet and IP headers in front of `len` bytes of `protocol`; returns the length of
/// the whole frame.
fn begin(
    direction: Direction,
    from: SocketAddr,
    to: SocketAddr,
    protocol: IpNumber,
    len: usize,
    out: &mut Vec<u8>,
) -> u32 {
    out.clear();
    let macs = PerDirection { up: (CLIENT_MAC, LISTEN_MAC), down: (LISTEN_MAC, CLIENT_MAC) };
    let (source, destination) = macs[direction];
    let ether_type = if from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    out.extend_from_slice(&Ethernet2Header { source, destination, ether_type }.to_bytes());
    if let (Some(from), Some(to)) = (v4(from), v4(to)) {
        let payload = u16::try_from(len).expect("segments are cut to the longest that fits");
        let mut header = Ipv4Header::new(payload, HOPS, protocol, from, to)
            .expect("segments are cut to the longest that fits");
        header.dont_fragment = true;
        header.header_checksum = header.calc_header_checksum();
        out.extend_from_slice(&header.to_bytes());
    } else {
        let header = Ipv6Header {
            payload_length: u16::try_from(len).expect("segments are cut to the longest that fits"),
            next_header: protocol,
            hop_limit: HOPS,
            source: v6(from),
            destination: v6(to),
            ..Ipv6Header::default()
        };
        out.extend_from_slice(&header.to_bytes());
    }
    let head = out.len();
    u32::try_from(head + len).expect("a frame is below 64 KiB and its headers")
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;

    fn endpoints(client: &str, listen: &str) -> Endpoints {
        Endpoints::new(client.parse().unwrap(), listen.parse().unwrap()).unwrap()
    }

    #[test]
    fn one_address_family_or_none() {
        let v4 = "192.0.2.1:1".parse().unwrap();
        let mapped = "[::ffff:192.0.2.9]:2".parse().unwrap();
        assert!(Endpoints::new(v4, "[2001:db8::1]:2".parse().unwrap()).is_none());
        assert_eq!(Endpoints::new(v4, mapped), Some(endpoints("192.0.2.1:1", "192.0.2.9:2")));
    }

    #[test]
    fn frames_are_those_of_the_packet_builder() {
        let payload = vec![0xa5; 1460];
        let mut ours = Vec::new();
        let four = endpoints("192.0.2.1:40000", "198.51.100.7:80");
        let segment = Segment { seq: 7, ack: Some(9), payload: &payload, ..Segment::default() };
        four.tcp(Direction::Up, segment, &mut ours);
        let mut theirs = Vec::new();
        let mut ip =
            Ipv4Header::new(0, 64, IpNumber::TCP, [192, 0, 2, 1], [198, 51, 100, 7]).unwrap();
        ip.dont_fragment = true;
        PacketBuilder::ethernet2(CLIENT_MAC, LISTEN_MAC)
            .ip(etherparse::IpHeaders::Ipv4(ip, Default::default()))
            .tcp(40000, 80, 7, WINDOW)
            .ack(9)
            .write(&mut theirs, &payload)
            .unwrap();
        assert_eq!(ours, theirs);

        let six = endpoints("[2001:db8::1]:5000", "[2001:db8::2]:53");
        let whole = six.udp(Direction::Down, &payload, 0, &mut ours);
        let source = "2001:db8::2".parse::<Ipv6Addr>().unwrap().octets();
        let destination = "2001:db8::1".parse::<Ipv6Addr>().unwrap().octets();
        theirs.clear();
        PacketBuilder::ethernet2(LISTEN_MAC, CLIENT_MAC)
            .ipv6(source, destination, HOPS)
            .udp(53, 5000)
            .write(&mut theirs, &payload)
            .unwrap();
        assert_eq!(ours, theirs);
        assert_eq!(usize::try_from(whole).unwrap(), theirs.len());
    }

    #[test]
    fn the_longest_segments_and_datagrams_fit() {
        for ends in [endpoints("192.0.2.1:1", "192.0.2.2:2"), endpoints("[::1]:1", "[::1]:2")] {
            let mut out = Vec::new();
            let payload = vec![1; ends.max_datagram()];
            ends.udp(Direction::Up, &payload, 0, &mut out);
            let payload = &payload[..ends.max_segment()];
            ends.tcp(Direction::Up, Segment { payload, ..Segment::default() }, &mut out);
            let cut = Segment { cut: ends.max_segment(), ..Segment::default() };
            assert!(ends.tcp(Direction::Up, cut, &mut out) > u32::from(u16::MAX));
        }
    }
}
