//! Reading a capture file of ours back: its whole blocks, and the index that its comments tell.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxPacketHeaders, NetHeaders, TransportHeader};
use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::{Block, PcapNgReader};
use schemas::table::Capture;
use schemas::vocab::{Direction, PerDirection, Transport};

use super::extent::Extent;
use super::file::OUTBOUND;
use super::session::{SessionKey, Weight};
use super::store::Left;
use super::tcp::isn;

/// Room for the longest block, in bytes.
const BUFFER: usize = 1 << 20;

/// What a file holds as far as it can be read.
#[derive(Debug, Default)]
pub(super) struct Scan {
    good_len: u64,
    sessions: HashMap<SessionKey, Found>,
    /// Whose packets a conversation's are, since the last comment that said so.
    owners: HashMap<Conversation, SessionKey>,
}

#[derive(Debug, Clone, Default)]
struct Found {
    extent: Extent,
    position: PerDirection<u64>,
    fin: PerDirection<bool>,
    ended: bool,
}

/// An interface and the ends of a connection on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Conversation {
    interface: u32,
    transport: Transport,
    client: SocketAddr,
    listen: SocketAddr,
}

/// What the headers of a frame say.
#[derive(Debug)]
struct Headers {
    conversation: Conversation,
    captured: u64,
    original: u64,
    seq: Option<u32>,
    fin: bool,
}

/// Reads a file until its end or its first fault.
///
/// # Errors
/// The file cannot be read at all.
pub(super) fn scan(file: File) -> io::Result<Scan> {
    let mut scan = Scan::default();
    if file.metadata()?.len() == 0 {
        return Ok(scan);
    }
    // A file too short for its section header is empty for our purposes.
    let Ok(mut reader) = PcapNgReader::with_capacity(file, BUFFER) else { return Ok(scan) };
    scan.good_len = reader.bytes_parsed();
    loop {
        let begin = scan.good_len;
        let packet = match reader.next_block() {
            None | Some(Err(_)) => return Ok(scan),
            Some(Ok((Block::EnhancedPacket(packet), _))) => Some(packet.into_owned()),
            Some(Ok(_)) => None,
        };
        scan.good_len = reader.bytes_parsed();
        if let Some(packet) = packet {
            scan.add(&packet, (begin, scan.good_len));
        }
    }
}

impl Scan {
    /// Length of the whole blocks.
    pub(super) fn good_len(&self) -> u64 {
        self.good_len
    }

    /// Whether there is no packet of a session.
    pub(super) fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }

    /// The rows of the index.
    pub(super) fn rows(&self, file: &str, sha256: &str) -> Vec<Capture> {
        let mut sessions: Vec<_> = self.sessions.iter().collect();
        sessions.sort_by_key(|(key, _)| *key);
        let row =
            |(key, found): (&SessionKey, &Found)| found.extent.row(key, Some(file), Some(sha256));
        sessions.into_iter().map(row).collect()
    }

    /// Where each session stands: `None`, it is over.
    pub(super) fn left(self) -> impl Iterator<Item = (SessionKey, Option<Left>)> {
        self.sessions.into_iter().map(|(key, found)| {
            let extent = found.extent.number.saturating_add(1);
            let left = Left { extent, position: Some(found.position), fin: found.fin };
            (key, (!found.ended).then_some(left))
        })
    }

    fn add(&mut self, packet: &EnhancedPacketBlock<'_>, span: (u64, u64)) {
        let mut direction = Direction::Up;
        let mut comments = Vec::new();
        for option in &packet.options {
            match option {
                EnhancedPacketOption::Flags(OUTBOUND) => direction = Direction::Down,
                EnhancedPacketOption::Common(CommonOption::Comment(text)) => comments.push(text),
                _ => {}
            }
        }
        let Some(headers) = Headers::read(packet, direction) else { return };
        for text in &comments {
            self.note_owner(text, headers.conversation);
        }
        let Some(key) = self.owners.get(&headers.conversation) else { return };
        let found = self.sessions.entry(key.clone()).or_default();
        let mut weight = Weight { captured: headers.captured, original: headers.original, lost: 0 };
        for text in &comments {
            found.note(text, direction, &mut weight);
        }
        found.advance(key, direction, &headers);
        let time_ns = i64::try_from(packet.timestamp.as_nanos()).unwrap_or(i64::MAX);
        found.extent.add(span, time_ns, direction, weight);
    }

    /// A comment with `sid=` and `node=` begins a session's packets.
    fn note_owner(&mut self, comment: &str, conversation: Conversation) {
        let (Some(id), Some(node)) = (word(comment, "sid="), word(comment, "node=")) else {
            return;
        };
        let (Ok(id), Ok(node)) = (id.parse(), node.parse()) else { return };
        let key = SessionKey { node, id };
        let number = word(comment, "extent=").and_then(|n| n.parse().ok()).unwrap_or_default();
        let found = self.sessions.entry(key.clone()).or_default();
        found.extent.number = number;
        self.owners.insert(conversation, key);
    }
}

