//! The log's thread: appends, makes durable in groups, and tells who waits.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use journal::{Journal, JournalError};
use prost::Message;
use schemas::table::Event;
use schemas::vocab::{Severity, SpoolId, Timestamp};
use schemas::wire::{FrameKind, Rows};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::marks::{Mark, Marks};
use super::{
    Extent, GROUP_BYTES, GROUP_INTERVAL, LogError, Progress, RETRY_INTERVAL, ReceivedFrame,
    Request, SealedSegment,
};

pub(super) struct Writer {
    journal: Journal,
    /// What is durable.
    marks: Marks,
    /// Beginnings that were told by an event while their frames are not durable, or were refused; at
    /// most one of each spool.
    told: HashMap<SpoolId, Told>,
    group: Group,
    trouble: Option<Trouble>,
}

/// Tells a stream how far it is durable, unless a later frame of the same group was refused: that
/// ended the stream, and must not be forgotten.
fn go_on(progress: &watch::Sender<Progress>, durable: u64) {
    progress.send_if_modified(|progress| {
        let goes_on = progress.is_ok();
        if goes_on {
            *progress = Ok(durable);
        }
        goes_on
    });
}

/// The event that a spool begins is in the log.
struct Told {
    /// The spool's frame that begins.
    begins: u64,
    /// The event's frame in the log.
    frame: u64,
}

/// What was appended and is not durable yet.
#[derive(Default)]
struct Group {
    marks: Marks,
    waiting: Vec<Waiting>,
    /// Bytes in the queue count until they are durable.
    rooms: Vec<OwnedSemaphorePermit>,
    bytes: usize,
}

enum Waiting {
    Stream(Arc<watch::Sender<Progress>>, u64),
    Rows(oneshot::Sender<Result<(), LogError>>),
}

/// The disk refuses.
struct Trouble {
    reason: String,
    /// When an attempt failed last.
    last_try: Instant,
    /// Something could be appended since.
    appended: bool,
}

