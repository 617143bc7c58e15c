//! Closing the account of a boot whose process died: from its counter table where that survived,
//! else by saying that it did not.

use std::sync::atomic::{AtomicU64, Ordering};

use schemas::table::Slot;
use schemas::vocab::{BootId, Quality, Timestamp};
use schemas::wire::{BootEnd, Rows, SegmentHeader};

use super::frame::{Tally, forget_tallies_above, is_ahead_of};
use super::layout::{Header, TableError, Words, header, state};
use super::ledger::Ledger;
use super::slot::{Last, SlotView};
use super::spool::Spool;

/// What the spool still tells of earlier boots.
#[derive(Debug, Default)]
pub struct SpoolHistory {
    boots: Vec<BootHistory>,
}

#[derive(Debug)]
struct BootHistory {
    node: String,
    boot: String,
    last_seq: i64,
    last_session_no: i64,
    last_ts: i64,
    /// Where the last slot ends that has a row; 0: none is known.
    measured_until: i64,
    ended: bool,
    /// When its complete account ended; 0: it is not complete, or not known.
    ended_at: i64,
}

impl SpoolHistory {
    /// Takes the head of a segment, oldest first.
    pub fn segment(&mut self, head: &SegmentHeader) {
        if !head.boot.is_empty() {
            let boot = self.boot("", &head.boot);
            boot.last_seq = boot.last_seq.max(head.next_seq - 1);
            boot.ended |= head.boot_ended;
        }
    }

    /// Takes a frame of rows.
    pub fn rows(&mut self, rows: &Rows) {
        let last_seq = rows.seqs().max().unwrap_or_default();
        let sessions = rows.sessions.iter().map(|r| r.session_no);
        let last_session_no =
            sessions.chain(rows.usage.iter().map(|r| r.session_no)).max().unwrap_or_default();
        let last_ts = rows.sessions.iter().map(|r| r.ts_end).max().unwrap_or_default();
        let slot_ts = rows.slots.iter().map(|r| r.slot_start).max().unwrap_or_default();
        let slot_end = |row: &Slot| row.slot_start + i64::from(row.slot_len_s) * 1_000_000;
        let measured_until = rows.slots.iter().map(slot_end).max().unwrap_or_default();
        let boot = self.boot(&rows.node, &rows.boot);
        boot.measured_until = boot.measured_until.max(measured_until);
        boot.last_seq = boot.last_seq.max(last_seq);
        boot.last_session_no = boot.last_session_no.max(last_session_no);
        boot.last_ts = boot.last_ts.max(last_ts).max(slot_ts);
    }

    /// Takes the end of a boot.
    pub fn boot_end(&mut self, end: &BootEnd) {
        let boot = self.boot(&end.node, &end.boot);
        boot.ended = true;
        boot.ended_at = if end.exact { end.ended_at } else { 0 };
    }

    /// Up to when the rows of earlier boots tell what moved: since then nothing ran. `None`: not
    /// known, because there was none or the account of the newest one is not complete. A boot that
    /// ran by a clock that was ahead may have told of times to come.
    pub fn nothing_ran_since(&self) -> Option<Timestamp> {
        // Every length of a slot divides this one.
        const LONGEST_SLOT_US: i64 = 300 * 1_000_000;
        self.boots.last().filter(|newest| newest.ended_at > 0)?;
        let told_until = |boot: &BootHistory| {
            let slot_end = (boot.ended_at / LONGEST_SLOT_US + 1) * LONGEST_SLOT_US;
            if boot.measured_until > boot.ended_at { boot.measured_until } else { slot_end }
        };
        let known = self.boots.iter().filter(|boot| boot.ended_at > 0 || boot.measured_until > 0);
        known.map(told_until).max().map(Timestamp)
    }

    /// Takes a boot whose table cannot be used: there may be nothing else that tells of it.
    pub fn table(&mut self, header: &Header) {
        self.boot(&header.node, header.boot.as_str());
    }

    fn boot(&mut self, node: &str, boot: &str) -> &mut BootHistory {
        let at = self.boots.iter().position(|known| known.boot == boot).unwrap_or_else(|| {
            self.boots.push(BootHistory {
                node: node.to_owned(),
                boot: boot.to_owned(),
                last_seq: 0,
                last_session_no: 0,
                last_ts: 0,
                measured_until: 0,
                ended: false,
                ended_at: 0,
            });
            self.boots.len() - 1
        });
        let known = &mut self.boots[at];
        if known.node.is_empty() {
            node.clone_into(&mut known.node);
        }
        known
    }

    fn of(&self, boot: BootId) -> Option<&BootHistory> {
        self.boots.iter().find(|known| known.boot == boot.as_str())
    }

