//! One life of a journal, cut off or disturbed at each of its operations in turn.

use journal::JournalError;
use journal::fs::{After, Fault, Operation, SimulatedDisk};

use crate::model::Author;

const AFTERS: [After; 6] = [
    After::Kill,
    After::PowerLoss { seed: 0 },
    After::PowerLoss { seed: 1 },
    After::PowerLoss { seed: 2 },
    After::PowerLoss { seed: 3 },
    After::PowerLoss { seed: 4 },
];

type Step = fn(&mut Author) -> Result<(), JournalError>;

/// Everything a journal is asked for. Goes on after errors, as its users do.
fn live(author: &mut Author) -> Vec<JournalError> {
    let steps: [Step; 20] = [
        Author::open,
        |author| author.write(20),
        Author::sync,
        |author| author.write(0),
        |author| author.write(60),
        Author::follow,
        Author::sync,
        Author::follow,
        // The group is full before the next sync; the segment after it.
        |author| author.write(200),
        |author| author.write(150),
        |author| author.write(30),
        Author::follow,
        Author::seal,
        |author| author.write(10),
        Author::sync,
        Author::remove,
        Author::follow,
        |author| author.write(7),
        Author::seal,
        Author::remove,
    ];
    steps.iter().filter_map(|step| step(author).err()).collect()
}

fn undisturbed() -> Vec<Operation> {
    let mut author = Author::new(SimulatedDisk::new());
    let errors = live(&mut author);
    assert!(errors.is_empty(), "{errors:?}");
    let operations = author.disk.operations();
    author.settle();
    operations
}

/// The life, with a fault at one operation.
fn disturbed(at: usize, fault: Fault) -> Author {
    let mut author = Author::new(SimulatedDisk::new());
    author.disk.plan(at + 1, fault);
    live(&mut author);
    author
}

#[test]
fn a_crash_at_any_operation_loses_nothing_that_was_durable() {
    for (at, operation) in undisturbed().iter().enumerate() {
        for fault in [Fault::Crash, Fault::CrashWithin] {
            for after in AFTERS {
                let mut author = disturbed(at, fault);
                assert!(author.disk.has_crashed());
                let case = format!("{fault:?} at {at} ({operation}), {after:?}");
                told(&case, || {
                    author.die(after).unwrap();
                    author.settle();
                });
            }
        }
    }
}

#[test]
fn a_recovery_that_crashes_at_any_operation_is_done_by_the_next_one() {
    for (at, operation) in undisturbed().iter().enumerate() {
        for after in [After::Kill, After::PowerLoss { seed: 3 }] {
            let crashed = disturbed(at, Fault::CrashWithin);
            let left = crashed.disk.survivors(after);
            drop(crate::model::open(&left).unwrap());
            for again in 1..=left.operations().len() {
                for next in
                    [After::Kill, After::PowerLoss { seed: 0 }, After::PowerLoss { seed: 5 }]
                {
                    let case = format!("{at} ({operation}), {after:?}, {again}, {next:?}");
                    told(&case, || {
                        let mut author = disturbed(at, Fault::CrashWithin);
                        author.disk = author.disk.survivors(after);
                        author.disk.plan(again, Fault::CrashWithin);
                        drop(crate::model::open(&author.disk));
                        author.die(next).unwrap();
                        author.settle();
                    });
                }
            }
        }
    }
}

#[test]
fn a_fault_at_any_operation_loses_nothing_and_the_journal_goes_on() {
    for (at, operation) in undisturbed().iter().enumerate() {
        for fault in Fault::SURVIVABLE {
            told(&format!("{fault:?} at {at} ({operation})"), || disturbed(at, fault).settle());
            for after in AFTERS {
                let mut author = disturbed(at, fault);
                told(&format!("{fault:?} at {at} ({operation}), {after:?}"), || {
                    author.die(after).unwrap();
                    author.settle();
                });
            }
        }
    }
}

/// Says which case it was that panicked.
fn told(case: &str, work: impl FnOnce()) {
    struct Case<'c>(&'c str);
    impl Drop for Case<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("in the case: {}", self.0);
            }
        }
    }
    let _case = Case(case);
    work();
}
