//! Any sequence of operations against a plain list of frames.

use bytes::Bytes;
use journal::{Entry, Journal, Reader, Settings, scan};
use proptest::prelude::*;
use schemas::vocab::SpoolId;
use schemas::wire::FrameKind;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u8>),
    Sync,
    Seal,
    /// Per mille of the frames there are.
    Remove(u64),
    Reopen,
    Follow,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Step::Append),
        2 => Just(Step::Sync),
        1 => Just(Step::Seal),
        1 => (0_u64..=1000).prop_map(Step::Remove),
        1 => Just(Step::Reopen),
        2 => Just(Step::Follow),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn a_journal_is_a_list_whose_head_is_deleted_in_segments(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings { segment_bytes: 500, ..Settings::new(SpoolId(1)) };
        let open = || Journal::open(dir.path(), settings.clone()).unwrap();
        let (mut journal, _) = open();
        let mut reader = Reader::open(dir.path(), 1).unwrap();
        let mut model: Vec<Vec<u8>> = Vec::new();
        let mut followed = 0_usize;
        for step in steps {
            match step {
                Step::Append(payload) => {
                    let number = journal.append(FrameKind::Rows, Bytes::from(payload.clone())).unwrap();
                    model.push(payload);
                    prop_assert_eq!(number, model.len() as u64);
                }
                Step::Sync => prop_assert_eq!(journal.sync().unwrap(), model.len() as u64),
                Step::Seal => journal.seal().unwrap(),
                Step::Remove(per_mille) => {
                    // As the link does: only what was followed, hence sent, is removed.
                    let through = followed as u64 * per_mille / 1000;
                    let before = journal.first_frame();
                    journal.remove_through(through).unwrap();
                    prop_assert!(journal.first_frame() <= before.max(through + 1));
                }
                Step::Reopen => {
                    drop(journal);
                    let (reopened, recovery) = open();
                    prop_assert_eq!(recovery.cut_bytes, 0);
                    journal = reopened;
                }
                Step::Follow => {
                    while let Some((frame, _)) = reader.next(journal.durable_frame()).unwrap() {
                        prop_assert_eq!(&frame.payload[..], &model[followed][..]);
                        followed += 1;
                    }
                    prop_assert_eq!(followed as u64, journal.durable_frame());
                }
            }
            prop_assert_eq!(journal.last_frame(), model.len() as u64);
        }
        let mut next = journal.first_frame();
        for entry in scan(dir.path()).unwrap() {
            if let Entry::Frame(frame, _) = entry.unwrap() {
                prop_assert_eq!(frame.number, next);
                let at = usize::try_from(next).unwrap() - 1;
                prop_assert_eq!(&frame.payload[..], &model[at][..]);
                next += 1;
            }
        }
        prop_assert_eq!(next, model.len() as u64 + 1);
    }
}
