use std::pin::pin;

use futures_util::FutureExt as _;
use tokio::time::timeout;

use super::super::closing::Job;
use super::super::store::tests::{announcement, store};
use super::*;

const MOMENT: Duration = Duration::from_secs(20);

/// A writer with one closed file in its store, and no room for it.
async fn held_up(data: &std::path::Path) -> (Writer, mpsc::Receiver<Job>) {
    let (closing, inbox) = Closing::idle(1);
    let store = RefCell::new(store(data));
    let writer = Writer { store, closing, counters: Counters::default() };
    writer.closing.place().await.unwrap().lost(Vec::new());
    assert!(writer.store.borrow_mut().announced(announcement(1)));
    writer.store.borrow_mut().close_all();
    (writer, inbox)
}

async fn next(inbox: &mut mpsc::Receiver<Job>) -> Job {
    timeout(MOMENT, inbox.recv()).await.expect("a job in time").expect("a writer")
}

#[tokio::test]
async fn a_lane_cut_off_while_it_hands_over_leaves_its_files_to_the_next() {
    let data = tempfile::tempdir().unwrap();
    let (writer, mut inbox) = held_up(data.path()).await;
    assert!(writer.hand_over().now_or_never().is_none(), "there is no room");
    assert!(writer.store.borrow().has_news());
    assert_eq!(writer.closing.waiting(), (0, 0));

    assert!(matches!(next(&mut inbox).await, Job::Lost(_)));
    timeout(MOMENT, writer.hand_over()).await.expect("room");
    let Job::File(file) = next(&mut inbox).await else { panic!("no file") };
    assert_eq!(writer.closing.waiting(), (file.len, 0));
    assert!(!writer.store.borrow().has_news());
}

#[tokio::test]
async fn a_flush_hurries_at_once_and_comes_behind_the_files_of_other_lanes() {
    let data = tempfile::tempdir().unwrap();
    let (writer, mut inbox) = held_up(data.path()).await;
    let (done, _answer) = oneshot::channel();
    let mut lane = pin!(writer.hand_over());
    let mut flush = pin!(writer.close_files(done));
    assert!(lane.as_mut().now_or_never().is_none());
    assert!(flush.as_mut().now_or_never().is_none());
    assert_eq!(writer.closing.waiting(), (0, 1), "no file is queued, and somebody waits");

    let reading = async {
        assert!(matches!(next(&mut inbox).await, Job::Lost(_)));
        assert!(matches!(next(&mut inbox).await, Job::File(_)));
        let Job::Flush(_done, hurry) = next(&mut inbox).await else { panic!("no flush") };
        assert_eq!(writer.closing.waiting().1, 1);
        drop(hurry);
        assert_eq!(writer.closing.waiting().1, 0);
    };
    tokio::join!(lane, flush, reading);
}
