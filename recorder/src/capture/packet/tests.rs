//! The headers against those that `etherparse` makes.

use etherparse::{
    EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, TcpHeader, TcpOptionElement,
    UdpHeader,
};
use proptest::prelude::*;
use schemas::vocab::PerDirection;

use super::*;

fn endpoints(client: &str, listen: &str) -> Endpoints {
    Endpoints::new(client.parse().unwrap(), listen.parse().unwrap()).unwrap()
}

fn any_endpoints() -> impl Strategy<Value = Endpoints> {
    let port = any::<u16>();
    prop_oneof![
        (any::<[u8; 4]>(), any::<[u8; 4]>(), port, port).prop_map(|(client, listen, from, to)| {
            Endpoints { client: (client, from).into(), listen: (listen, to).into() }
        }),
        // No IPv4-mapped ones: they are IPv4 by then.
        (any::<[u8; 15]>(), any::<[u8; 15]>(), port, port).prop_map(
            |(client, listen, from, to)| {
                let global = |rest: [u8; 15]| {
                    let mut octets = [0x20; 16];
                    octets[1..].copy_from_slice(&rest);
                    octets
                };
                Endpoints {
                    client: (global(client), from).into(),
                    listen: (global(listen), to).into(),
                }
            }
        ),
    ]
}

fn any_payload() -> impl Strategy<Value = Vec<u8>> {
    let any_len = prop_oneof![0_usize..200, 0..=65_495_usize];
    (any_len, any::<u8>(), any::<u8>()).prop_map(|(len, first, step)| {
        (0..len)
            .scan(first, |byte, _| {
                *byte = byte.wrapping_mul(31).wrapping_add(step);
                Some(*byte)
            })
            .collect()
    })
}

fn pair(ends: &Endpoints, direction: Direction) -> (SocketAddr, SocketAddr) {
    match direction {
        Direction::Up => (ends.client, ends.listen),
        Direction::Down => (ends.listen, ends.client),
    }
}

/// Ethernet and IP by the reference, before `len` bytes.
fn lower_headers(
    ends: &Endpoints,
    direction: Direction,
    protocol: IpNumber,
    len: usize,
) -> Vec<u8> {
    let (from, to) = pair(ends, direction);
    let macs = PerDirection { up: (CLIENT_MAC, LISTEN_MAC), down: (LISTEN_MAC, CLIENT_MAC) };
    let (source, destination) = macs[direction];
    let ether_type = if from.is_ipv4() { EtherType::IPV4 } else { EtherType::IPV6 };
    let mut out = Ethernet2Header { source, destination, ether_type }.to_bytes().to_vec();
    let len = u16::try_from(len).unwrap();
    if let (IpAddr::V4(from), IpAddr::V4(to)) = (from.ip(), to.ip()) {
        let mut ip = Ipv4Header::new(len, HOPS, protocol, from.octets(), to.octets()).unwrap();
        ip.dont_fragment = true;
        ip.header_checksum = ip.calc_header_checksum();
        out.extend_from_slice(&ip.to_bytes());
    } else {
        let ip = Ipv6Header {
            payload_length: len,
            next_header: protocol,
            hop_limit: HOPS,
            source: v6(from),
            destination: v6(to),
            ..Ipv6Header::default()
        };
        out.extend_from_slice(&ip.to_bytes());
    }
    out
}

/// The headers of a segment by the reference.
fn tcp_by_reference(ends: &Endpoints, direction: Direction, segment: &Segment<'_>) -> Vec<u8> {
    let (from, to) = pair(ends, direction);
    let mut header = TcpHeader::new(from.port(), to.port(), segment.seq, WINDOW);
    header.ack = segment.ack.is_some();
    header.acknowledgment_number = segment.ack.unwrap_or_default();
    (header.syn, header.fin) = (segment.syn, segment.fin);
    (header.rst, header.psh) = (segment.rst, segment.psh);
    if segment.syn {
        let options = [
            TcpOptionElement::MaximumSegmentSize(u16::try_from(ends.max_segment()).unwrap()),
            TcpOptionElement::Noop,
            TcpOptionElement::WindowScale(WINDOW_SCALE),
        ];
        header.set_options(&options).unwrap();
    }
    if segment.cut == 0 {
        header.checksum = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), segment.payload)
            }
            _ => header.calc_checksum_ipv6_raw(v6(from), v6(to), segment.payload),
        }
        .unwrap();
    }
    let len = header.header_len() + segment.payload.len() + segment.cut;
    let mut out = lower_headers(ends, direction, IpNumber::TCP, len);
    out.extend_from_slice(&header.to_bytes());
    out
}

