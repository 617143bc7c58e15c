//! Any history of a journal, with faults of every kind.

use journal::fs::{After, Fault, SimulatedDisk};
use proptest::prelude::*;

use crate::model::Author;

#[derive(Debug, Clone)]
enum Step {
    Write(usize),
    Sync,
    Seal,
    Remove,
    Follow,
    Fault(usize, Fault),
    Die(After),
    /// Room on the disk; 0: as much as is wanted.
    Room(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fault = prop::sample::select(&Fault::ALL[..]);
    let after =
        prop_oneof![Just(After::Kill), (0..1000_u64).prop_map(|seed| After::PowerLoss { seed })];
    let step = prop_oneof![
        8 => (0..250_usize).prop_map(Step::Write),
        4 => Just(Step::Sync),
        2 => Just(Step::Seal),
        2 => Just(Step::Remove),
        2 => Just(Step::Follow),
        3 => (1..15_usize, fault).prop_map(|(nth, fault)| Step::Fault(nth, fault)),
        2 => after.prop_map(Step::Die),
        1 => (0..3000_u64).prop_map(Step::Room),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn no_history_of_faults_and_crashes_loses_what_was_durable(steps in steps()) {
        let mut author = Author::new(SimulatedDisk::new());
        for step in steps {
            // What fails is tried again with a later step, or at the end.
            let done = match step {
                Step::Write(len) => author.write(len),
                Step::Sync => author.sync(),
                Step::Seal => author.seal(),
                Step::Remove => author.remove(),
                Step::Follow => author.follow(),
                Step::Fault(nth, fault) => {
                    author.disk.plan(nth, fault);
                    Ok(())
                }
                Step::Die(after) => author.die(after),
                Step::Room(room) => {
                    author.disk.set_capacity(Some(room).filter(|room| *room > 0));
                    Ok(())
                }
            };
            drop(done);
            if author.disk.has_crashed() {
                // On a full disk it cannot be opened until there is room.
                drop(author.die(After::Kill));
            }
        }
        author.disk.set_capacity(None);
        author.disk.forget_plans();
        author.settle();
    }
}
