//! The blocks against those that `pcap-file` writes.

use std::borrow::Cow;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::SectionHeaderBlock;
use pcap_file::{DataLink, Endianness};
use proptest::prelude::*;
use schemas::vocab::Direction;

use super::super::packet::{Endpoints, Segment};
use super::*;

#[derive(Debug, Clone)]
struct Packet {
    interface: u32,
    time_ns: u64,
    payload: Vec<u8>,
    syn: bool,
    cut: usize,
    lost_packets: u64,
    comments: Vec<String>,
    direction: Direction,
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..8),
        proptest::collection::vec(any::<u8>(), 1000..1050),
        (60_000_usize..65_000).prop_map(|len| vec![0xa5; len]),
    ];
    let comments = proptest::collection::vec("[ -~ä]{0,40}", 0..3);
    let lost_packets = prop_oneof![Just(0), any::<u64>()];
    let time_ns = 0..=u64::try_from(i64::MAX).unwrap();
    (0..2_u32, time_ns, payload, any::<bool>(), 0..400_usize, lost_packets, comments, any::<bool>())
        .prop_map(|(interface, time_ns, payload, syn, cut, lost_packets, comments, up)| Packet {
            interface,
            time_ns,
            payload,
            syn,
            cut,
            lost_packets,
            comments,
            direction: if up { Direction::Up } else { Direction::Down },
        })
}

impl Packet {
    fn head(&self) -> Head {
        let v6 = self.interface == 1;
        let [client, listen] = if v6 {
            ["[2001:db8::1]:50001", "[2001:db8::2]:80"]
        } else {
            ["192.0.2.1:50001", "198.51.100.7:80"]
        };
        let ends = Endpoints::new(client.parse().unwrap(), listen.parse().unwrap()).unwrap();
        let segment =
            Segment { syn: self.syn, payload: &self.payload, cut: self.cut, ..Segment::default() };
        ends.tcp(self.direction, &segment)
    }

    fn flags(&self) -> u32 {
        if self.direction == Direction::Up { 1 } else { 2 }
    }

    fn whole_len(&self) -> u32 {
        number(self.head().as_bytes().len() + self.payload.len() + self.cut)
    }

    fn by_reference(&self) -> EnhancedPacketBlock<'_> {
        let mut options = vec![EnhancedPacketOption::Flags(self.flags())];
        if self.lost_packets > 0 {
            options.push(EnhancedPacketOption::DropCount(self.lost_packets));
        }
        options.extend(self.comments.iter().map(|comment| {
            EnhancedPacketOption::Common(CommonOption::Comment(Cow::Borrowed(comment)))
        }));
        EnhancedPacketBlock {
            interface_id: self.interface,
            timestamp: Duration::from_nanos(self.time_ns),
            original_len: self.whole_len(),
            data: Cow::Owned([self.head().as_bytes(), &self.payload].concat()),
            options,
        }
    }
}

/// A writer with two interfaces of nanosecond times.
fn reference() -> PcapNgWriter<Vec<u8>> {
    let section =
        SectionHeaderBlock { endianness: Endianness::Little, ..SectionHeaderBlock::default() };
    let mut writer = PcapNgWriter::with_section_header(Vec::new(), section).unwrap();
    for _ in 0..2 {
        let interface = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: 0,
            options: vec![InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO)],
        };
        writer.write_pcapng_block(interface).unwrap();
    }
    writer.get_mut().clear();
    writer
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn blocks_are_those_of_the_reference(packets in proptest::collection::vec(any_packet(), 0..20)) {
        let mut theirs = reference();
        let mut ours = Batch::default();
        for packet in &packets {
            theirs.write_pcapng_block(packet.by_reference()).unwrap();
            ours.push(&Block {
                interface: packet.interface,
                time_ns: packet.time_ns,
                head: packet.head(),
                payload: &packet.payload,
                whole_len: packet.whole_len(),
                flags: packet.flags(),
                lost_packets: packet.lost_packets,
                comments: &packet.comments,
            });
        }
        let theirs = theirs.get_ref();
        prop_assert_eq!(ours.len(), theirs.len());
        let file = tempfile::tempfile().unwrap();
        let written = ours.write_at(&file, 7).unwrap();
        prop_assert_eq!(usize::try_from(written).unwrap(), theirs.len());
        let mut bytes = vec![0; theirs.len()];
        file.read_exact_at(&mut bytes, 7).unwrap();
        prop_assert!(bytes == *theirs, "the bytes differ");
    }
}

#[test]
fn more_pieces_than_one_call_takes_are_written_in_several() {
    let payload = vec![0x5a; COPY_BELOW];
    let ends = Endpoints::new("192.0.2.1:1".parse().unwrap(), "192.0.2.2:2".parse().unwrap());
    let head = ends.unwrap().udp(Direction::Up, &payload, 0);
    let mut batch = Batch::default();
    for _ in 0..MAX_PIECES {
        batch.push(&Block {
            interface: 0,
            time_ns: 0,
            head,
            payload: &payload,
            whole_len: 0,
            flags: 1,
            lost_packets: 0,
            comments: &[],
        });
    }
    let file = tempfile::tempfile().unwrap();
    let len = u64::try_from(batch.len()).unwrap();
    assert_eq!(batch.write_at(&file, 0).unwrap(), len);
    assert_eq!(file.metadata().unwrap().len(), len);
}