    /// Whether the spool holds the end of a boot.
    pub fn has_ended(&self, boot: BootId) -> bool {
        self.of(boot).is_some_and(|known| known.ended)
    }

    /// Ends every boot that has no end, by saying that its account is not complete: its table is
    /// gone. To be called when every table has been recovered and told to [`Self::boot_end`].
    /// `node` is taken for a boot of which only a segment's head is left.
    ///
    /// # Errors
    /// A frame could not be appended.
    pub fn end_lost_boots<S: Spool>(
        &mut self,
        node: &str,
        spool: &mut S,
    ) -> Result<Vec<BootEnd>, S::Error> {
        let mut ends = Vec::new();
        for boot in self.boots.iter_mut().filter(|boot| !boot.ended) {
            let end = BootEnd {
                node: if boot.node.is_empty() { node.to_owned() } else { boot.node.clone() },
                boot: boot.boot.clone(),
                last_seq: boot.last_seq,
                last_session_no: boot.last_session_no,
                unopened: 0,
                exact: false,
                ended_at: boot.last_ts,
            };
            spool.append_boot_end(&end)?;
            boot.ended = true;
            ends.push(end);
        }
        Ok(ends)
    }
}

/// What recovery found and wrote.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovered {
    /// The boot.
    pub boot: BootId,
    /// When it was last heard of.
    pub died: Timestamp,
    /// Sessions that had ended, with their own end.
    pub ended: u64,
    /// Sessions cut off, written as `lost`.
    pub lost: u64,
    /// The end that was written.
    pub end: BootEnd,
}

