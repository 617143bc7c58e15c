use std::path::Path;
use std::sync::Mutex;

use schemas::vocab::Direction;
use schemas::wire::{CaptureOpen, MarkKind};

use super::*;
use crate::config::Config;
use crate::data_dir::Group;

/// What is announced of a session.
pub(in crate::capture) fn announcement(number: u64) -> Announcement {
    let open = CaptureOpen {
        session_no: number,
        service: "web".to_owned(),
        rule: "everyone".to_owned(),
        transport: "tcp".to_owned(),
        client: "192.0.2.1:1".to_owned(),
        listen: "192.0.2.2:2".to_owned(),
        mode: "full".to_owned(),
        ..CaptureOpen::default()
    };
    Announcement::new(&"edge-1".parse().unwrap(), "k3f9x2ab".parse().unwrap(), &open).unwrap()
}

/// A store below `data` that has never written.
pub(in crate::capture) fn store(data: &Path) -> Store {
    let settings = Settings {
        data: data.to_owned(),
        rotate: Config::default().rotate,
        readers: Group::nobody(),
    };
    Store::new(settings, Counters::default(), HashMap::new())
}

/// What is logged while `story` is told.
fn log_of(story: impl FnOnce()) -> String {
    let log = Arc::new(Mutex::new(Vec::<u8>::new()));
    let lines = Arc::clone(&log);
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || Lines(Arc::clone(&lines)))
        .with_ansi(false)
        .finish();
    tracing::subscriber::with_default(subscriber, story);
    String::from_utf8(log.lock().unwrap().clone()).unwrap()
}

struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_full_disk_is_one_error_and_a_mended_one_is_one_word() {
    let data = tempfile::tempdir().unwrap();
    let in_the_way = data.path().join(super::super::DIRECTORY);
    let mut store = store(data.path());
    let mut number = 0;
    let mut next_session = |store: &mut Store| {
        number += 1;
        assert!(store.announced(announcement(number)));
    };
    let later = |store: &mut Store, by: Duration| {
        let refused = store.refused.as_mut().unwrap();
        refused.at -= by;
        refused.mended = refused.mended.map(|at| at - by);
    };
    let log = log_of(|| {
        for _ in 0..3 {
            // Refused; as good as full: one session fits, then no other.
            std::fs::write(&in_the_way, b"in the way").unwrap();
            next_session(&mut store);
            later(&mut store, RETRY_AFTER);
            next_session(&mut store);
            std::fs::remove_file(&in_the_way).unwrap();
            later(&mut store, RETRY_AFTER);
            next_session(&mut store);
            assert_eq!(store.files.len(), 1);
            store.close_all();
            std::fs::remove_dir_all(&in_the_way).unwrap();
        }
        assert_eq!(store.counters.read().write_errors, 6);
        next_session(&mut store);
        later(&mut store, MENDED_AFTER);
        next_session(&mut store);
    });
    assert_eq!(log.matches("ERROR").count(), 1, "{log}");
    assert_eq!(log.matches("captures can be written again").count(), 1, "{log}");
    assert_eq!(log.lines().count(), 2, "{log}");
}

#[test]
fn a_disk_that_fills_up_at_the_end_of_a_file_costs_its_statistics_alone() {
    let data = tempfile::tempdir().unwrap();
    let mut store = store(data.path());
    assert!(store.announced(announcement(1)));
    let file = store.files.values_mut().next().unwrap();
    let good = file.len();
    file.refuse_more();
    store.close_all();
    assert_eq!(store.counters.read().write_errors, 1);
    let closed = store.take_closed().expect("a file for the index");
    assert_eq!((closed.len, closed.file.metadata().unwrap().len()), (good, good));
    assert_eq!(closed.extents.len(), 1);
}

#[test]
fn a_closing_packet_that_its_file_did_not_take_stands_in_the_next() {
    let data = tempfile::tempdir().unwrap();
    let mut store = store(data.path());
    let about = announcement(1);
    let key = about.key.clone();
    assert!(store.announced(about));
    for direction in Direction::BOTH {
        let kind = MarkKind::Fin;
        store.happened(&key, &Event::Mark { direction, kind, offset: 0, time_ns: 1 });
    }
    store.files.values_mut().next().unwrap().refuse_more();
    store.close_all();
    let (reason, totals) = (Some(EndReason::Done), Totals::default());
    store.happened(&key, &Event::End { reason, totals, time_ns: 2 });
    store.close_all();
    let packets = |closed: ClosedFile| closed.extents[&key].packets;
    assert_eq!(store.take_closed().map(packets), Some(6));
    assert_eq!(store.take_closed().map(packets), Some(1));
}
