//! A journal of which any one bit was flipped, or a part cannot be read: what is lost is told, and
//! the rest goes on.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use journal::fs::{Access, After, Fault, FileSystem, SimulatedDisk};
use journal::{Entry, Journal, JournalError, Mended, Reader, Settings, scan_on};
use schemas::vocab::SpoolId;
use schemas::wire::{FrameKind, HEADER_LEN};

const DIR: &str = "/spool";
const STAND_IN: &str = "lost";

#[test]
fn a_bit_flipped_anywhere_loses_one_frame_at_most_and_the_loss_is_told() {
    let original = written();
    let whole = frames(&original).unwrap();
    for path in segments(&original) {
        let newest = path == *segments(&original).last().unwrap();
        for at in 0..original.content(&path).unwrap().len() {
            let disk = original.survivors(After::Kill);
            disk.tamper(&path, |bytes| bytes[at] ^= 1 << (at % 8));
            let case = format!("byte {at} of {}", path.display());
            let Ok(opened) = Journal::open_on(shared(&disk), Path::new(DIR), settings()) else {
                // What a newer version wrote looks like that, and must not be touched.
                assert!(newest && at < header_end(&original, &path), "{case}");
                continue;
            };
            let (mut journal, recovery) = opened;
            let lost = match mend_all(&mut journal) {
                Ok(lost) => lost,
                Err(error) => {
                    assert!(error.to_string().contains("version"), "{case}: {error}");
                    continue;
                }
            };
            let found = frames(&disk).unwrap();
            let cut: Vec<_> = whole.keys().filter(|n| **n > journal.last_frame()).collect();
            assert!(cut.is_empty() || recovery.cut_bytes > 0, "{case}: silently cut off");
            // In the group that was synced last nothing tells damage from a power loss.
            assert!(cut.is_empty() || (newest && *cut[0] >= LAST_GROUP), "{case}: {cut:?}");
            for (number, payload) in &whole {
                if cut.contains(&number) {
                    continue;
                }
                let told = lost.iter().any(|range| range.contains(number));
                let expected = if told { STAND_IN.as_bytes() } else { &payload[..] };
                assert_eq!(
                    found.get(number).map(|p| &p[..]),
                    Some(expected),
                    "{case}, frame {number}"
                );
            }
            let count: u64 = lost.iter().map(|range| range.end() - range.start() + 1).sum();
            assert!(count <= 1, "{case}: {lost:?}");
            // It goes on, and stays mended.
            let next = journal.append(FrameKind::Rows, "more".into()).unwrap();
            assert_eq!((next, journal.sync().unwrap()), (journal.last_frame(), next), "{case}");
            drop(journal);
            let disk = disk.survivors(After::PowerLoss { seed: 0 });
            let (journal, again) =
                Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
            assert_eq!((journal.last_frame(), again.damaged), (next, false), "{case}");
            assert_eq!(frames(&disk).unwrap().len() as u64, next, "{case}");
        }
    }
}

#[test]
fn a_bit_flipped_in_the_id_is_told_and_nothing_is_changed() {
    let original = written();
    let id = Path::new(DIR).join("id");
    for at in 0..original.content(&id).unwrap().len() {
        let disk = original.survivors(After::Kill);
        disk.tamper(&id, |bytes| bytes[at] ^= 1);
        let before: Vec<_> = disk.files().iter().map(|path| disk.content(path)).collect();
        let refused = Journal::open_on(shared(&disk), Path::new(DIR), settings());
        let after: Vec<_> = disk.files().iter().map(|path| disk.content(path)).collect();
        match refused {
            Err(JournalError::Damaged { path, .. }) => assert!(path.starts_with(DIR)),
            Err(other) => panic!("byte {at}: {other}"),
            // The newline behind the id, which says nothing.
            Ok(_) => assert_eq!(at, 16),
        }
        assert_eq!(before, after);
    }
}

