//! A session's payload without anything around it, or not at all.

use std::io::Write;
use std::path::Path;

use schemas::vocab::{Direction, PerDirection, Transport};

use super::block::Packet;
use super::source::{walk, word};
use super::{Captured, Exported, PcapError, Side};

/// Writes the payload of `side`, each byte once and none left out.
pub(super) fn write(
    data: &Path,
    captured: &Captured,
    side: Side,
    out: &mut dyn Write,
) -> Result<Exported, PcapError> {
    let mut exported = Exported::default();
    let mut streams = Streams::new(captured, side);
    walk(data, captured, |_, _, packet| {
        exported.packets += 1;
        let payload = streams.take(packet)?;
        exported.payload_bytes += u64::try_from(payload.len()).unwrap_or_default();
        out.write_all(payload).map_err(PcapError::Write)
    })?;
    out.flush().map_err(PcapError::Write)?;
    Ok(exported)
}

/// Sees to it that nothing is missing.
struct Streams<'a> {
    captured: &'a Captured,
    side: Side,
    /// The sequence number of the next byte; `None` before the first packet.
    next: PerDirection<Option<u32>>,
    /// Payload written so far, in bytes.
    position: PerDirection<u64>,
}

impl<'a> Streams<'a> {
    fn new(captured: &'a Captured, side: Side) -> Self {
        let (next, position) = (PerDirection::default(), PerDirection::default());
        Self { captured, side, next, position }
    }

    fn wants(&self, direction: Direction) -> bool {
        match self.side {
            Side::Up => direction == Direction::Up,
            Side::Down => direction == Direction::Down,
            Side::Both => true,
        }
    }

    /// The wanted payload of a packet.
    fn take<'p>(&mut self, packet: &Packet<'p>) -> Result<&'p [u8], PcapError> {
        for comment in &packet.comments {
            self.heed(comment)?;
        }
        let direction = packet.direction;
        if !self.wants(direction) {
            return Ok(&[]);
        }
        self.check_sequence(packet)?;
        let payload = packet.payload();
        if payload.len() < packet.headers.payload_len {
            let position = self.position[direction] + as_u64(payload.len());
            return Err(self.incomplete(format!(
                "payload {} is not kept beyond its first {position} bytes, as its rule's capture mode asks",
                direction.as_str(),
            )));
        }
        self.position[direction] += as_u64(payload.len());
        Ok(payload)
    }

    fn check_sequence(&mut self, packet: &Packet<'_>) -> Result<(), PcapError> {
        let headers = &packet.headers;
        if headers.transport != Transport::Tcp {
            return Ok(());
        }
        let next = &mut self.next[packet.direction];
        if headers.syn {
            *next = Some(headers.seq.wrapping_add(1));
            return Ok(());
        }
        let len = u32::try_from(headers.payload_len).unwrap_or_default();
        let missing = next.map_or(0, |next| headers.seq.wrapping_sub(next));
        *next = Some(headers.seq.wrapping_add(len));
        // The FIN takes a number as well, and what comes behind it carries nothing.
        let behind_fin = missing == 1 && len == 0;
        if missing == 0 || behind_fin {
            return Ok(());
        }
        let direction = packet.direction.as_str();
        let position = self.position[packet.direction];
        Err(self.incomplete(format!(
            "{missing} bytes of payload {direction} are missing behind byte {position}"
        )))
    }

    /// What a comment says about missing payload.
    fn heed(&self, comment: &str) -> Result<(), PcapError> {
        let number = |name| word(comment, name).and_then(|n| n.parse::<u64>().ok());
        let pair = || PerDirection {
            up: number("up=").unwrap_or_default(),
            down: number("down=").unwrap_or_default(),
        };
        if comment.starts_with("mid-session ") {
            self.expect(pair(), "were received before its capture begins or goes on")
        } else if comment.contains(" end=") {
            self.expect(pair(), "were received until its end")
        } else if comment.starts_with("lost=") && self.captured.transport == Transport::Udp {
            let gap = number("gap=").unwrap_or_default();
            Err(self.incomplete(format!("{gap} bytes of datagrams are missing")))
        } else {
            Ok(())
        }
    }

    fn expect(&self, received: PerDirection<u64>, when: &str) -> Result<(), PcapError> {
        for direction in Direction::BOTH {
            let (position, received) = (self.position[direction], received[direction]);
            if self.wants(direction) && position != received {
                let direction = direction.as_str();
                return Err(self.incomplete(format!(
                    "{received} bytes of payload {direction} {when}, but only {position} are in its capture"
                )));
            }
        }
        Ok(())
    }

    fn incomplete(&self, what: String) -> PcapError {
        PcapError::Incomplete { session: self.captured.session, what }
    }
}

fn as_u64(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}
