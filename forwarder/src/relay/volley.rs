//! A volley: datagrams of one session on their way to one peer, in order.
//!
//! A run of datagrams of one size goes to the kernel as one message that is cut apart below, at the
//! latest possible place (`UDP_SEGMENT`): the way through the network stack, most of a datagram's
//! price, is then paid once for all of them. What does not fit a run is a message of its own; all
//! messages go in one system call.
//!
//! A run must be possible on the way to the peer: a segment that is larger than the way carries in
//! one piece is refused, since runs are never fragmented, while a lone datagram may be. What was
//! refused once is not tried again ([`Offload`]), and since the kernel takes a run as a whole or not
//! at all, its datagrams are sent one by one then, each exactly once.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;

use forwarder_core::session::DialFailure;
use forwarder_sys::datagram::{self, BATCH, Batch, Destination, LARGEST_RUN, Message};
use rustix::io::Errno;

use super::counters::{Counters, count, count_many};
use super::pump::errno;

/// What one session's way to one peer has shown of runs.
#[derive(Debug)]
pub(crate) struct Offload {
    /// The largest size of a segment that was not refused, in bytes; 0: no run at all.
    largest: Cell<u16>,
}

impl Offload {
    /// Nothing is known yet; `possible`: whether this kernel does it at all.
    pub(crate) fn new(possible: bool) -> Self {
        Self { largest: Cell::new(if possible { u16::MAX } else { 0 }) }
    }

    /// Learns from the refusal of a run of `segment` bytes each. `false`: it was not about the run.
    fn refused(&self, segment: u16, error: &io::Error) -> bool {
        match Errno::from_io_error(error) {
            Some(Errno::MSGSIZE) => self.largest.set(segment - 1),
            Some(Errno::INVAL | Errno::IO) => self.largest.set(0),
            _ => return false,
        }
        true
    }
}

/// Datagrams that are still to be sent.
#[derive(Debug)]
pub(crate) struct Volley<'a> {
    payloads: [IoSlice<'a>; BATCH],
    next: usize,
    end: usize,
    met_refusal: bool,
}

