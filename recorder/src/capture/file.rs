//! One pcapng file while it is written.
//!
//! Packets are gathered in a [`Batch`] and reach the disk at [`OpenFile::commit`], all of them or
//! none: a write that fails is cut back to the last good offset. The few blocks about the file
//! itself are encoded by `pcap-file`. The file carries the name `….part` until it is closed, durable
//! and indexed.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

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
use schemas::vocab::{Direction, NodeName, ServiceName};

use super::block::{Batch, Block};
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
    /// Encodes the blocks that are no packets.
    encoder: PcapNgWriter<Vec<u8>>,
    encode_error: Option<PcapNgWriteError>,
    /// The buffer of the last batch, for the next.
    buffer: Vec<u8>,
    /// Length of what is written; a failed write is cut back to here.
    good: u64,
    last_time_ns: i64,
    interfaces: Vec<Interface>,
    extents: HashMap<SessionKey, Extent>,
    opened: Instant,
}

/// One forwarder's share of a service, shown as an interface.
struct Interface {
    node: NodeName,
    first_ns: i64,
    last_ns: i64,
    packets: u64,
    lost_packets: u64,
}

/// A file that has got its last packet, and is neither durable nor indexed yet.
#[derive(Debug)]
pub(super) struct ClosedFile {
    /// Its `.part` name.
    pub(super) path: PathBuf,
    /// The final path, below the data directory.
    pub(super) relative: String,
    pub(super) file: File,
    /// In bytes.
    pub(super) len: u64,
    pub(super) extents: HashMap<SessionKey, Extent>,
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
        let mut options = OpenOptions::new();
        // It is read for its digest.
        let file = options.read(true).write(true).create_new(true).mode(0o600).open(&path)?;
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
            encode_error: None,
            buffer: Vec::new(),
            good: 0,
            last_time_ns: 0,
            interfaces: Vec::new(),
            extents: HashMap::new(),
            opened: Instant::now(),
        };
        let mut batch = open.batch();
        open.add_encoded(&mut batch);
        if let Err(error) = open.commit(batch) {
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
    pub(super) fn set_extent(&mut self, key: &SessionKey, extent: Extent) {
        if let Some(known) = self.extents.get_mut(key) {
            *known = extent;
        } else if extent.packets > 0 {
            self.extents.insert(key.clone(), extent);
        }
    }

    /// A batch for the file; it comes back with [`Self::commit`].
    pub(super) fn batch<'a>(&mut self) -> Batch<'a> {
        Batch::reusing(std::mem::take(&mut self.buffer))
    }

    /// Adds a packet of `key` to `batch`, and to `extent`. An error shows at the commit.
    pub(super) fn encode<'a>(
        &mut self,
        service: &ServiceName,
        key: &SessionKey,
        packet: &Packet<'a>,
        batch: &mut Batch<'a>,
        extent: &mut Extent,
    ) {
        let time_ns = packet.time_ns.max(self.last_time_ns);
        let Some(interface) = self.interface(service, &key.node, time_ns, batch) else { return };
        let first = self.end_of(batch);
        batch.push(&Block {
            interface: u32::try_from(interface).unwrap_or(u32::MAX),
            time_ns: u64::try_from(time_ns).unwrap_or_default(),
            head: packet.head,
            payload: packet.payload,
            whole_len: packet.whole_len,
            flags: match packet.direction {
                Direction::Up => INBOUND,
                Direction::Down => OUTBOUND,
            },
            lost_packets: packet.lost_packets,
            comments: &packet.comments,
        });
        self.last_time_ns = time_ns;
        let stats = &mut self.interfaces[interface];
        stats.last_ns = time_ns;
        stats.packets += 1;
        stats.lost_packets += packet.lost_packets;
        extent.add((first, self.end_of(batch)), time_ns, packet.direction, packet.weight);
    }

    /// Where the file ends when `batch` is written.
    fn end_of(&self, batch: &Batch<'_>) -> u64 {
        self.good + u64::try_from(batch.len()).unwrap_or(u64::MAX)
    }

    /// Adds what the encoder has made.
    fn add_encoded(&mut self, batch: &mut Batch<'_>) {
        let made = self.encoder.get_mut();
        batch.push_encoded(made);
        made.clear();
    }

    /// The number of the interface that stands for `service` of `node`; described if it is new.
    fn interface(
        &mut self,
        service: &ServiceName,
        node: &NodeName,
        now: i64,
        batch: &mut Batch<'_>,
    ) -> Option<usize> {
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
        self.add_encoded(batch);
        let node = node.clone();
        let new = Interface { node, first_ns: now, last_ns: now, packets: 0, lost_packets: 0 };
        self.interfaces.push(new);
        Some(self.interfaces.len() - 1)
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// The disk took none or part of it; what it took is cut off again. The file must not be
    /// written to any more, and may be closed.
    pub(super) fn commit(&mut self, batch: Batch<'_>) -> io::Result<()> {
        if let Some(error) = self.encode_error.take() {
            return Err(io::Error::other(error));
        }
        match batch.write_at(&self.file, self.good) {
            Ok(written) => self.good += written,
            Err(error) => {
                self.file.set_len(self.good)?;
                return Err(error);
            }
        }
        self.buffer = batch.into_buffer();
        Ok(())
    }

    /// Ends the file at its last good packet; `is_damaged`: after a failed write. `None`: it held no
    /// packet and is gone.
    ///
    /// # Errors
    /// It cannot be deleted, or not be cut, and is not to be read as it is.
    pub(super) fn close(self, is_damaged: bool) -> io::Result<Option<ClosedFile>> {
        if self.extents.is_empty() {
            fs::remove_file(&self.path)?;
            return Ok(None);
        }
        if is_damaged {
            self.file.set_len(self.good)?;
        }
        let Self { path, relative, file, good: len, extents, .. } = self;
        Ok(Some(ClosedFile { path, relative, file, len, extents }))
    }

    /// Writes the interface statistics, behind the last packet.
    ///
    /// # Errors
    /// As [`Self::commit`].
    pub(super) fn write_statistics(&mut self) -> io::Result<()> {
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
        let mut batch = self.batch();
        self.add_encoded(&mut batch);
        self.commit(batch)
    }
}

#[cfg(test)]
impl OpenFile {
    /// From now on the disk is full.
    pub(super) fn refuse_more(&mut self) {
        use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
        let full = File::from(memfd_create("full", MemfdFlags::ALLOW_SEALING).unwrap());
        full.set_len(self.good).unwrap();
        fcntl_add_seals(&full, SealFlags::GROW).unwrap();
        self.file = full;
    }
}
