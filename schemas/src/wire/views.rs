//! The rows of [`Rows`](super::Rows), where they lie in the encoded message.

use super::fields::{Fields, Malformed};
use crate::table::{CaptureView, DeniedView, EventView, SessionView, SlotView, UsageView};

/// Rows of all tables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RowViews<'a> {
    /// The forwarder that made the rows; empty when each row says so itself.
    pub node: &'a str,
    /// The boot the rows belong to; empty when each row says so itself.
    pub boot: &'a str,
    /// Rows of `sessions`.
    pub sessions: Vec<SessionView<'a>>,
    /// Rows of `usage`.
    pub usage: Vec<UsageView<'a>>,
    /// Rows of `slots`.
    pub slots: Vec<SlotView<'a>>,
    /// Rows of `denied`.
    pub denied: Vec<DeniedView<'a>>,
    /// Rows of `events`.
    pub events: Vec<EventView<'a>>,
    /// Rows of `captures`.
    pub captures: Vec<CaptureView<'a>>,
}

macro_rules! of_every_table {
    ($each:ident) => {
        $each!(sessions usage slots denied events captures)
    };
}

impl<'a> RowViews<'a> {
    /// Puts the rows of an encoded message in place of those that are here, whose room is used again.
    ///
    /// # Errors
    /// The message is none of rows; some of it may have been read.
    pub fn read(&mut self, message: &'a [u8]) -> Result<(), Malformed> {
        self.clear();
        let mut fields = Fields::of(message);
        while let Some((number, value)) = fields.next_field()? {
            match number {
                1 => self.node = value.text()?,
                2 => self.boot = value.text()?,
                3 => self.sessions.push(SessionView::decode(value.bytes()?)?),
                4 => self.usage.push(UsageView::decode(value.bytes()?)?),
                5 => self.slots.push(SlotView::decode(value.bytes()?)?),
                6 => self.denied.push(DeniedView::decode(value.bytes()?)?),
                7 => self.events.push(EventView::decode(value.bytes()?)?),
                8 => self.captures.push(CaptureView::decode(value.bytes()?)?),
                _ => {}
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        (self.node, self.boot) = ("", "");
        macro_rules! clear {
            ($($rows:ident)+) => { $(self.$rows.clear();)+ };
        }
        of_every_table!(clear);
    }

    /// Number of rows of all tables.
    pub fn len(&self) -> usize {
        macro_rules! sum {
            ($($rows:ident)+) => { [$(self.$rows.len()),+].into_iter().sum() };
        }
        of_every_table!(sum)
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The largest `seq` of all rows; `None`: no row has one.
    pub fn newest_seq(&self) -> Option<i64> {
        macro_rules! newest {
            ($($rows:ident)+) => {
                [$(self.$rows.iter().filter_map(|row| row.seq).max()),+].into_iter().flatten().max()
            };
        }
        newest!(sessions usage slots denied events)
    }

    /// The smallest `seq` of all rows; `None`: no row has one.
    pub fn oldest_seq(&self) -> Option<i64> {
        macro_rules! oldest {
            ($($rows:ident)+) => {
                [$(self.$rows.iter().filter_map(|row| row.seq).min()),+].into_iter().flatten().min()
            };
        }
        oldest!(sessions usage slots denied events)
    }

    /// Leaves out the rows whose `seq` is at most `held`.
    pub fn drop_through(&mut self, held: i64) {
        macro_rules! drop_held {
            ($($rows:ident)+) => {
                $(self.$rows.retain(|row| row.seq.is_none_or(|seq| seq > held));)+
            };
        }
        drop_held!(sessions usage slots denied events);
    }

    /// Writes the message's `node` and `boot` into every row.
    pub fn fill_in(&mut self) {
        macro_rules! fill {
            ($($rows:ident)+) => {
                $(for row in &mut self.$rows {
                    (row.node, row.boot) = (self.node, self.boot);
                })+
            };
        }
        fill!(sessions usage slots denied events);
    }

    /// Moves all rows out of `more` to the end of these; its room stays there.
    pub fn append(&mut self, more: &mut Self) {
        macro_rules! append {
            ($($rows:ident)+) => { $(self.$rows.append(&mut more.$rows);)+ };
        }
        of_every_table!(append);
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::table::{Capture, Denied, Event, Session, Slot, Usage};
    use crate::wire::Rows;

    #[test]
    fn views_of_an_encoded_message_are_views_of_its_rows() {
        let seq = Some(7);
        let mut rows = Rows {
            node: "edge".to_owned(),
            boot: "k3f9x2ab".to_owned(),
            sessions: vec![Session { seq, service: "s".repeat(300), ..Session::default() }; 2],
            usage: vec![Usage { seq: Some(5), ..Usage::default() }],
            slots: vec![Slot { seq, ..Slot::default() }],
            denied: vec![Denied { seq: Some(9), ..Denied::default() }],
            events: vec![Event::default()],
            captures: vec![Capture { extent: 3, ..Capture::default() }],
        };
        let bytes = rows.encode_to_vec();
        let mut views = RowViews::default();
        views.read(&bytes).unwrap();
        assert_eq!((views.len(), views.newest_seq()), (7, Some(9)));
        views.fill_in();
        rows.fill_in();
        let sessions: Vec<SessionView<'_>> = rows.sessions.iter().map(SessionView::from).collect();
        assert_eq!(views.sessions, sessions);
        let usage: Vec<UsageView<'_>> = rows.usage.iter().map(UsageView::from).collect();
        assert_eq!(views.usage, usage);
        views.drop_through(7);
        assert_eq!((views.denied.len(), views.events.len(), views.len()), (1, 1, 3));
        let mut all = RowViews::default();
        all.append(&mut views);
        assert_eq!((all.len(), views.len()), (3, 0));
    }
}
