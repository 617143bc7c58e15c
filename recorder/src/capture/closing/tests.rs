use super::*;
use crate::capture::extent::Extent;
use crate::capture::patience::{HURRY_WITHIN, MAX_UNDIGESTED, May, PACE_OVER, QUIET_WITHIN};
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

/// One whose log takes nothing any more.
async fn closer(data: &Path, waiting: Arc<Waiting>) -> Closer {
    let (log, _) = Log::start(data, &[]).unwrap();
    let handle = log.handle();
    tokio::task::spawn_blocking(move || log.stop()).await.unwrap();
    let counters = Counters::default();
    Closer {
        inbox: mpsc::channel(1).1,
        log: handle,
        unpublished: Vec::new(),
        data: data.to_owned(),
        trouble: false,
        counters: counters.clone(),
        patience: Patience::new(counters, waiting),
    }
}

fn rows_of_loss() -> Vec<Capture> {
    vec![Capture::default(); 2]
}

#[tokio::test]
async fn rows_of_loss_that_the_log_never_took_are_counted_beyond_the_bound() {
    let data = tempfile::tempdir().unwrap();
    let mut closer = closer(data.path(), Arc::default()).await;
    let with_rows = |path| Sealed { path, rows: rows_of_loss() };
    let of_loss = std::iter::repeat_with(|| with_rows(None)).take(MAX_UNPUBLISHED + 3);
    closer.unpublished = of_loss.collect();
    closer.unpublished.push(with_rows(Some(data.path().join("captures/web.pcapng.part"))));

    assert!(matches!(closer.publish_all().await, Err(CloseError::Index(_))));
    assert_eq!(closer.unpublished.len(), MAX_UNPUBLISHED);
    let errors = closer.counters.read().write_errors;
    assert_eq!(errors, 6, "the file's rows are read at the next start");
}

#[tokio::test]
async fn a_steady_flow_keeps_its_bound_while_the_log_takes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut closer = closer(data.path(), Arc::default()).await;
    for _ in 0..MAX_UNPUBLISHED + 10 {
        closer.obey(Job::Lost(rows_of_loss())).await;
        assert!(closer.unpublished.len() <= MAX_UNPUBLISHED + 1);
    }
    assert!(closer.trouble);
    assert_eq!(closer.unpublished.len(), MAX_UNPUBLISHED);
    assert_eq!(closer.counters.read().write_errors, 20);
}

/// A file that is to be digested while payload comes in masses.
async fn digested_while_busy(closer: &mut Closer, len: u64) -> Option<Sealed> {
    let path = closer.data.join("web.pcapng.part");
    fs::write(&path, b"whole").unwrap();
    let file = File::open(&path).unwrap();
    let key = SessionKey::new(&"edge-1".parse().unwrap(), "k3f9x2ab".parse().unwrap(), 1);
    let extents = [(key, Extent::new(0))].into();
    let relative = "web.pcapng".to_owned();
    // Two measurements lie apart: the first finds more than is ever quiet.
    closer.patience.measured = Instant::now() - 2 * PACE_OVER;
    closer.counters.payload_bytes.add(1 << 40);
    closer.seal(ClosedFile { path, relative, file, len, extents }).await
}

#[tokio::test]
async fn a_file_that_finds_no_quiet_moment_has_no_digest_and_is_counted() {
    let data = tempfile::tempdir().unwrap();
    let waiting = Arc::<Waiting>::default();
    let mut closer = closer(data.path(), Arc::clone(&waiting)).await;
    waiting.bytes.store(MAX_UNDIGESTED + 6, Relaxed);
    let sealed = digested_while_busy(&mut closer, 5).await.unwrap();
    assert_eq!((sealed.rows.len(), &sealed.rows[0].sha256), (1, &None));
    assert_eq!(closer.counters.read().undigested_files, 1);
}

#[tokio::test]
async fn a_busy_capture_digests_what_somebody_waits_for_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let (closing, _inbox) = Closing::idle(1);
    let mut closer = closer(data.path(), Arc::clone(&closing.waiting)).await;
    let (first, second) = (closing.hurry(), closing.hurry());
    // The flush that came first is over: the other still waits.
    closer.patience.calm_down(first);
    let sealed = digested_while_busy(&mut closer, 5).await.unwrap();
    assert!(sealed.rows[0].sha256.is_some());
    assert_eq!(closer.counters.read().undigested_files, 0);

    closer.patience.hurried = Some(Instant::now() - HURRY_WITHIN);
    assert_eq!(closer.patience.may(Duration::ZERO, 5), May::GiveUp, "its time is over");
    closer.patience.calm_down(second);
    closer.patience.measured = Instant::now() - 2 * PACE_OVER;
    assert_eq!(closer.patience.may(Duration::ZERO, 5), May::Wait);
    assert_eq!(closer.patience.may(QUIET_WITHIN, 5), May::GiveUp);
}

#[tokio::test]
async fn a_file_that_takes_long_to_read_is_digested_in_a_quiet_moment() {
    let data = tempfile::tempdir().unwrap();
    let mut closer = closer(data.path(), Arc::default()).await;
    // Whatever it waited for quiet before, it may go on once there is.
    assert_eq!(closer.patience.may(10 * QUIET_WITHIN, 1 << 40), May::GoOn);
}
