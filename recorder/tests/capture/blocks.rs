//! A pcapng file as its blocks, to be broken on purpose.

use std::path::{Path, PathBuf};

const ENHANCED_PACKET: u32 = 6;
/// From the beginning of a packet block to its frame, in bytes.
const FRAME_AT: usize = 28;

/// The blocks of a little-endian file.
pub(crate) fn read(file: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(file).unwrap();
    let mut rest = &bytes[..];
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let len = usize::try_from(u32::from_le_bytes(rest[4..8].try_into().unwrap())).unwrap();
        let (block, behind) = rest.split_at(len);
        blocks.push(block.to_vec());
        rest = behind;
    }
    blocks
}

/// Writes blocks as `name` beside `file`.
pub(crate) fn write(file: &Path, name: &str, blocks: &[Vec<u8>]) -> PathBuf {
    let path = file.with_file_name(name);
    std::fs::write(&path, blocks.concat()).unwrap();
    path
}

/// The frame of a packet block.
pub(crate) fn frame(block: &mut [u8]) -> Option<&mut [u8]> {
    let is_packet = u32::from_le_bytes(block[..4].try_into().unwrap()) == ENHANCED_PACKET;
    let len = usize::try_from(u32::from_le_bytes(block[20..24].try_into().unwrap())).unwrap();
    is_packet.then(|| &mut block[FRAME_AT..FRAME_AT + len])
}

/// The numbers of the packet blocks whose frames have at least `len` bytes.
pub(crate) fn packets(blocks: &mut [Vec<u8>], len: usize) -> Vec<usize> {
    let numbered = blocks.iter_mut().enumerate();
    numbered
        .filter_map(|(number, block)| frame(block).filter(|f| f.len() >= len).map(|_| number))
        .collect()
}
