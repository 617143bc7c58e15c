//! Blocks of a pcapng file as they lie there, and what is in a packet of ours.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};
use schemas::vocab::{Direction, Transport};

pub(super) const SECTION_HEADER: u32 = 0x0a0d_0d0a;
pub(super) const INTERFACE_DESCRIPTION: u32 = 1;
pub(super) const ENHANCED_PACKET: u32 = 6;

const COMMENT: u16 = 1;
const PACKET_FLAGS: u16 = 2;
/// `epb_flags` of a packet from the service to the client.
const OUTBOUND: u8 = 2;
/// Type, length, and the length again behind the body.
const FRAMING: usize = 12;
/// Longest block that we take for one of ours, in bytes.
const MAX_BLOCK: usize = 1 << 20;
const NANOS: u64 = 1_000_000_000;
const ETHERNET_LEN: usize = 14;
const UDP_HEADER_LEN: usize = 8;

/// A block of a little-endian section.
#[derive(Debug, Clone)]
pub(super) struct Block {
    bytes: Vec<u8>,
}

/// An enhanced packet block, taken apart.
#[derive(Debug)]
pub(super) struct Packet<'a> {
    pub(super) time: Duration,
    pub(super) frame: &'a [u8],
    /// Length of the frame without cuts, in bytes.
    pub(super) whole_len: u32,
    pub(super) direction: Direction,
    pub(super) comments: Vec<&'a str>,
    pub(super) headers: Headers,
}

/// What the headers of a frame say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Headers {
    pub(super) transport: Transport,
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) seq: u32,
    pub(super) syn: bool,
    /// Where the payload begins in the frame.
    pub(super) payload_at: usize,
    /// Payload without cuts, in bytes.
    pub(super) payload_len: usize,
}

impl Block {
    /// Reads the next block; `None` at the end of the file.
    ///
    /// # Errors
    /// The file ends within the block, or what stands there is none.
    pub(super) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut head = [0; 8];
        if from.read(&mut head[..1])? == 0 {
            return Ok(None);
        }
        from.read_exact(&mut head[1..])?;
        let len = usize::try_from(word(&head, 4)).unwrap_or(usize::MAX);
        if !(FRAMING..=MAX_BLOCK).contains(&len) || !len.is_multiple_of(4) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "no block begins here"));
        }
        let mut bytes = vec![0; len];
        bytes[..8].copy_from_slice(&head);
        from.read_exact(&mut bytes[8..])?;
        if word(&bytes, len - 4) != word(&head, 4) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a block has two lengths"));
        }
        Ok(Some(Self { bytes }))
    }

    pub(super) fn kind(&self) -> u32 {
        word(&self.bytes, 0)
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.bytes.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether this is the section header of a little-endian file.
    pub(super) fn is_our_section(&self) -> bool {
        self.kind() == SECTION_HEADER && self.bytes.get(8..12) == Some(&[0x4d, 0x3c, 0x2b, 0x1a])
    }

    /// The interface of a packet block.
    pub(super) fn interface(&self) -> Option<u32> {
        (self.kind() == ENHANCED_PACKET && self.bytes.len() >= 32).then(|| word(&self.bytes, 8))
    }

    /// Makes a packet block one of the first interface.
    pub(super) fn set_first_interface(&mut self) {
        self.bytes[8..12].fill(0);
    }

    /// The packet in the block; `None` for other blocks and for frames that are not ours.
    pub(super) fn packet(&self) -> Option<Packet<'_>> {
        self.interface()?;
        let nanos = u64::from(word(&self.bytes, 12)) << 32 | u64::from(word(&self.bytes, 16));
        let kept = usize::try_from(word(&self.bytes, 20)).ok()?;
        let frame = self.bytes.get(28..28 + kept)?;
        let options = self.bytes.get(28 + kept.next_multiple_of(4)..self.bytes.len() - 4)?;
        let mut packet = Packet {
            time: Duration::new(nanos / NANOS, u32::try_from(nanos % NANOS).ok()?),
            frame,
            whole_len: word(&self.bytes, 24),
            direction: Direction::Up,
            comments: Vec::new(),
            headers: Headers::read(frame, word(&self.bytes, 24))?,
        };
        packet.read_options(options);
        Some(packet)
    }
}

impl<'a> Packet<'a> {
    fn read_options(&mut self, mut options: &'a [u8]) {
        while let Some((head, rest)) = options.split_first_chunk::<4>() {
            let code = u16::from_le_bytes([head[0], head[1]]);
            let len = usize::from(u16::from_le_bytes([head[2], head[3]]));
            let Some(value) = rest.get(..len) else { return };
            match code {
                0 => return,
                COMMENT => self.comments.extend(std::str::from_utf8(value).ok()),
                PACKET_FLAGS if value.first().is_some_and(|flags| flags & 3 == OUTBOUND) => {
                    self.direction = Direction::Down;
                }
                _ => {}
            }
            options = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        }
    }

    /// The payload that is kept.
    pub(super) fn payload(&self) -> &'a [u8] {
        self.frame.get(self.headers.payload_at..).unwrap_or_default()
    }
}

impl Headers {
    fn read(frame: &[u8], whole_len: u32) -> Option<Self> {
        let headers = LaxPacketHeaders::from_ethernet(frame).ok()?;
        let (source, destination, ip_len) = match headers.net? {
            NetHeaders::Ipv4(ip, _) => {
                (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.header_len())
            }
            NetHeaders::Ipv6(ip, _) => {
                (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.header_len())
            }
            NetHeaders::Arp(_) => return None,
        };
        let before = ETHERNET_LEN + ip_len;
        let (transport, ports, len, seq, syn) = match headers.transport? {
            TransportHeader::Tcp(tcp) => {
                let ports = (tcp.source_port, tcp.destination_port);
                (Transport::Tcp, ports, tcp.header_len(), tcp.sequence_number, tcp.syn)
            }
            TransportHeader::Udp(udp) => {
                let ports = (udp.source_port, udp.destination_port);
                (Transport::Udp, ports, UDP_HEADER_LEN, 0, false)
            }
            _ => return None,
        };
        let payload_at = before + len;
        Some(Self {
            transport,
            from: SocketAddr::new(source, ports.0),
            to: SocketAddr::new(destination, ports.1),
            seq,
            syn,
            payload_at,
            payload_len: usize::try_from(whole_len).ok()?.checked_sub(payload_at)?,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let four = bytes.get(at..at + 4).and_then(|four| four.first_chunk::<4>());
    four.map_or(0, |four| u32::from_le_bytes(*four))
}
