//! One pcapng file while it is written.
//!
//! Blocks are encoded into memory by `pcap-file` and reach the disk at [`OpenFile::commit`], all of
//! them or none: a write that fails is cut back to the last good offset. The file carries the name
//! `….part` until [`OpenFile::seal`] and [`publish`] have made it durable and whole.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use pcap_file::pcapng::blocks::enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption};
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption, InterfaceTsResolution,
};
use pcap_file::pcapng::blocks::interface_statistics::{
    InterfaceStatisticsBlock, InterfaceStatisticsOption,
};
use pcap_file::pcapng::blocks::opt_common::CommonOption;
use pcap_file::pcapng::blocks::section_header::{SectionHeaderBlock, SectionHeaderOption};
use pcap_file::pcapng::{PcapNgWriteError, PcapNgWriter};
use pcap_file::{DataLink, Endianness};
use schemas::table::Capture;
use schemas::vocab::{Direction, NodeName, ServiceName};
use sha2::{Digest as _, Sha256};

use super::extent::Extent;
use super::session::{Packet, SessionKey};
use crate::data_dir::{self, Group};

/// The same on all interfaces: libpcap refuses files whose interfaces differ in it, and more.
const SNAPLEN: u32 = 262_144;
const FILE_COMMENT: &str = "Ethernet, IP, TCP and UDP headers are made up by the Weir recorder; \
                            payload, direction and times are as relayed";
/// `epb_flags`: towards the service, and from it.
const INBOUND: u32 = 1;
pub(super) const OUTBOUND: u32 = 2;

/// What a path gets behind its final name while the file is open.
pub(super) const PART_SUFFIX: &str = ".part";

/// A pcapng file that is being written.
pub(super) struct OpenFile {
    path: PathBuf,
    /// The final path, below the data directory.
    relative: String,
    file: File,
    encoder: PcapNgWriter<Vec<u8>>,
    hasher: Sha256,
    /// Length of what is written; a failed write is cut back to here.
    good: u64,
    last_time_ns: i64,
    interfaces: Vec<Interface>,
    extents: HashMap<SessionKey, Extent>,
    opened: Instant,
    encode_error: Option<PcapNgWriteError>,
}

/// One forwarder's share of a service, shown as an interface.
struct Interface {
    node: NodeName,
    first_ns: i64,
    last_ns: i64,
    packets: u64,
    lost_packets: u64,
}

/// A file that is whole and durable, and its index.
#[derive(Debug)]
pub(super) struct Sealed {
    /// Its `.part` name; none for rows that only tell of loss.
    pub(super) path: Option<PathBuf>,
    /// The rows of the index.
    pub(super) rows: Vec<Capture>,
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("path", &self.path).finish_non_exhaustive()
    }
}

