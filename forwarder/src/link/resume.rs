//! Where in the spool a connection goes on.

use std::path::Path;

use journal::{JournalError, Reader};
use schemas::wire::Welcome;

use super::LinkError;

impl From<JournalError> for LinkError {
    fn from(error: JournalError) -> Self {
        Self::Spool(error.to_string())
    }
}

/// The oldest frame on disk; 0: there is none.
pub(super) fn first_frame(spool: &Path, durable: u64) -> Result<u64, LinkError> {
    let first = Reader::open(spool, 0)?.header().first_frame;
    Ok(if first <= durable { first } else { 0 })
}

/// A reader that stands at the first frame the recorder does not hold, and that frame's number.
///
/// # Errors
/// The recorder's last frame is not ours ([`LinkError::Forked`]), or the spool cannot be read.
pub(super) fn resume(
    spool: &Path,
    durable: u64,
    welcome: &Welcome,
) -> Result<(Reader, u64), LinkError> {
    let (held, crc) = (welcome.last_frame, welcome.last_crc);
    if held > durable {
        let text = format!("the recorder holds frame {held}, our last is {durable}");
        return Err(LinkError::Forked(text));
    }
    let mut reader = Reader::open(spool, held)?;
    let first = reader.header().first_frame;
    let ours = if held >= first {
        reader.next(durable)?.map(|(_, crc)| crc)
    } else if held > 0 && held + 1 == first {
        // Zero: the spool does not know it either.
        Some(reader.header().previous_crc).filter(|crc| *crc != 0)
    } else {
        None
    };
    if let Some(ours) = ours.filter(|ours| *ours != crc) {
        let text = format!(
            "frame {held} has the checksum {ours:#010x} here and {crc:#010x} at the recorder"
        );
        return Err(LinkError::Forked(text));
    }
    Ok((reader, first.max(held + 1)))
}