/// The headers of a datagram by the reference.
fn udp_by_reference(ends: &Endpoints, direction: Direction, payload: &[u8], cut: usize) -> Vec<u8> {
    let (from, to) = pair(ends, direction);
    let len = UDP_LEN + payload.len() + cut;
    let mut header = UdpHeader {
        source_port: from.port(),
        destination_port: to.port(),
        length: u16::try_from(len).unwrap(),
        checksum: 0,
    };
    if cut == 0 {
        header.checksum = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                header.calc_checksum_ipv4_raw(from.octets(), to.octets(), payload)
            }
            _ => header.calc_checksum_ipv6_raw(v6(from), v6(to), payload),
        }
        .unwrap();
    }
    let mut out = lower_headers(ends, direction, IpNumber::UDP, len);
    out.extend_from_slice(&header.to_bytes());
    out
}

fn any_direction() -> impl Strategy<Value = Direction> {
    prop_oneof![Just(Direction::Up), Just(Direction::Down)]
}

proptest! {
    #[test]
    fn segments_are_those_of_the_reference(
        ends in any_endpoints(),
        direction in any_direction(),
        (seq, ack) in any::<(u32, Option<u32>)>(),
        [syn, fin, rst, psh] in any::<[bool; 4]>(),
        payload in any_payload(),
        cut in 0..=20_000_usize,
        is_cut in any::<bool>(),
    ) {
        // A SYN's options take the room of payload, and no SYN of ours has any.
        let payload = if syn { &payload[..payload.len().min(8)] } else { &payload[..] };
        let cut = if is_cut { cut.min(ends.max_segment() - 8 - payload.len().min(ends.max_segment() - 8)) } else { 0 };
        let segment = Segment { seq, ack, syn, fin, rst, psh, payload, cut };
        let ours = ends.tcp(direction, &segment);
        prop_assert_eq!(ours.as_bytes(), tcp_by_reference(&ends, direction, &segment));
    }

    #[test]
    fn datagrams_are_those_of_the_reference(
        ends in any_endpoints(),
        direction in any_direction(),
        payload in any_payload(),
        cut in prop_oneof![Just(0_usize), 1..=12_usize],
    ) {
        let ours = ends.udp(direction, &payload, cut);
        prop_assert_eq!(ours.as_bytes(), udp_by_reference(&ends, direction, &payload, cut));
    }
}

#[test]
fn a_datagram_whose_checksum_is_zero_says_all_ones() {
    let ends = endpoints("192.0.2.1:1", "192.0.2.2:2");
    // The payload that makes up for the headers.
    let without = ends.udp(Direction::Up, &[0, 0], 0);
    let sum = [without.as_bytes()[40], without.as_bytes()[41]];
    let head = ends.udp(Direction::Up, &sum, 0);
    assert_eq!(head.as_bytes()[40..42], [0xff, 0xff]);
    assert_eq!(head.as_bytes(), udp_by_reference(&ends, Direction::Up, &sum, 0));
}

#[test]
fn one_address_family_or_none() {
    let v4 = "192.0.2.1:1".parse().unwrap();
    let mapped = "[::ffff:192.0.2.9]:2".parse().unwrap();
    assert!(Endpoints::new(v4, "[2001:db8::1]:2".parse().unwrap()).is_none());
    assert_eq!(Endpoints::new(v4, mapped), Some(endpoints("192.0.2.1:1", "192.0.2.9:2")));
}

#[test]
fn the_longest_segments_and_datagrams_fit() {
    for ends in [endpoints("192.0.2.1:1", "192.0.2.2:2"), endpoints("[::1]:1", "[::1]:2")] {
        let payload = vec![1; ends.max_datagram()];
        ends.udp(Direction::Up, &payload, 0);
        let payload = &payload[..ends.max_segment()];
        ends.tcp(Direction::Up, &Segment { payload, ..Segment::default() });
        ends.tcp(Direction::Up, &Segment { cut: ends.max_segment(), ..Segment::default() });
    }
}
