//! What is expected of `flow`.

use std::collections::VecDeque;
use std::fmt::Write as _;

use proptest::prelude::*;

use super::*;

const OUTCOMES: [Outcome; 17] = [
    Outcome::Received { bytes: 100, drained: true },
    Outcome::Received { bytes: 100, drained: false },
    Outcome::Received { bytes: LARGE_BYTES, drained: false },
    Outcome::Nothing,
    Outcome::Ended,
    Outcome::NoRoom,
    Outcome::Moved(40),
    Outcome::Moved(100),
    Outcome::Blocked,
    Outcome::PipeTaken,
    Outcome::PipeRefused,
    Outcome::PipeReturned,
    Outcome::Denied,
    Outcome::Cleared(0),
    Outcome::Cleared(60),
    Outcome::Ready,
    Outcome::Doubted,
];

fn flow_in(state: State, splices: bool) -> Flow {
    Flow { state, route: Route::Adaptive, splices, in_a_row: 0, to_copy: SUSTAINED_BYTES }
}

#[test]
fn every_outcome_in_every_state() {
    let states = [
        (State::Read, false),
        (State::Write { held: 100, drained: true }, false),
        (State::Write { held: 100, drained: false }, false),
        (State::Write { held: 100, drained: false }, true),
        (State::TakePipe, true),
        (State::Fill, true),
        (State::Clear { held: 100 }, true),
        (State::Drain { held: 100, cleared: 100 }, true),
        (State::Drain { held: 100, cleared: 100 }, false),
        (State::Drain { held: 100, cleared: 40 }, true),
        (State::ReturnPipe(Next::Read), false),
        (State::ReturnPipe(Next::AwaitReadable), true),
        (State::ReturnPipe(Next::AwaitRoom), true),
        (State::AwaitReadable, false),
        (State::AwaitReadable, true),
        (State::AwaitWritable(Held::Buffer { held: 100, drained: true }), false),
        (State::AwaitWritable(Held::Pipe { held: 100, cleared: 60 }), true),
        (State::AwaitRoom { held: 0 }, false),
        (State::AwaitRoom { held: 0 }, true),
        (State::AwaitRoom { held: 100 }, true),
        (State::Finished, false),
    ];
    let mut table = String::new();
    for (state, splices) in states {
        let way = if splices { "splices" } else { "copies" };
        let reading = if flow_in(state, splices).is_reading() { "" } else { ", is not reading" };
        writeln!(table, "{state:?}, {way}{reading}").unwrap();
        for outcome in OUTCOMES {
            let mut flow = flow_in(state, splices);
            flow.handle(outcome);
            if flow.state != state {
                writeln!(table, "  {outcome:?} => {:?}", flow.step()).unwrap();
            }
        }
    }
    insta::assert_snapshot!(table);
}

/// Gives `bytes` to a flow that reads them whole, and has them moved on.
fn pass(flow: &mut Flow, bytes: usize) {
    flow.handle(Outcome::Ready);
    if flow.step() == Step::TakePipe {
        flow.handle(Outcome::PipeTaken);
    }
    flow.handle(Outcome::Received { bytes, drained: false });
    flow.handle(Outcome::Cleared(bytes));
    flow.handle(Outcome::Moved(bytes));
}

#[test]
fn a_flow_splices_once_it_is_sustained_and_its_reads_are_large() {
    let mut flow = Flow::new(Route::Adaptive);
    for _ in 0..100 {
        pass(&mut flow, LARGE_BYTES - 1);
        assert_eq!(flow.step(), Step::Read, "small reads copy for ever");
    }
    pass(&mut flow, LARGE_BYTES);
    assert_eq!(flow.step(), Step::Read);
    pass(&mut flow, LARGE_BYTES);
    assert_eq!(flow.step(), Step::TakePipe);

    let mut young = Flow::new(Route::Adaptive);
    pass(&mut young, SUSTAINED_BYTES / 4);
    pass(&mut young, SUSTAINED_BYTES / 4);
    assert_eq!(young.step(), Step::Read, "large reads, but few so far");
}

#[test]
fn a_flow_copies_again_when_it_grows_quiet() {
    let mut flow = Flow::new(Route::Adaptive);
    pass(&mut flow, SUSTAINED_BYTES / 2);
    pass(&mut flow, SUSTAINED_BYTES / 2);
    pass(&mut flow, 1);
    assert_eq!(flow.step(), Step::Fill, "one small fill says little");
    pass(&mut flow, 1);
    assert_eq!(flow.step(), Step::ReturnPipe);
    flow.handle(Outcome::PipeReturned);
    assert_eq!(flow.step(), Step::Read);
}

#[test]
fn a_flow_that_got_no_pipe_asks_again_later_and_a_denied_one_never() {
    for (refusal, asks_again) in [(Outcome::PipeRefused, true), (Outcome::Denied, false)] {
        let mut flow = Flow::new(Route::Splice);
        flow.handle(Outcome::Ready);
        flow.handle(refusal);
        let mut copied = 0;
        while flow.step() == Step::Read && copied < 10 * RETRY_BYTES {
            pass(&mut flow, SUSTAINED_BYTES);
            copied += SUSTAINED_BYTES;
        }
        assert_eq!(flow.step() == Step::TakePipe, asks_again, "after {refusal:?}");
        assert!(copied >= RETRY_BYTES);
    }
}

