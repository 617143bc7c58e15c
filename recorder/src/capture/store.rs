//! The captured sessions and the files they are written to: one open file per service.
//!
//! Every event is written whole or not at all: the session's state moves on only when the disk took
//! its packets. When the disk refuses, the file ends at its last good packet, nothing is written for
//! [`RETRY_AFTER`], and what comes meanwhile is lost and counted; sessions that live on show a gap.

#[cfg(test)]
pub(super) mod tests;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use schemas::table::Capture;
use schemas::vocab::{BootId, EndReason, NodeName, PerDirection, ServiceName};

use super::Settings;
use super::counters::Counters;
use super::extent::Extent;
use super::file::{ClosedFile, OpenFile};
use super::path::file_name;
use super::session::{Announcement, Event, Packet, Session, SessionKey, Totals};

/// Most captured sessions at once; more are not captured, and counted.
const MAX_SESSIONS: usize = 1 << 18;
/// Most sessions in one file, a bound on what its index needs in memory; the next one begins a file.
const MAX_SESSIONS_PER_FILE: usize = 1 << 16;
/// How long nothing is written after the disk has refused.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long the disk must take captures before it is believed, so that one which is as good as full
/// costs one line in the log.
const MENDED_AFTER: Duration = Duration::from_secs(60);
/// How long a session may live on without its forwarder.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// Sessions and files.
#[derive(Debug)]
pub(super) struct Store {
    settings: Settings,
    counters: Counters,
    sessions: HashMap<SessionKey, Session>,
    files: HashMap<ServiceName, OpenFile>,
    /// Number of the next file of this run.
    next_file: u64,
    closed: VecDeque<ClosedFile>,
    /// Rows that tell of loss and have no file.
    lost: Vec<Capture>,
    /// Where the sessions stand has been told since the last file was closed.
    is_noted: bool,
    refused: Option<Refused>,
    /// Forwarders that are away, since when.
    away: HashMap<NodeName, Instant>,
    /// Sessions that were open when the last run of the recorder ended.
    earlier: HashMap<SessionKey, Left>,
}

/// A disk that takes no captures, or has only just begun to again.
#[derive(Debug, Clone, Copy)]
struct Refused {
    /// The last time.
    at: Instant,
    /// Since when it takes them again.
    mended: Option<Instant>,
}

/// Where an earlier run of the recorder left a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// Number of its next extent.
    pub(super) extent: i32,
    /// Where its streams stood, if known.
    pub(super) position: Option<PerDirection<u64>>,
    /// Whose FIN is written: it has taken a sequence number.
    pub(super) fin: PerDirection<bool>,
}

impl Store {
    pub(super) fn new(
        settings: Settings,
        counters: Counters,
        earlier: HashMap<SessionKey, Left>,
    ) -> Self {
        Self {
            settings,
            counters,
            sessions: HashMap::new(),
            files: HashMap::new(),
            next_file: 0,
            closed: VecDeque::new(),
            lost: Vec::new(),
            is_noted: true,
            refused: None,
            away: HashMap::new(),
            earlier,
        }
    }

    /// A forwarder connected. What an earlier boot of it left open ended when it died.
    pub(super) fn connected(&mut self, node: &NodeName, boot: BootId) {
        self.away.remove(node);
        self.earlier.retain(|key, _| key.node != *node || key.id.boot == boot);
        self.end_lost(|key| key.node == *node && key.id.boot != boot);
    }

    /// A forwarder's connection ended; its sessions may be announced again.
    pub(super) fn disconnected(&mut self, node: NodeName) {
        self.away.insert(node, Instant::now());
    }

    /// A session is announced, for the first time or again; false: it was another one before, and
    /// stays that.
    #[must_use]
    pub(super) fn announced(&mut self, about: Announcement) -> bool {
        let key = about.key.clone();
        if let Some(known) = self.sessions.get(&key) {
            return known.about().makes_the_same_packets(&about);
        }
        if self.sessions.len() >= MAX_SESSIONS {
            self.counters.sessions_refused.add(1);
            return true;
        }
        let left = self.earlier.remove(&key);
        let begins = about.resumed.is_none() && left.is_none();
        let extent = left.map_or(0, |left| left.extent);
        let session = Session::new(about, extent, left);
        self.sessions.insert(key.clone(), session);
        self.counters.sessions_open.set(self.sessions.len());
        if begins {
            self.apply(&key, &Event::Began);
        }
        true
    }

