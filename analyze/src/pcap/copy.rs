//! A session's packets as a file of their own.

use std::borrow::Cow;
use std::io::Write;
use std::path::Path;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapTsResolution, PcapWriteError, PcapWriter};
use pcap_file::{DataLink, Endianness};

use super::source::walk;
use super::{Captured, Exported, PcapError};

/// Longest packet that the file announces, in bytes.
const SNAPLEN: u32 = 262_144;

/// Copies blocks as they lie in the captures, behind one section header and one interface.
pub(super) fn pcapng(
    data: &Path,
    captured: &Captured,
    out: &mut dyn Write,
) -> Result<Exported, PcapError> {
    let mut exported = Exported::default();
    walk(data, captured, |head, block, packet| {
        if exported.packets == 0 {
            out.write_all(head.section.bytes()).map_err(PcapError::Write)?;
            out.write_all(head.interface.bytes()).map_err(PcapError::Write)?;
        }
        exported.add(packet.payload());
        out.write_all(block.bytes()).map_err(PcapError::Write)
    })?;
    out.flush().map_err(PcapError::Write)?;
    Ok(exported)
}

/// Writes the frames as a classic pcap file with nanosecond times; comments and directions go.
pub(super) fn pcap(
    data: &Path,
    captured: &Captured,
    out: &mut dyn Write,
) -> Result<Exported, PcapError> {
    let header = PcapHeader {
        snaplen: SNAPLEN,
        datalink: DataLink::ETHERNET,
        ts_resolution: PcapTsResolution::NanoSecond,
        endianness: Endianness::Little,
        ..PcapHeader::default()
    };
    let failed = |error: PcapWriteError| PcapError::Write(std::io::Error::other(error));
    let mut writer = PcapWriter::with_header(out, header).map_err(failed)?;
    let mut exported = Exported::default();
    walk(data, captured, |_, _, packet| {
        exported.add(packet.payload());
        let frame = PcapPacket::new(packet.time, packet.whole_len, Cow::Borrowed(packet.frame))
            .map_err(|error| PcapError::Write(std::io::Error::other(error)))?;
        writer.write_packet(&frame).map(drop).map_err(failed)
    })?;
    writer.flush().map_err(failed)?;
    Ok(exported)
}