#[test]
fn a_segment_that_is_missing_or_cut_short_is_stood_in_for() {
    for cut_to in [None, Some(0), Some(30), Some(100)] {
        let disk = written();
        let middle = segments(&disk)[1].clone();
        match cut_to {
            None => disk.remove(&middle).unwrap(),
            Some(len) => disk.tamper(&middle, |bytes| bytes.truncate(len)),
        }
        let (mut journal, _) = Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
        let lost = mend_all(&mut journal).unwrap();
        let found = frames(&disk).unwrap();
        assert_eq!(found.len() as u64, journal.last_frame(), "cut to {cut_to:?}");
        for (number, payload) in &found {
            let told = lost.iter().any(|range| range.contains(number));
            assert_eq!(told, payload == STAND_IN, "frame {number}, cut to {cut_to:?}");
        }
        assert!(!lost.is_empty());
    }
}

#[test]
fn a_segment_that_cannot_be_read_is_damaged_too() {
    let disk = written();
    let (mut journal, _) = Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
    let first = segments(&disk)[0].clone();
    let file = disk.open(&first, Access::Read).unwrap();
    disk.plan(1, Fault::Io);
    let source = file.read_at(&mut [0], 0).unwrap_err();
    let error = JournalError::Io { action: "read", path: first.clone(), source };
    assert_eq!(error.damaged_segment(), Some(&*first));
    // The whole at once, then its one block: neither is given.
    disk.plan(3, Fault::Io);
    disk.plan(4, Fault::Io);
    let mended = journal.mend(&first, |_, _| STAND_IN.into()).unwrap();
    let frames_of_first = *mended.lost[0].end();
    assert_eq!(mended.lost, [1..=frames_of_first]);
    assert_eq!(frames(&disk).unwrap()[&1], STAND_IN);
}

#[test]
fn mending_that_crashes_at_any_operation_is_done_by_the_next_attempt() {
    let damaged = || {
        let disk = written();
        let first = segments(&disk)[0].clone();
        let in_frame_1 = header_end(&disk, &first) + 30;
        disk.tamper(&first, |bytes| bytes[in_frame_1] ^= 1);
        let (journal, _) = Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
        (disk, journal)
    };
    let (disk, mut journal) = damaged();
    let before = disk.operations().len();
    let expected = mend_all(&mut journal).unwrap();
    let whole = frames(&disk).unwrap();
    for at in 1..=disk.operations().len() - before {
        for fault in Fault::ALL {
            for after in [After::Kill, After::PowerLoss { seed: 0 }, After::PowerLoss { seed: 9 }] {
                let (disk, mut journal) = damaged();
                disk.plan(at, fault);
                let first = mend_all(&mut journal);
                let left = disk.survivors(after);
                let (mut journal, _) =
                    Journal::open_on(shared(&left), Path::new(DIR), settings()).unwrap();
                let lost = mend_all(&mut journal).unwrap();
                let told = first.unwrap_or_default() == expected || lost == expected;
                let case = format!("{fault:?} at {at}, {after:?}");
                // A read that fails is a loss of its own; the others change nothing.
                let more_lost = frames(&left).unwrap().values().filter(|p| *p == STAND_IN).count();
                assert!(told || lost.is_empty() || more_lost > 1, "{case}");
                assert_eq!(frames(&left).unwrap().len(), whole.len(), "{case}");
                assert_eq!(frames(&left).unwrap()[&1], STAND_IN, "{case}");
            }
        }
    }
}