impl OpenFile {
    /// Creates `<data>/<relative>.part`, its directories, and the section header, all readable for
    /// `readers`.
    pub(super) fn create(data: &Path, relative: &str, readers: Group) -> io::Result<Self> {
        let path = data.join(format!("{relative}{PART_SUFFIX}"));
        if let Some(parent) = path.parent() {
            data_dir::make_directory(parent, &readers)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        readers.admit_file(&path)?;
        let section = SectionHeaderBlock {
            endianness: Endianness::Little,
            section_length: -1,
            options: vec![
                SectionHeaderOption::OS(Cow::Borrowed(std::env::consts::OS)),
                SectionHeaderOption::UserApplication(Cow::Borrowed(concat!(
                    "Weir recorder ",
                    env!("CARGO_PKG_VERSION")
                ))),
                SectionHeaderOption::Common(CommonOption::Comment(Cow::Borrowed(FILE_COMMENT))),
            ],
            ..SectionHeaderBlock::default()
        };
        let encoder =
            PcapNgWriter::with_section_header(Vec::new(), section).map_err(io::Error::other)?;
        let mut open = Self {
            path,
            relative: relative.to_owned(),
            file,
            encoder,
            hasher: Sha256::new(),
            good: 0,
            last_time_ns: 0,
            interfaces: Vec::new(),
            extents: HashMap::new(),
            opened: Instant::now(),
            encode_error: None,
        };
        if let Err(error) = open.commit() {
            drop(fs::remove_file(&open.path));
            return Err(error);
        }
        Ok(open)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes on disk.
    pub(super) fn len(&self) -> u64 {
        self.good
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Sessions with packets in the file.
    pub(super) fn sessions(&self) -> impl Iterator<Item = &SessionKey> {
        self.extents.keys()
    }

    pub(super) fn session_count(&self) -> usize {
        self.extents.len()
    }

    /// What is gathered of a session in this file so far.
    pub(super) fn extent(&self, key: &SessionKey) -> Option<&Extent> {
        self.extents.get(key)
    }

    /// Keeps what was gathered of a session. Called after a commit that succeeded.
    pub(super) fn set_extent(&mut self, key: SessionKey, extent: Extent) {
        if extent.packets > 0 {
            self.extents.insert(key, extent);
        }
    }

    /// Encodes a packet of `key` and adds it to `extent`. An error shows at the next commit.
    pub(super) fn encode(
        &mut self,
        service: &ServiceName,
        key: &SessionKey,
        packet: Packet<'_>,
        extent: &mut Extent,
    ) {
        let time_ns = packet.time_ns.max(self.last_time_ns);
        let Some(interface) = self.interface(service, &key.node, time_ns) else { return };
        let flags = match packet.direction {
            Direction::Up => INBOUND,
            Direction::Down => OUTBOUND,
        };
        let mut options = vec![EnhancedPacketOption::Flags(flags)];
        if packet.lost_packets > 0 {
            options.push(EnhancedPacketOption::DropCount(packet.lost_packets));
        }
        for comment in packet.comments {
            let comment = CommonOption::Comment(Cow::Owned(comment));
            options.push(EnhancedPacketOption::Common(comment));
        }
        let block = EnhancedPacketBlock {
            interface_id: u32::try_from(interface).unwrap_or(u32::MAX),
            timestamp: Duration::from_nanos(u64::try_from(time_ns).unwrap_or_default()),
            original_len: packet.whole_len,
            data: Cow::Borrowed(packet.frame),
            options,
        };
        let first = self.end_of_pending();
        if let Err(error) = self.encoder.write_pcapng_block(block) {
            self.encode_error.get_or_insert(error);
            return;
        }
        self.last_time_ns = time_ns;
        let stats = &mut self.interfaces[interface];
        stats.last_ns = time_ns;
        stats.packets += 1;
        stats.lost_packets += packet.lost_packets;
        extent.add((first, self.end_of_pending()), time_ns, packet.direction, packet.weight);
    }

    fn end_of_pending(&self) -> u64 {
        self.good + u64::try_from(self.encoder.get_ref().len()).unwrap_or(u64::MAX)
    }

    /// The number of the interface that stands for `service` of `node`; described if it is new.
    fn interface(&mut self, service: &ServiceName, node: &NodeName, now: i64) -> Option<usize> {
        if let Some(known) = self.interfaces.iter().position(|known| known.node == *node) {
            return Some(known);
        }
        let name = service.as_str();
        let description =
            format!("service {name} of forwarder {}, between client and listener", node.as_str());
        let block = InterfaceDescriptionBlock {
            linktype: DataLink::ETHERNET,
            snaplen: SNAPLEN,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Borrowed(name)),
                InterfaceDescriptionOption::IfDescription(Cow::Owned(description)),
                InterfaceDescriptionOption::IfTsResol(InterfaceTsResolution::NANO),
            ],
        };
        if let Err(error) = self.encoder.write_pcapng_block(block) {
            self.encode_error.get_or_insert(error);
            return None;
        }
        let node = node.clone();
        let new = Interface { node, first_ns: now, last_ns: now, packets: 0, lost_packets: 0 };
        self.interfaces.push(new);
        Some(self.interfaces.len() - 1)
    }

    /// Writes what was encoded since the last commit.
    ///
    /// # Errors
    /// The disk took none or part of it; what it took is cut off again. The file must not be
    /// written to any more, and may be sealed.
    pub(super) fn commit(&mut self) -> io::Result<()> {
        let pending = std::mem::take(self.encoder.get_mut());
        if let Some(error) = self.encode_error.take() {
            return Err(io::Error::other(error));
        }
        if let Err(error) = self.file.write_all_at(&pending, self.good) {
            self.file.set_len(self.good)?;
            return Err(error);
        }
        self.hasher.update(&pending);
        self.good += u64::try_from(pending.len()).unwrap_or_default();
        *self.encoder.get_mut() = pending;
        self.encoder.get_mut().clear();
        Ok(())
    }

    /// Writes the interface statistics (unless `is_damaged`, after a failed write), makes the file
    /// durable and hands out its index. `None`: it held no packet and is gone.
    pub(super) fn seal(mut self, is_damaged: bool) -> io::Result<Option<Sealed>> {
        if self.extents.is_empty() {
            fs::remove_file(&self.path)?;
            return Ok(None);
        }
        if !is_damaged {
            self.write_statistics()?;
        }
        self.file.sync_all()?;
        let sha256 = hexadecimal(&self.hasher.finalize());
        let mut rows: Vec<_> = self
            .extents
            .iter()
            .map(|(key, extent)| extent.row(key, Some(&self.relative), Some(&sha256)))
            .collect();
        rows.sort_by(|a, b| {
            let key = |row: &Capture| (row.node.clone(), row.boot.clone(), row.session_no);
            key(a).cmp(&key(b))
        });
        Ok(Some(Sealed { path: Some(self.path), rows }))
    }

    fn write_statistics(&mut self) -> io::Result<()> {
        let nanos = |ns: i64| Duration::from_nanos(u64::try_from(ns).unwrap_or_default());
        for (id, interface) in self.interfaces.iter().enumerate() {
            let block = InterfaceStatisticsBlock {
                interface_id: u32::try_from(id).unwrap_or(u32::MAX),
                timestamp: nanos(interface.last_ns),
                options: vec![
                    InterfaceStatisticsOption::IsbStartTime(nanos(interface.first_ns)),
                    InterfaceStatisticsOption::IsbEndTime(nanos(interface.last_ns)),
                    InterfaceStatisticsOption::IsbIfRecv(interface.packets),
                    InterfaceStatisticsOption::IsbIfDrop(interface.lost_packets),
                ],
            };
            self.encoder.write_pcapng_block(block).map_err(io::Error::other)?;
        }
        self.commit()
    }
}

/// Gives a sealed file its final name, durably.
pub(super) fn publish(part: &Path) -> io::Result<PathBuf> {
    let name = part.to_string_lossy();
    let name = name.strip_suffix(PART_SUFFIX).unwrap_or(&name);
    let published = PathBuf::from(name);
    fs::rename(part, &published)?;
    sync_directory(&published)?;
    Ok(published)
}

/// Makes the entry of `path` in its directory durable.
pub(super) fn sync_directory(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

/// Bytes as hexadecimal text.
pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a String takes every write");
    }
    text
}
