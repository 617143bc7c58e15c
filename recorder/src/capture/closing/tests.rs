use super::*;
use crate::log::Log;

impl Closing {
    /// One that has so many places and does nothing.
    pub(in crate::capture) fn idle(places: usize) -> (Self, mpsc::Receiver<Job>) {
        let (jobs, inbox) = mpsc::channel(places);
        (Self { jobs, waiting: Arc::default() }, inbox)
    }

    /// Bytes of files that wait, and how many wait for them.
    pub(in crate::capture) fn waiting(&self) -> (u64, usize) {
        (self.waiting.bytes.load(Relaxed), self.waiting.hurries.load(Relaxed))
    }
}

#[tokio::test]
async fn rows_of_loss_that_the_log_never_took_are_counted_beyond_the_bound() {
    let data = tempfile::tempdir().unwrap();
    let (log, _) = Log::start(data.path(), &[]).unwrap();
    let handle = log.handle();
    // A log that takes nothing any more.
    tokio::task::spawn_blocking(move || log.stop()).await.unwrap();
    let counters = Counters::default();
    let rows_of_loss = || Sealed { path: None, rows: vec![Capture::default(); 2] };
    let mut closer = Closer {
        inbox: mpsc::channel(1).1,
        log: handle,
        unpublished: std::iter::repeat_with(rows_of_loss).take(MAX_UNPUBLISHED + 3).collect(),
        data: data.path().to_owned(),
        trouble: false,
        counters: counters.clone(),
        patience: Patience::new(counters.clone(), Arc::default()),
    };
    let with_a_file = data.path().join("captures/web.pcapng.part");
    closer.unpublished.push(Sealed { path: Some(with_a_file), ..rows_of_loss() });

    assert!(matches!(closer.publish_all().await, Err(CloseError::Index(_))));
    assert_eq!(closer.unpublished.len(), MAX_UNPUBLISHED);
    assert_eq!(counters.read().write_errors, 6, "the file's rows are read at the next start");
}