/// The kernel, the pool and the capture, with chance in place of sockets.
#[derive(Debug)]
struct World {
    chance: VecDeque<u16>,
    to_send: usize,
    buffer: VecDeque<usize>,
    pipe: Option<VecDeque<usize>>,
    cleared: usize,
    sent: usize,
    arrived: usize,
    denied: bool,
}

impl World {
    fn new(chance: Vec<u16>, to_send: usize) -> Self {
        Self {
            chance: chance.into(),
            to_send,
            buffer: VecDeque::new(),
            pipe: None,
            cleared: 0,
            sent: 0,
            arrived: 0,
            denied: false,
        }
    }

    /// 0 once chance is used up: then everything goes well and the end comes.
    fn roll(&mut self) -> usize {
        self.chance.pop_front().unwrap_or(0).into()
    }

    fn receive(&mut self) -> Result<Vec<usize>, Outcome> {
        let roll = self.roll();
        match (roll % 8, self.to_send - self.sent) {
            (1, _) => return Err(Outcome::Nothing),
            (2, _) => return Err(Outcome::NoRoom),
            (_, 0) => return Err(Outcome::Ended),
            _ => {}
        }
        let bytes = (1 + roll * 4).min(self.to_send - self.sent);
        self.sent += bytes;
        Ok((self.sent - bytes..self.sent).collect())
    }

    fn deliver(&mut self, bytes: impl Iterator<Item = usize>) {
        for byte in bytes {
            assert_eq!(byte, self.arrived, "every byte once and in order");
            self.arrived += 1;
        }
    }

    /// How many of `most` bytes the receiver takes.
    fn take(&mut self, most: usize) -> Option<usize> {
        let roll = self.roll();
        (roll % 4 != 1).then(|| if roll == 0 { most } else { 1 + roll % most })
    }

    fn act(&mut self, step: Step) -> Outcome {
        match step {
            Step::Read => {
                assert!(self.pipe.is_none() && self.buffer.is_empty(), "nothing is overtaken");
                let drained = self.roll() % 2 == 1;
                match self.receive() {
                    Ok(bytes) => {
                        self.buffer.extend(&bytes);
                        Outcome::Received { bytes: bytes.len(), drained }
                    }
                    Err(outcome) => outcome,
                }
            }
            Step::Write(held) => {
                assert_eq!(held, self.buffer.len());
                let Some(bytes) = self.take(held) else { return Outcome::Blocked };
                let moved: Vec<_> = self.buffer.drain(..bytes).collect();
                self.deliver(moved.into_iter());
                Outcome::Moved(bytes)
            }
            Step::TakePipe => {
                assert!(self.pipe.is_none() && self.buffer.is_empty());
                if self.roll() % 4 == 1 {
                    return Outcome::PipeRefused;
                }
                self.pipe = Some(VecDeque::new());
                Outcome::PipeTaken
            }
            Step::Fill => {
                assert_eq!(self.pipe.as_ref().unwrap().len(), 0, "only an empty pipe is filled");
                if self.roll() % 64 == 63 {
                    self.denied = true;
                    return Outcome::Denied;
                }
                assert!(!self.denied, "a denied splice is never tried again");
                match self.receive() {
                    Ok(bytes) => {
                        self.pipe = Some(bytes.clone().into());
                        Outcome::Received { bytes: bytes.len(), drained: false }
                    }
                    Err(outcome) => outcome,
                }
            }
            Step::Clear(held) => {
                assert_eq!((held, self.cleared), (self.pipe.as_ref().unwrap().len(), 0));
                let roll = self.roll();
                self.cleared = if roll == 0 { held } else { roll % (held + 1) };
                Outcome::Cleared(self.cleared)
            }
            Step::Drain(most) => {
                assert_eq!(most, self.cleared, "what the capture has not got stays");
                let Some(bytes) = self.take(most) else { return Outcome::Blocked };
                let moved: Vec<_> = self.pipe.as_mut().unwrap().drain(..bytes).collect();
                self.cleared -= bytes;
                self.deliver(moved.into_iter());
                Outcome::Moved(bytes)
            }
            Step::ReturnPipe => {
                assert_eq!(self.pipe.take().unwrap().len(), 0, "a pipe comes back empty");
                Outcome::PipeReturned
            }
            Step::AwaitReadable => {
                assert!(self.pipe.is_none() && self.buffer.is_empty(), "nothing held when quiet");
                Outcome::Ready
            }
            Step::AwaitWritable | Step::AwaitRoom => Outcome::Ready,
            Step::Finish => panic!("nothing is asked of the world at the end"),
        }
    }
}

proptest! {
    #[test]
    fn every_byte_is_delivered_once_in_order_before_the_end(
        chance in proptest::collection::vec(any::<u16>(), 0..400),
        to_send in 0..3 * SUSTAINED_BYTES,
        route in prop_oneof![Just(Route::Adaptive), Just(Route::Copy), Just(Route::Splice)],
    ) {
        let mut flow = Flow::new(route);
        let mut world = World::new(chance, to_send);
        while flow.step() != Step::Finish {
            let step = flow.step();
            prop_assert!(route != Route::Copy || step != Step::TakePipe);
            let outcome = world.act(step);
            let before = flow.clone();
            flow.handle(outcome);
            prop_assert!(before.state != flow.state, "{step:?}, {outcome:?} lead nowhere");
        }
        prop_assert_eq!(world.arrived, to_send);
        prop_assert!(world.pipe.is_none());
        for outcome in OUTCOMES {
            flow.handle(outcome);
            prop_assert_eq!(flow.step(), Step::Finish, "the end is the end");
        }
    }
}