/// Why a volley is not through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl<'a> Volley<'a> {
    /// These datagrams, of which there are at most [`BATCH`].
    pub(crate) fn new(payloads: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut volley =
            Self { payloads: [IoSlice::new(&[]); BATCH], next: 0, end: 0, met_refusal: false };
        for (payload, place) in payloads.zip(&mut volley.payloads) {
            *place = IoSlice::new(payload);
            volley.end += 1;
        }
        volley
    }

    /// The datagrams of `batch` whose bits are set in `members`.
    pub(crate) fn of(batch: &'a Batch, mut members: u64) -> Self {
        Self::new(std::iter::from_fn(|| {
            let index = members.trailing_zeros() as usize;
            members &= members.wrapping_sub(1);
            (index < BATCH).then(|| batch.payload(index))
        }))
    }

    /// What is still to be sent.
    pub(crate) fn left(&self) -> &[IoSlice<'a>] {
        &self.payloads[self.next..self.end]
    }

    /// Passes over what is left except those that `keep` says of, in order, and says how many it
    /// does not.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&[u8]) -> bool) -> usize {
        let (mut kept, end) = (self.next, self.end);
        for index in self.next..end {
            if keep(&self.payloads[index]) {
                self.payloads.swap(kept, index);
                kept += 1;
            }
        }
        self.end = kept;
        end - kept
    }

    /// Sends what is left. `delivered` gets the number and the bytes of what the kernel took, soon
    /// after it did. What it will not take for another reason than want of room is counted and
    /// passed over.
    ///
    /// # Errors
    /// There is no room to send now: try again when there is, or [`Volley::give_up`].
    pub(crate) fn send(
        &mut self,
        socket: impl AsFd,
        destination: &Destination,
        offload: &Offload,
        counters: &Counters,
        delivered: impl Fn(usize, usize),
    ) -> Result<(), NoRoom> {
        let mut stale = false;
        while self.next < self.end {
            let left = &self.payloads[self.next..self.end];
            let mut messages = [Message { datagrams: &[], segment: None }; BATCH];
            let messages = pack(left, offload.largest.get(), &mut messages);
            match datagram::send(socket.as_fd(), destination, messages) {
                Ok(taken) => {
                    let datagrams =
                        messages[..taken].iter().map(|message| message.datagrams.len()).sum();
                    let bytes = left[..datagrams].iter().map(|payload| payload.len()).sum();
                    delivered(datagrams, bytes);
                    self.next += datagrams;
                    stale = false;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(NoRoom),
                Err(error) => {
                    let first = messages[0];
                    if let Some(segment) = first.segment
                        && offload.refused(segment, &error)
                    {
                        count(&counters.offload_refusals);
                    } else if !stale && is_stale(&error) {
                        // The error belongs to a datagram sent before; these have not been tried.
                        stale = true;
                        self.met_refusal = true;
                        count(&counters.icmp_errors);
                    } else {
                        count_many(&counters.datagrams_unsent, first.datagrams.len());
                        self.next += first.datagrams.len();
                        stale = false;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether ICMP refused a datagram that was sent before.
    pub(crate) fn met_refusal(&self) -> bool {
        self.met_refusal
    }

    /// Takes the first datagram out.
    pub(crate) fn skip(&mut self) {
        self.next = self.end.min(self.next + 1);
    }

    /// Counts what is left as not sent.
    pub(crate) fn give_up(self, counters: &Counters) {
        count_many(&counters.datagrams_unsent, self.left().len());
    }
}

/// Whether a send failed for a datagram sent before it.
fn is_stale(error: &io::Error) -> bool {
    DialFailure::from_errno(errno(error)) == DialFailure::Refused(errno(error))
}

/// Puts `payloads`, at least one, into as few messages as it takes.
fn pack<'m, 'p>(
    mut payloads: &'p [IoSlice<'p>],
    largest: u16,
    messages: &'m mut [Message<'p>; BATCH],
) -> &'m [Message<'p>] {
    let mut packed = 0;
    for message in messages.iter_mut() {
        if payloads.is_empty() {
            break;
        }
        let (datagrams, rest) = payloads.split_at(run(payloads, largest));
        let segment = u16::try_from(datagrams[0].len()).ok().filter(|_| datagrams.len() > 1);
        *message = Message { datagrams, segment };
        payloads = rest;
        packed += 1;
    }
    &messages[..packed]
}

/// How many of `payloads`, from the first on, one message carries.
fn run(payloads: &[IoSlice<'_>], largest: u16) -> usize {
    let size = payloads[0].len();
    if size == 0 || size > usize::from(largest) {
        return 1;
    }
    let mut room = LARGEST_RUN.saturating_sub(size);
    let mut count = 1;
    for payload in payloads[1..].iter().take(BATCH - 1) {
        if payload.is_empty() || payload.len() > size || payload.len() > room {
            break;
        }
        room -= payload.len();
        count += 1;
        if payload.len() < size {
            break;
        }
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(sizes: &[usize], largest: u16) -> Vec<(usize, Option<u16>)> {
        static BYTES: [u8; LARGEST_RUN] = [0; LARGEST_RUN];
        let payloads: Vec<_> = sizes.iter().map(|&size| IoSlice::new(&BYTES[..size])).collect();
        let mut messages = [Message { datagrams: &[], segment: None }; BATCH];
        let messages = pack(&payloads, largest, &mut messages);
        messages.iter().map(|message| (message.datagrams.len(), message.segment)).collect()
    }

    #[test]
    fn datagrams_of_one_size_are_one_run_and_the_last_may_be_shorter() {
        assert_eq!(packed(&[200; 64], u16::MAX), [(64, Some(200))]);
        assert_eq!(packed(&[200, 200, 100, 200], u16::MAX), [(3, Some(200)), (1, None)]);
        assert_eq!(packed(&[100, 200, 200], u16::MAX), [(1, None), (2, Some(200))]);
    }

    #[test]
    fn an_empty_datagram_is_never_part_of_a_run() {
        assert_eq!(
            packed(&[5, 0, 0, 5, 5], u16::MAX),
            [(1, None), (1, None), (1, None), (2, Some(5))]
        );
    }

    #[test]
    fn a_run_is_no_larger_than_a_packet() {
        assert_eq!(packed(&[1472; 64], u16::MAX), [(44, Some(1472)), (20, Some(1472))]);
        assert_eq!(packed(&[32_753, 32_754], u16::MAX), [(1, None), (1, None)]);
        assert_eq!(packed(&[32_754, 32_753], u16::MAX), [(2, Some(32_754))]);
        assert_eq!(packed(&[LARGEST_RUN; 2], u16::MAX), [(1, None), (1, None)]);
    }

    #[test]
    fn what_was_refused_is_not_tried_again() {
        let offload = Offload::new(true);
        let error = |errno: Errno| io::Error::from(errno);
        assert!(!offload.refused(1300, &error(Errno::PERM)));
        assert!(offload.refused(1300, &error(Errno::MSGSIZE)));
        let largest = offload.largest.get();
        assert_eq!(
            packed(&[1300, 1300, 1299, 1299], largest),
            [(1, None), (1, None), (2, Some(1299))]
        );
        assert!(offload.refused(1299, &error(Errno::INVAL)));
        assert_eq!(packed(&[7, 7], offload.largest.get()), [(1, None), (1, None)]);
        assert_eq!(Offload::new(false).largest.get(), 0);
    }
}
