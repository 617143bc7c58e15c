//! Walking through a session's extents, block by block.

use std::fs::File;
use std::io::{self, BufReader, Seek, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::block::{Block, INTERFACE_DESCRIPTION, Packet};
use super::{Captured, Extent, PcapError};

/// What is read at once, in bytes.
const BUFFER: usize = 1 << 20;
/// What the path of a file has behind it until it is completely closed.
const PART_SUFFIX: &str = ".part";

/// The head of a capture file: what packets mean.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) section: Block,
    pub(super) interface: Block,
}

/// Calls `visit` with every packet of the session, in order, and gives the head of the first file.
/// The block is to be copied, the packet is what is in it.
pub(super) fn walk(
    data: &Path,
    captured: &Captured,
    mut visit: impl FnMut(&Head, &Block, &Packet<'_>) -> Result<(), PcapError>,
) -> Result<(), PcapError> {
    let mut last: Option<&Extent> = None;
    for extent in &captured.extents {
        // The same extent may be indexed twice.
        if last.is_some_and(|last| last.file == extent.file) {
            continue;
        }
        Walk { path: data.join(&extent.file), captured, extent }.run(&mut visit)?;
        last = Some(extent);
    }
    Ok(())
}

struct Walk<'a> {
    path: PathBuf,
    captured: &'a Captured,
    extent: &'a Extent,
}

impl Walk<'_> {
    fn run(
        &self,
        visit: &mut impl FnMut(&Head, &Block, &Packet<'_>) -> Result<(), PcapError>,
    ) -> Result<(), PcapError> {
        let mut file = BufReader::with_capacity(BUFFER, self.open()?);
        let section = self.next(&mut file)?.filter(Block::is_our_section);
        let section = section.ok_or_else(|| self.damaged("it is no pcapng file of ours"))?;
        let behind_section = section.len();
        self.seek(&mut file, self.extent.offset_first)?;
        let first = self.next(&mut file)?;
        let id = first.and_then(|block| block.interface());
        let id = id.ok_or_else(|| self.damaged("no packet where the index says"))?;
        self.seek(&mut file, behind_section)?;
        let head = Head { section, interface: self.find_interface(&mut file, id)? };
        self.seek(&mut file, self.extent.offset_first)?;
        let mut at = self.extent.offset_first;
        let mut ours = false;
        while at < self.extent.offset_last {
            let block = self.next(&mut file)?;
            let mut block = block.ok_or_else(|| self.damaged("it ends before the index does"))?;
            at += block.len();
            if block.interface() != Some(id) {
                continue;
            }
            let Some(packet) = block.packet().filter(|packet| self.is_conversation(packet)) else {
                continue;
            };
            ours = self.is_owner(&packet).unwrap_or(ours);
            if ours {
                drop(packet);
                block.set_first_interface();
                let packet = block.packet().ok_or_else(|| self.damaged("a packet is broken"))?;
                visit(&head, &block, &packet)?;
            }
        }
        Ok(())
    }

    fn open(&self) -> Result<File, PcapError> {
        let mut part = self.path.clone().into_os_string();
        part.push(PART_SUFFIX);
        // Renamed between the two: the first name is right by then.
        for path in [&self.path, &PathBuf::from(part), &self.path] {
            match File::open(path) {
                Ok(file) => return Ok(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(PcapError::Read { path: path.clone(), error }),
            }
        }
        Err(PcapError::Gone(self.path.clone()))
    }

    /// The description of interface `id`. All but the first are looked for, as they were written
    /// when another forwarder of the same service came.
    fn find_interface(&self, file: &mut BufReader<File>, id: u32) -> Result<Block, PcapError> {
        let mut left = id;
        while let Some(block) = self.next(file)? {
            if block.kind() == INTERFACE_DESCRIPTION {
                match left.checked_sub(1) {
                    None => return Ok(block),
                    Some(less) => left = less,
                }
            }
        }
        Err(self.damaged("an interface is not described"))
    }

    fn is_conversation(&self, packet: &Packet<'_>) -> bool {
        let (from, to) = (packet.headers.from, packet.headers.to);
        let Captured { transport, client, listen, .. } = self.captured;
        let (client, listen) = (plain(*client), plain(*listen));
        packet.headers.transport == *transport
            && ((from, to) == (client, listen) || (from, to) == (listen, client))
    }

    /// Whether a packet's comment says that it begins our session, or another one.
    fn is_owner(&self, packet: &Packet<'_>) -> Option<bool> {
        let begins = packet.comments.iter().find(|comment| comment.contains(" node="))?;
        let session = word(begins, "sid=")?;
        Some(session == self.captured.session.to_string())
    }

    fn next(&self, file: &mut BufReader<File>) -> Result<Option<Block>, PcapError> {
        Block::read(file).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged("it ends within a block"),
            io::ErrorKind::InvalidData => self.damaged(&error.to_string()),
            _ => PcapError::Read { path: self.path.clone(), error },
        })
    }

    fn seek(&self, file: &mut BufReader<File>, offset: u64) -> Result<(), PcapError> {
        let sought = file.seek(SeekFrom::Start(offset));
        sought.map(drop).map_err(|error| PcapError::Read { path: self.path.clone(), error })
    }

    fn damaged(&self, what: &str) -> PcapError {
        PcapError::Damaged { path: self.path.clone(), what: what.to_owned() }
    }
}

fn plain(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The value of the word of a comment that begins with `name`.
pub(super) fn word<'a>(comment: &'a str, name: &str) -> Option<&'a str> {
    comment.split(' ').find_map(|word| word.strip_prefix(name))
}