impl Ledger<'_> {
    /// Who a table belongs to.
    ///
    /// # Errors
    /// It is not a table.
    pub fn identify(words: &[AtomicU64]) -> Result<Header, TableError> {
        Words::open(words)?.read_header()
    }

    /// Whether the spool, whose last frame is `last_frame`, still holds what the table's boot made
    /// durable in it.
    ///
    /// # Errors
    /// It does not, or `words` is not a table.
    pub fn check_spool(words: &[AtomicU64], last_frame: u64) -> Result<(), TableError> {
        let known = Words::open(words)?.header(header::DURABLE_FRAME);
        if known > last_frame {
            return Err(TableError::RolledBack { known, found: last_frame });
        }
        Ok(())
    }

    /// Closes the account of the dead boot in `words`. It may itself be killed at any point and
    /// done again: the same rows are in the spool in the end.
    ///
    /// # Errors
    /// It is not a table, or it knows of rows that the spool has lost: nothing was written, and the
    /// boot's account cannot be closed exactly. Inner: a frame could not be appended: the table must
    /// be kept.
    pub fn recover<S: Spool>(
        words: &[AtomicU64],
        history: &SpoolHistory,
        spool: &mut S,
    ) -> Result<Result<Recovered, S::Error>, TableError> {
        let words = Words::open(words)?;
        let boot = words.read_header()?.boot;
        let last_seq = history.of(boot).map_or(0, |known| known.last_seq);
        let last_seq = u64::try_from(last_seq).unwrap_or_default();
        let mut slots = (0..words.slot_count()).map(|index| SlotView::new(words, index));
        if is_ahead_of(words, last_seq) || slots.any(|slot| slot.is_ahead_of(last_seq)) {
            return Err(TableError::Ahead);
        }
        forget_tallies_above(words, last_seq);
        for index in 0..words.slot_count() {
            SlotView::new(words, index).forget_above(last_seq);
        }
        Ok(Ledger::over(words, last_seq)?.close_dead(spool))
    }

    /// Last rows for every session, the slots up to the death, the boot's end.
    fn close_dead<S: Spool>(&mut self, spool: &mut S) -> Result<Recovered, S::Error> {
        self.write_down(spool)?;
        let died = Timestamp(self.words.header(header::LAST_POLL).cast_signed());
        let slot_end = self.slot_end();
        // With a full spool, sessions may have waited for their rows over several slots.
        let waited = died.0 - slot_end >= self.slot_len_us();
        self.tally.shed |= waited && self.has_unwritten();
        let (mut ended, mut lost, mut unopened) = (0, 0, 0);
        let mut frame = self.frame();
        for index in 0..self.words.slot_count() {
            let slot = SlotView::new(self.words, index);
            match self.words.state(index).load(Ordering::Acquire) {
                state::FILLING => unopened += 1,
                state::CLOSED if slot.end_seq() == 0 => {
                    ended += 1;
                    let in_slot = !waited || (1..slot_end).contains(&slot.ts_end().0);
                    let quality = if in_slot { Quality::Exact } else { Quality::Spread };
                    self.put_last_rows(&mut frame, index, Last::Ended { found: died }, quality);
                }
                state::OPEN if slot.end_seq() == 0 => {
                    lost += 1;
                    let last = Last::Lost { died };
                    self.put_last_rows(&mut frame, index, last, Quality::Recovered);
                }
                _ => {}
            }
            if frame.is_full() {
                self.append(&mut frame, spool)?;
            }
        }
        self.append(&mut frame, spool)?;
        self.write_last_slots(died, spool)?;
        let end = self.boot_end(unopened, died);
        spool.append_boot_end(&end)?;
        Ok(Recovered { boot: self.header.boot, died, ended, lost, end })
    }

    /// Whether a session waits for its last rows.
    fn has_unwritten(&self) -> bool {
        (0..self.words.slot_count()).any(|index| {
            let state = self.words.state(index).load(Ordering::Acquire);
            let had_account = matches!(state, state::OPEN | state::CLOSED);
            had_account && SlotView::new(self.words, index).end_seq() == 0
        })
    }

    /// The rows of the slot that ran, and of the one in which the boot died if that was a later one:
    /// between the two nothing is known. Killed behind them, the next recovery finds the tally of a
    /// slot that never ran. After a step of the clock backwards the death may seem to be before the
    /// slot; if there is usage in it, it has its row all the same.
    fn write_last_slots<S: Spool>(
        &mut self,
        died: Timestamp,
        spool: &mut S,
    ) -> Result<(), S::Error> {
        let slot_of_death = died.slot_start(self.header.slot_len_s).0;
        while self.tally.slot_start <= died.0 || self.tally.usage_rows > 0 {
            let following = self.following();
            let slot_start = following.slot_start.max(slot_of_death);
            // What moved between the two is in the rows of the first.
            let shed = self.tally.shed && slot_start > following.slot_start;
            self.write_slot(0, false, Tally { slot_start, shed, ..following }, spool)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use prost::Message;
    use schemas::vocab::{ClientAddr, ListenAddr, SpoolId, Transport};
    use schemas::wire::EncodedRows;

    use super::*;
    use crate::accounting::{CounterTable, Geometry, Moment, Opening};

    #[derive(Default)]
    struct Lossy(Vec<Rows>);

    impl Spool for Lossy {
        type Error = Infallible;

        fn append(&mut self, rows: EncodedRows, _next_seq: i64) -> Result<(), Infallible> {
            self.0.push(Rows::decode(rows.bytes()).unwrap());
            Ok(())
        }

        fn append_boot_end(&mut self, _end: &BootEnd) -> Result<(), Infallible> {
            Ok(())
        }
    }

    #[test]
    fn a_table_ahead_of_its_spool_is_not_taken_for_the_truth() {
        let geometry = Geometry { slots: 1 };
        let words = (0..geometry.words()).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().leak();
        let header = Header {
            node: "edge".to_owned(),
            boot: BootId::from_random(1),
            started: Timestamp(0),
            slot_len_s: 1,
            spool_id: SpoolId(1),
            spool_path: "/spool".to_owned(),
            kernel_boot: 1,
        };
        let table = CounterTable::create(words, geometry, &header).unwrap();
        let table: &'static CounterTable = Box::leak(Box::new(table));
        let at = |seconds: i64| Moment {
            wall: Timestamp(seconds * 1_000_000),
            monotonic_us: seconds * 1_000_000,
        };
        let mut ledger = Ledger::begin(table, at(0)).unwrap();
        let session = table
            .open(&Opening {
                service: 0,
                rule: 0,
                customer: 0,
                config_rev: 0,
                transport: Transport::Tcp,
                client: ClientAddr::new("127.0.0.1:1".parse().unwrap()),
                proxied_client: None,
                listen: ListenAddr::new("127.0.0.1:2".parse().unwrap()),
                ts_start: Timestamp(0),
            })
            .unwrap();
        let mut spool = Lossy::default();
        for second in 1..=2 {
            session.delivered(schemas::vocab::Direction::Up, 5);
            ledger.poll(at(second), &mut spool).unwrap();
        }
        std::mem::forget(session);

        let lost = SpoolHistory::default();
        let refused = Ledger::recover(words, &lost, &mut Lossy::default());
        assert!(matches!(refused, Err(TableError::Ahead)), "{refused:?}");

        let mut known = SpoolHistory::default();
        spool.0.iter().for_each(|rows| known.rows(rows));
        let done = Ledger::recover(words, &known, &mut spool).unwrap().unwrap();
        assert_eq!((done.lost, done.end.exact), (1, true));
    }
}