impl Writer {
    pub(super) fn new(journal: Journal, marks: Marks) -> Self {
        Self { journal, marks, told: HashMap::new(), group: Group::default(), trouble: None }
    }

    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut last_commit = Instant::now();
        while let Some(request) = requests.recv().await {
            let deadline = last_commit + GROUP_INTERVAL;
            let mut going_on = self.handle(request);
            while going_on && self.group.bytes < GROUP_BYTES {
                // Elapsed, or every handle is gone: either way the group is complete.
                let Ok(Some(request)) = timeout_at(deadline, requests.recv()).await else { break };
                going_on = self.handle(request);
            }
            drop(self.commit());
            last_commit = Instant::now();
            if !going_on {
                break;
            }
        }
    }

    /// Does as asked; false: to stop. Answers nobody waits for any more are dropped.
    fn handle(&mut self, request: Request) -> bool {
        match request {
            Request::Received(frame) => self.receive(frame),
            Request::Rows { payload, done, room } => match self.append(FrameKind::Rows, payload) {
                Ok(()) => {
                    self.group.rooms.push(room);
                    self.group.waiting.push(Waiting::Rows(done));
                }
                Err(error) => drop(done.send(Err(error))),
            },
            Request::Mark { spool, done } => {
                let mark = self.settle().map(|()| self.marks.get(&spool).copied());
                drop(done.send(mark));
            }
            Request::Seal { done } => drop(done.send(self.seal())),
            Request::Extent { done } => {
                let last_frame = self.journal.durable_frame();
                drop(done.send(Extent { last_frame, bytes: self.journal.bytes() }));
            }
            Request::RemoveThrough { frame, done } => {
                let removed = self.journal.remove_through(frame);
                drop(done.send(removed.map_err(|error| LogError::Storage(error.to_string()))));
            }
            Request::Stop => return false,
        }
        true
    }

    fn receive(&mut self, received: ReceivedFrame) {
        let ReceivedFrame { payload, node, boot, spool, mark, may_begin, begins, progress, room } =
            received;
        let is_loss = !begins;
        let last = self.group.marks.get(&spool).or_else(|| self.marks.get(&spool)).copied();
        let follows = last.is_some_and(|last| mark.frame == last.frame + 1);
        let may_begin = may_begin && last.is_none_or(|last| mark.frame > last.frame);
        if !follows && !may_begin {
            // The frame before it was refused, and its connection knows.
            return;
        }
        let event = || begin_event(node.as_str(), boot.as_str(), spool, last, mark.frame, is_loss);
        let told = if follows { Ok(()) } else { self.tell(spool, mark.frame, event) };
        match told.and_then(|()| self.append(FrameKind::Received, payload)) {
            Ok(()) => {
                self.group.marks.insert(spool, mark);
                self.group.rooms.push(room);
                self.group.waiting.push(Waiting::Stream(progress, mark.frame));
            }
            Err(error) => drop(progress.send_replace(Err(error))),
        }
    }

    /// Appends the event that a spool begins, unless it is there from an attempt whose frame was
    /// refused.
    fn tell(
        &mut self,
        spool: SpoolId,
        begins: u64,
        event: impl FnOnce() -> Event,
    ) -> Result<(), LogError> {
        // First, because it may take the event back.
        self.mend()?;
        if self.told.get(&spool).is_some_and(|told| told.begins == begins) {
            return Ok(());
        }
        let rows = Rows { events: vec![event()], ..Rows::default() };
        self.append(FrameKind::Rows, rows.encode_to_vec().into())?;
        self.told.insert(spool, Told { begins, frame: self.journal.last_frame() });
        Ok(())
    }

    fn append(&mut self, kind: FrameKind, payload: Bytes) -> Result<(), LogError> {
        self.mend()?;
        let bytes = payload.len();
        match self.journal.append(kind, payload) {
            Ok(_) => {
                self.group.bytes += bytes;
                if let Some(trouble) = &mut self.trouble {
                    trouble.appended = true;
                }
                Ok(())
            }
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Makes the group durable and tells everyone who waits for it.
    fn commit(&mut self) -> Result<(), LogError> {
        if self.group.waiting.is_empty() {
            return Ok(());
        }
        match self.journal.sync() {
            Ok(_) => {
                let group = std::mem::take(&mut self.group);
                self.told.retain(|spool, _| !group.marks.contains_key(spool));
                self.marks.extend(group.marks);
                for waiting in group.waiting {
                    match waiting {
                        Waiting::Stream(progress, frame) => go_on(&progress, frame),
                        Waiting::Rows(done) => drop(done.send(Ok(()))),
                    }
                }
                if self.trouble.as_ref().is_some_and(|trouble| trouble.appended) {
                    self.recovered();
                }
                Ok(())
            }
            Err(error) => Err(self.refused(&error)),
        }
    }

    /// Commits, so that the marks are all there is.
    fn settle(&mut self) -> Result<(), LogError> {
        self.mend()?;
        self.commit()
    }

    fn seal(&mut self) -> Result<Vec<SealedSegment>, LogError> {
        let before = self.journal.segments().len();
        let done =
            self.settle().and_then(|()| self.journal.seal().map_err(|error| self.refused(&error)));
        if self.journal.segments().len() > before {
            self.recovered();
        }
        let mut segments: Vec<_> = self
            .journal
            .segments()
            .map(|s| SealedSegment {
                path: s.path,
                first_frame: s.first_frame,
                last_frame: s.last_frame,
            })
            .collect();
        segments.pop();
        // A full disk is the reason to publish what is sealed already, which makes room.
        if segments.is_empty() { done.map(|()| segments) } else { Ok(segments) }
    }

    /// Before anything is written: cuts back what a failed fdatasync left, and spares a disk that
    /// refused a moment ago.
    fn mend(&mut self) -> Result<(), LogError> {
        let Some(trouble) = &mut self.trouble else { return Ok(()) };
        if trouble.last_try.elapsed() < RETRY_INTERVAL {
            return Err(LogError::Storage(trouble.reason.clone()));
        }
        // Only an attempt that fails begins a new wait: asking for a mark writes nothing, and must
        // not take away the attempt of the frame that follows it.
        if self.journal.is_poisoned() {
            if let Err(error) = self.journal.retreat() {
                trouble.last_try = Instant::now();
                return Err(LogError::Storage(error.to_string()));
            }
            let durable = self.journal.durable_frame();
            self.told.retain(|_, told| told.frame <= durable);
        }
        Ok(())
    }

    /// The disk took something durably.
    fn recovered(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("the log can be written again");
        }
    }

    /// The disk refused: says so once, and if the whole group is lost with it, tells the group.
    fn refused(&mut self, error: &JournalError) -> LogError {
        let reason = error.to_string();
        if self.trouble.is_none() {
            tracing::error!("{reason}; forwarders keep their account until this is mended");
        }
        self.trouble =
            Some(Trouble { reason: reason.clone(), last_try: Instant::now(), appended: false });
        let refusal = LogError::Storage(reason);
        if self.journal.is_poisoned() {
            for waiting in std::mem::take(&mut self.group).waiting {
                match waiting {
                    Waiting::Stream(progress, _) => {
                        drop(progress.send_replace(Err(refusal.clone())));
                    }
                    Waiting::Rows(done) => drop(done.send(Err(refusal.clone()))),
                }
            }
        }
        refusal
    }
}

