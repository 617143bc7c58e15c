//! A captured UDP association: one packet per datagram, empty ones too.

use schemas::vocab::PerDirection;

use super::session::{Event, Pen, Sink};

/// Where the two streams of datagrams stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Udp {
    next: PerDirection<u64>,
}

impl Udp {
    /// An association whose streams stand at `next`.
    pub(super) fn new(next: PerDirection<u64>) -> Self {
        Self { next }
    }

    pub(super) fn position(&self) -> PerDirection<u64> {
        self.next
    }

    pub(super) fn apply<'a>(&mut self, event: &Event<'a>, pen: &mut Pen<'_>, sink: Sink<'_, 'a>) {
        match event {
            Event::Data { direction, offset, original_len, bytes, time_ns } => {
                let next = &mut self.next[*direction];
                let missing = offset.saturating_sub(*next);
                if missing > 0 {
                    pen.missing(missing);
                }
                *next = offset.saturating_add(u64::from(*original_len));
                let original = usize::try_from(*original_len).unwrap_or(usize::MAX);
                let cut = original.saturating_sub(bytes.len());
                pen.udp(*direction, bytes, cut, *time_ns, sink);
            }
            Event::End { totals, .. } => {
                let missing = PerDirection::from_fn(|direction| {
                    totals.received[direction].saturating_sub(self.next[direction])
                });
                pen.missing(missing.sum());
                self.next = totals.received;
            }
            Event::Began | Event::Mark { .. } | Event::FileCloses => {}
        }
    }
}