#[test]
fn a_reader_goes_on_when_its_segment_was_mended() {
    let disk = written();
    let first = segments(&disk)[0].clone();
    disk.tamper(&first, |bytes| {
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
    });
    let (mut journal, _) = Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
    let durable = journal.durable_frame();
    let mut reader = Reader::open_on(shared(&disk), Path::new(DIR), 1).unwrap();
    let mut seen = 0;
    let error = loop {
        match reader.next(durable) {
            Ok(Some(_)) => seen += 1,
            Ok(None) => panic!("the damage was not met"),
            Err(error) => break error,
        }
    };
    let segment = error.damaged_segment().unwrap().to_owned();
    journal.mend(&segment, |_, _| STAND_IN.into()).unwrap();
    let mut reader = Reader::open_on(shared(&disk), Path::new(DIR), seen + 1).unwrap();
    assert_eq!(reader.next(durable).unwrap().unwrap().0.payload, STAND_IN);
    assert_eq!(reader.next(durable).unwrap().unwrap().0.number, seen + 2);
}

#[test]
fn what_is_set_aside_is_bounded_and_the_recorders_own_is_left() {
    let disk = written();
    let kept_by_others = Path::new(DIR).join("00000000000000000001.seg.suspect");
    disk.tamper(&kept_by_others, |bytes| bytes.push(0));
    let (mut journal, _) = Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
    for round in 0..9 {
        journal.append(FrameKind::Rows, format!("round {round}").into()).unwrap();
        for frame in journal.retreat().unwrap() {
            journal.append(frame.kind, frame.payload).unwrap();
        }
        journal.seal().unwrap();
    }
    let suspects: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "suspect"))
        .collect();
    assert_eq!(suspects.len(), 5, "{suspects:?}");
    assert!(suspects.contains(&kept_by_others));
}

// === helpers ===

/// The first frame of the group that was synced last.
const LAST_GROUP: u64 = 17;

/// Where the header of a segment ends.
fn header_end(disk: &SimulatedDisk, segment: &Path) -> usize {
    let bytes = disk.content(segment).unwrap();
    let len = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    HEADER_LEN + usize::try_from(len).unwrap()
}

fn settings() -> Settings {
    Settings::new(SpoolId(7))
}

fn shared(disk: &SimulatedDisk) -> Arc<dyn FileSystem> {
    Arc::new(disk.clone())
}

/// Frames 1 to 18 in three segments; each is synced but the last two, which are together.
fn written() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    let (mut journal, _) = Journal::open_on(shared(&disk), Path::new(DIR), settings()).unwrap();
    for number in 1..=18_u64 {
        let text = format!("frame {number:02}");
        assert_eq!(journal.append(FrameKind::Rows, text.into()).unwrap(), number);
        if number % 6 == 0 && number < LAST_GROUP {
            journal.seal().unwrap();
        } else if number < LAST_GROUP {
            journal.sync().unwrap();
        }
    }
    journal.sync().unwrap();
    assert_eq!(journal.segments().map(|s| s.first_frame).collect::<Vec<_>>(), [1, 7, 13]);
    disk.survivors(After::Kill)
}

fn segments(disk: &SimulatedDisk) -> Vec<PathBuf> {
    let files = disk.files().into_iter();
    files.filter(|path| path.extension().is_some_and(|e| e == "seg")).collect()
}

fn frames(disk: &SimulatedDisk) -> Result<BTreeMap<u64, Bytes>, JournalError> {
    let mut frames = BTreeMap::new();
    for entry in scan_on(shared(disk), Path::new(DIR))? {
        if let Entry::Frame(frame, _) = entry? {
            assert!(frames.insert(frame.number, frame.payload).is_none());
        }
    }
    Ok(frames)
}

/// Mends whatever reading finds.
fn mend_all(journal: &mut Journal) -> Result<Vec<RangeInclusive<u64>>, JournalError> {
    let mut all = Vec::new();
    for _ in 0..20 {
        let Some(Err(error)) = journal.scan()?.find(Result::is_err) else { return Ok(all) };
        let Some(segment) = error.damaged_segment() else { return Err(error) };
        let Mended { lost, .. } = journal.mend(segment, |_, _| STAND_IN.into())?;
        all.extend(lost);
    }
    panic!("mending does not come to an end")
}