/// A spool begins here, or goes on behind a gap.
fn begin_event(
    node: &str,
    boot: &str,
    spool: SpoolId,
    last: Option<Mark>,
    first: u64,
    is_loss: bool,
) -> Event {
    let (severity, kind, message) = match last {
        None if first == 1 => {
            (Severity::Info, "stream_start", format!("the stream of spool {spool} begins"))
        }
        None => (
            Severity::Warning,
            "stream_start",
            format!(
                "the stream of spool {spool} begins at frame {first}: this recorder never saw the frames before"
            ),
        ),
        Some(last) if !is_loss => (
            Severity::Warning,
            "stream_start",
            format!(
                "the stream of spool {spool} goes on at frame {first}: another recorder has the \
                 frames from {} on",
                last.frame + 1
            ),
        ),
        Some(last) => (
            Severity::Error,
            "spool_gap",
            format!(
                "frames {} to {} of spool {spool} are lost: the forwarder holds nothing before frame {first}",
                last.frame + 1,
                first - 1
            ),
        ),
    };
    let held = last.map_or(0, |last| last.frame);
    let attributes = format!("{{\"spool\":\"{spool}\",\"first\":{first},\"held\":{held}}}");
    Event {
        node: node.to_owned(),
        boot: boot.to_owned(),
        ts: Timestamp::from_system(SystemTime::now()).0,
        severity: severity.as_str().to_owned(),
        kind: kind.to_owned(),
        message,
        attributes: Some(attributes),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use journal::Settings;

    use super::*;

    #[test]
    fn what_is_sealed_can_be_published_while_the_disk_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = Journal::open(dir.path(), Settings::new(SpoolId(1))).unwrap();
        let mut writer = Writer::new(journal, Marks::new());
        writer.append(FrameKind::Rows, Rows::default().encode_to_vec().into()).unwrap();
        assert_eq!(writer.seal().unwrap().len(), 1);
        let refused =
            || Trouble { reason: "no space".to_owned(), last_try: Instant::now(), appended: false };
        writer.trouble = Some(refused());
        let sealed = writer.seal().unwrap();
        assert_eq!(sealed.len(), 1, "only publishing it makes room");
        writer.journal.remove_through(sealed[0].last_frame).unwrap();
        writer.trouble = Some(refused());
        assert_eq!(writer.seal(), Err(LogError::Storage("no space".to_owned())));
    }

    #[test]
    fn a_refused_frame_ends_its_stream_though_earlier_ones_become_durable_after_it() {
        let (progress, _) = watch::channel(Ok(1));
        go_on(&progress, 2);
        assert_eq!(*progress.borrow(), Ok(2));
        let refusal = Err(LogError::Storage("no space".to_owned()));
        drop(progress.send_replace(refusal.clone()));
        go_on(&progress, 3);
        assert_eq!(*progress.borrow(), refusal);
    }
}