    /// Something happened in a session.
    pub(super) fn happened(&mut self, key: &SessionKey, event: &Event<'_>) {
        let written = self.apply(key, event);
        match event {
            Event::Data { bytes, .. } if !written => self.counters.dropped_bytes.add(size(bytes)),
            Event::End { totals, time_ns, .. } => {
                if let Some(session) = self.sessions.remove(key) {
                    self.account_for_the_end(key, &session, *totals, *time_ns, written);
                }
                self.counters.sessions_open.set(self.sessions.len());
            }
            _ => {}
        }
    }

    /// Writes the packets of an event; false: they are not in a file.
    fn apply(&mut self, key: &SessionKey, event: &Event<'_>) -> bool {
        let Some(session) = self.sessions.get(key) else { return false };
        let about = Arc::clone(session.about());
        let service = &about.service;
        // Before the session is looked at: its next extent may begin here.
        if !self.make_room(service) {
            return false;
        }
        let Some(session) = self.sessions.get_mut(key) else { return false };
        let Some(file) = self.files.get_mut(service) else { return false };
        let before = session.state();
        let known = file.extent(key).copied();
        let mut extent = known.unwrap_or_else(|| Extent::new(session.extent()));
        let packets = extent.packets;
        let mut batch = file.batch();
        session.apply(event, &mut |packet: Packet<'_>| {
            file.encode(service, key, &packet, &mut batch, &mut extent);
        });
        if let Err(error) = file.commit(batch) {
            session.put_back(before);
            self.disk_refused(service, &error);
            return false;
        }
        self.counters.packets.add(extent.packets - packets);
        file.set_extent(key, extent);
        self.disk_took();
        true
    }

    /// Payload that is missing at the end and that no packet tells of stands in the index alone.
    fn account_for_the_end(
        &mut self,
        key: &SessionKey,
        session: &Session,
        totals: Totals,
        time_ns: i64,
        written: bool,
    ) {
        let untold = if written { session.untold_loss() } else { session.loss_until(totals) };
        if untold == 0 {
            return;
        }
        let file = self.files.get_mut(&session.about().service);
        if let Some((file, mut extent)) = file.and_then(|file| {
            let extent = *file.extent(key)?;
            Some((file, extent))
        }) {
            extent.add_loss(untold);
            file.set_extent(key, extent);
        } else {
            self.lost.push(Extent::lost(session.extent(), untold, time_ns).row(key, None, None));
            self.is_noted = false;
        }
    }

    /// Sees to it that the service has an open file with room in it.
    fn make_room(&mut self, service: &ServiceName) -> bool {
        if self.refused.is_some_and(|refused| refused.at.elapsed() < RETRY_AFTER) {
            return false;
        }
        if self.files.get(service).is_some_and(|file| self.is_full(file)) {
            self.close(service, false);
        }
        if self.files.contains_key(service) {
            return true;
        }
        self.next_file += 1;
        let relative = file_name(service, SystemTime::now(), self.next_file);
        match OpenFile::create(&self.settings.data, &relative, self.settings.readers) {
            Ok(file) => {
                self.files.insert(service.clone(), file);
                true
            }
            Err(error) => {
                self.disk_refused(service, &error);
                false
            }
        }
    }

    fn is_full(&self, file: &OpenFile) -> bool {
        file.len() >= self.settings.rotate.size_bytes
            || file.age() >= self.settings.rotate.every
            || file.session_count() >= MAX_SESSIONS_PER_FILE
    }

    fn disk_refused(&mut self, service: &ServiceName, error: &io::Error) {
        self.counters.write_errors.add(1);
        if self.refused.is_none() {
            tracing::error!(
                service = service.as_str(),
                "capture stops: cannot write below {}: {error}; it is tried again every {} s, \
                 and what is lost is counted",
                self.settings.data.join(super::DIRECTORY).display(),
                RETRY_AFTER.as_secs(),
            );
        }
        self.refused = Some(Refused { at: Instant::now(), mended: None });
        self.close(service, true);
    }

    fn disk_took(&mut self) {
        let Some(refused) = &mut self.refused else { return };
        if refused.mended.get_or_insert_with(Instant::now).elapsed() >= MENDED_AFTER {
            self.refused = None;
            tracing::info!("captures can be written again");
        }
    }

    /// Closes the open file of a service; its sessions go on in the next one.
    fn close(&mut self, service: &ServiceName, is_damaged: bool) {
        let Some(mut file) = self.files.remove(service) else { return };
        let is_damaged =
            is_damaged || !self.release_held(service, &mut file) || !self.finish(&mut file);
        for key in file.sessions() {
            if let Some(session) = self.sessions.get_mut(key) {
                session.next_file();
            }
        }
        let path = file.path().to_owned();
        match file.close(is_damaged) {
            Ok(Some(closed)) => {
                self.counters.files.add(1);
                self.closed.push_back(closed);
                self.is_noted = false;
            }
            Ok(None) => {}
            Err(error) => {
                self.counters.write_errors.add(1);
                let path = path.display();
                tracing::error!("cannot close capture {path}: {error}; the next start mends it");
            }
        }
    }

    /// Writes the closing packets that wait for an end which will be told in another file; false:
    /// the disk did not take them.
    fn release_held(&mut self, service: &ServiceName, file: &mut OpenFile) -> bool {
        let mut batch = file.batch();
        let (mut extents, mut before) = (Vec::new(), Vec::new());
        for key in file.sessions().cloned().collect::<Vec<_>>() {
            let Some(session) = self.sessions.get_mut(&key) else { continue };
            let Some(mut extent) = file.extent(&key).copied() else { continue };
            let packets = extent.packets;
            before.push((key.clone(), session.state()));
            session.apply(&Event::FileCloses, &mut |packet: Packet<'_>| {
                file.encode(service, &key, &packet, &mut batch, &mut extent);
            });
            if extent.packets > packets {
                extents.push((key, extent));
            }
        }
        if let Err(error) = file.commit(batch) {
            self.counters.write_errors.add(1);
            tracing::debug!("the last packets of a capture cannot be written: {error}");
            for (key, state) in before {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.put_back(state);
                }
            }
            return false;
        }
        for (key, extent) in extents {
            file.set_extent(&key, extent);
        }
        true
    }

    /// Writes what stands at the end of a whole file; false: the disk did not take it.
    fn finish(&self, file: &mut OpenFile) -> bool {
        let written = file.write_statistics();
        if let Err(error) = &written {
            self.counters.write_errors.add(1);
            tracing::debug!("the statistics of a capture cannot be written: {error}");
        }
        written.is_ok()
    }

    /// Closes files that are due and sessions that nobody speaks for.
    pub(super) fn tick(&mut self) {
        let due: Vec<_> = self
            .files
            .iter()
            .filter(|(_, file)| self.is_full(file))
            .map(|(service, _)| service.clone())
            .collect();
        for service in due {
            self.close(&service, false);
        }
        let gone: Vec<_> = self
            .away
            .iter()
            .filter(|(_, since)| since.elapsed() >= ABANDONED_AFTER)
            .map(|(node, _)| node.clone())
            .collect();
        for node in gone {
            self.away.remove(&node);
            self.end_lost(|key| key.node == node);
        }
    }

    /// Closes every file.
    pub(super) fn close_all(&mut self) {
        let services: Vec<_> = self.files.keys().cloned().collect();
        for service in services {
            self.close(&service, false);
        }
    }

    /// Whether there is something to take by [`Self::take_closed`] or [`Self::take_lost`].
    pub(super) fn has_news(&self) -> bool {
        !self.closed.is_empty() || !self.lost.is_empty()
    }

    /// The file that was closed first of those not taken, under its `.part` name.
    pub(super) fn take_closed(&mut self) -> Option<ClosedFile> {
        self.closed.pop_front()
    }

    /// Rows that tell of loss and have no file, since this was last asked.
    pub(super) fn take_lost(&mut self) -> Option<Vec<Capture>> {
        (!self.lost.is_empty()).then(|| std::mem::take(&mut self.lost))
    }

    /// Where the sessions stand, for the next run of the recorder, unless that was told since the
    /// last file was closed.
    pub(super) fn take_note(&mut self) -> Option<Vec<(SessionKey, Left)>> {
        (!std::mem::replace(&mut self.is_noted, true)).then(|| self.open_sessions())
    }

    /// Nobody will take what was closed.
    pub(super) fn forget_news(&mut self) {
        self.closed.clear();
        self.lost.clear();
    }

    fn open_sessions(&self) -> Vec<(SessionKey, Left)> {
        let running = self.sessions.iter().map(|(key, session)| {
            let extent = session.extent();
            let (position, fin) = (Some(session.position()), session.finished());
            (key.clone(), Left { extent, position, fin })
        });
        running.chain(self.earlier.iter().map(|(key, left)| (key.clone(), *left))).collect()
    }

    fn end_lost(&mut self, which: impl Fn(&SessionKey) -> bool) {
        let mut keys: Vec<_> = self.sessions.keys().filter(|key| which(key)).cloned().collect();
        keys.sort();
        for key in keys {
            let Some(session) = self.sessions.get(&key) else { continue };
            let position = session.position();
            let totals = Totals { received: position, delivered: position };
            let time_ns = now_ns();
            self.happened(&key, &Event::End { reason: Some(EndReason::Lost), totals, time_ns });
        }
    }
}

fn size(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