impl Found {
    fn note(&mut self, comment: &str, direction: Direction, weight: &mut Weight) {
        let number = |name| word(comment, name).and_then(|n| n.parse::<u64>().ok());
        if comment.starts_with("mid-session ") {
            self.position = PerDirection {
                up: number("up=").unwrap_or_default(),
                down: number("down=").unwrap_or_default(),
            };
        } else if comment.starts_with("lost=") {
            weight.lost = weight.lost.saturating_add(number("lost=").unwrap_or_default());
            // A TCP stream tells its gaps by its sequence numbers.
            let position = &mut self.position[direction];
            *position = position.saturating_add(number("gap=").unwrap_or_default());
        } else if comment.contains(" end=") {
            self.ended = true;
        }
    }

    fn advance(&mut self, key: &SessionKey, direction: Direction, headers: &Headers) {
        let position = &mut self.position[direction];
        if let Some(seq) = headers.seq.filter(|_| headers.original > 0) {
            let offset = seq.wrapping_sub(isn(&key.id, direction)).wrapping_sub(1);
            let low = u32::try_from(*position & u64::from(u32::MAX)).unwrap_or_default();
            let ahead = offset.wrapping_sub(low);
            if ahead < 1 << 31 {
                *position += u64::from(ahead);
            } else {
                *position = position.saturating_sub(u64::from(ahead.wrapping_neg()));
            }
        }
        *position += headers.original;
        self.fin[direction] |= headers.fin;
    }
}

impl Headers {
    fn read(packet: &EnhancedPacketBlock<'_>, direction: Direction) -> Option<Self> {
        let headers = LaxPacketHeaders::from_ethernet(&packet.data).ok()?;
        let (from, to, ip_len) = match headers.net? {
            NetHeaders::Ipv4(ip, _) => {
                (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.header_len())
            }
            NetHeaders::Ipv6(ip, _) => {
                (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.header_len())
            }
            NetHeaders::Arp(_) => return None,
        };
        let (transport, from_port, to_port, len, seq, fin) = match headers.transport? {
            TransportHeader::Tcp(tcp) => (
                Transport::Tcp,
                tcp.source_port,
                tcp.destination_port,
                tcp.header_len(),
                Some(tcp.sequence_number),
                tcp.fin,
            ),
            TransportHeader::Udp(udp) => {
                (Transport::Udp, udp.source_port, udp.destination_port, 8, None, false)
            }
            _ => return None,
        };
        let (from, to) = (SocketAddr::new(from, from_port), SocketAddr::new(to, to_port));
        let (client, listen) = match direction {
            Direction::Up => (from, to),
            Direction::Down => (to, from),
        };
        let headers_len = ETHERNET_LEN + ip_len + len;
        let captured = packet.data.len().checked_sub(headers_len)?;
        let whole = usize::try_from(packet.original_len).ok()?;
        Some(Self {
            conversation: Conversation {
                interface: packet.interface_id,
                transport,
                client,
                listen,
            },
            captured: u64::try_from(captured).ok()?,
            original: u64::try_from(whole.checked_sub(headers_len)?).ok()?,
            seq,
            fin,
        })
    }
}

const ETHERNET_LEN: usize = 14;

/// The value of the word that begins with `name`.
fn word<'a>(comment: &'a str, name: &str) -> Option<&'a str> {
    comment.split(' ').find_map(|word| word.strip_prefix(name))
}
