//! The simulated disk: it behaves as the real one, and knows what a crash leaves.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use journal::fs::SimulatedDisk;
use journal::fs::{Access, After, Disk, Fault, FileSystem, Kind, OpenFile, Sequential};
use proptest::prelude::*;

const DIR: &str = "/dir";

#[test]
fn what_was_written_survives_a_kill_but_only_what_was_synced_a_power_loss() {
    let disk = disk();
    let file = create(&disk, "a");
    file.write_all_at(b"synced", 0).unwrap();
    file.sync_data().unwrap();
    disk.sync_directory(Path::new(DIR)).unwrap();
    file.write_all_at(b"SYN", 0).unwrap();
    file.write_all_at(b" and more", 6).unwrap();
    assert_eq!(left(&disk, After::Kill, "a"), Some(b"SYNced and more".to_vec()));
    assert_eq!(left(&disk, POWER_LOST_ALL, "a"), Some(b"synced".to_vec()));
    assert_eq!(left(&disk, POWER_KEPT_ALL, "a"), Some(b"SYNced and more".to_vec()));
}

#[test]
fn what_is_not_synced_is_lost_kept_or_torn_by_chance_and_a_seed_repeats() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.sync_directory(Path::new(DIR)).unwrap();
    file.write_all_at(&[1; 2000], 0).unwrap();
    let outcomes: BTreeSet<_> = (2..200).map(|seed| after_power_loss(&disk, seed)).collect();
    assert!(outcomes.contains(&Some(vec![])), "lost");
    assert!(outcomes.contains(&Some(vec![1; 2000])), "kept");
    let torn = |bytes: &Vec<u8>| !bytes.is_empty() && bytes.len() < 2000;
    assert!(outcomes.iter().flatten().any(torn), "cut off");
    let with_a_hole = |bytes: &Vec<u8>| bytes.len() == 2000 && bytes.contains(&0);
    assert!(outcomes.iter().flatten().any(with_a_hole), "with a hole of zeros");
    assert_eq!(after_power_loss(&disk, 77), after_power_loss(&disk, 77));
}

#[test]
fn a_name_is_durable_with_its_directory_not_with_its_file() {
    let disk = disk();
    let file = create(&disk, "a");
    file.write_all_at(b"x", 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(left(&disk, POWER_LOST_ALL, "a"), None);
    assert_eq!(left(&disk, POWER_KEPT_ALL, "a"), Some(b"x".to_vec()));
    disk.sync_directory(Path::new(DIR)).unwrap();
    assert_eq!(left(&disk, POWER_LOST_ALL, "a"), Some(b"x".to_vec()));
    disk.remove(&at("a")).unwrap();
    assert_eq!(left(&disk, POWER_LOST_ALL, "a"), Some(b"x".to_vec()));
    assert_eq!(left(&disk, After::Kill, "a"), None);
    disk.sync_directory(Path::new(DIR)).unwrap();
    assert_eq!(left(&disk, POWER_LOST_ALL, "a"), None);
}

#[test]
fn a_rename_survives_whole_or_not_at_all() {
    let disk = disk();
    for (name, text) in [("old", "1"), ("new", "2")] {
        let file = create(&disk, name);
        file.write_all_at(text.as_bytes(), 0).unwrap();
        file.sync_all().unwrap();
    }
    disk.sync_directory(Path::new(DIR)).unwrap();
    disk.rename(&at("new"), &at("old")).unwrap();
    let outcomes: BTreeSet<_> = (0..50)
        .map(|seed| {
            let survivor = disk.survivors(After::PowerLoss { seed });
            (survivor.content(&at("old")), survivor.content(&at("new")))
        })
        .collect();
    let (one, two) = (Some(b"1".to_vec()), Some(b"2".to_vec()));
    assert_eq!(outcomes, BTreeSet::from([(one, two.clone()), (two, None)]));
}

#[test]
fn a_rename_across_directories_needs_both_of_them_synced() {
    let disk = disk();
    let other = Path::new("/other");
    disk.create_directory(other, 0o700).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    create(&disk, "a");
    disk.sync_directory(Path::new(DIR)).unwrap();
    disk.rename(&at("a"), &other.join("a")).unwrap();
    disk.sync_directory(other).unwrap();
    assert!(disk.survivors(POWER_LOST_ALL).exists(&at("a")));
    disk.sync_directory(Path::new(DIR)).unwrap();
    assert!(disk.survivors(POWER_LOST_ALL).exists(&other.join("a")));
}

#[test]
fn what_is_in_a_directory_that_did_not_survive_is_gone_with_it() {
    let disk = SimulatedDisk::new();
    disk.create_directory(Path::new(DIR), 0o700).unwrap();
    create(&disk, "a");
    disk.sync_directory(Path::new(DIR)).unwrap();
    assert_eq!(disk.survivors(POWER_LOST_ALL).files(), Vec::<PathBuf>::new());
    disk.sync_directory(Path::new("/")).unwrap();
    assert_eq!(disk.survivors(POWER_LOST_ALL).files(), [at("a")]);
}

#[test]
fn what_a_failed_sync_was_for_is_never_durable_whatever_the_next_one_says() {
    for fault in [Fault::Io, Fault::Full, Fault::Evicted] {
        let disk = disk();
        let file = create(&disk, "a");
        disk.sync_directory(Path::new(DIR)).unwrap();
        file.write_all_at(b"good", 0).unwrap();
        file.sync_data().unwrap();
        file.write_all_at(b"lost", 4).unwrap();
        disk.plan(1, fault);
        file.sync_data().unwrap_err();
        let readable: &[u8] = if fault == Fault::Evicted { b"good\0\0\0\0" } else { b"goodlost" };
        assert_eq!(disk.read(&at("a")).unwrap(), readable);
        file.write_all_at(b"late", 8).unwrap();
        file.sync_data().unwrap();
        assert_eq!(left(&disk, POWER_LOST_ALL, "a"), Some(b"good\0\0\0\0late".to_vec()));
    }
}

#[test]
fn a_crash_ends_everything_before_its_operation_or_in_the_midst_of_it() {
    for (fault, kept) in [(Fault::Crash, &b""[..]), (Fault::CrashWithin, b"tw")] {
        let disk = disk();
        let file = create(&disk, "a");
        disk.plan(2, fault);
        file.write_all_at(b"one", 0).unwrap();
        file.write_all_at(b"two!", 3).unwrap_err();
        assert!(disk.has_crashed());
        let counted = disk.operations().len();
        file.sync_data().unwrap_err();
        disk.list(Path::new(DIR)).unwrap_err();
        assert_eq!(disk.operations().len(), counted);
        let survivor = disk.survivors(After::Kill);
        assert_eq!(survivor.content(&at("a")), Some([b"one", kept].concat()));
        assert_eq!(survivor.list(Path::new(DIR)).unwrap()[0].kind, Kind::File);
    }
}

#[test]
fn faults_are_met_once_where_they_are_planned() {
    let disk = disk();
    let file = create(&disk, "a");
    disk.plan(2, Fault::Short);
    disk.plan(3, Fault::Full);
    assert_eq!(file.write_at(b"12345678", 0).unwrap(), 8);
    assert_eq!(file.write_at(b"12345678", 0).unwrap(), 4);
    let full = file.write_at(b"12345678", 0).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.write_at(b"12345678", 0).unwrap(), 8);
    let last = disk.operations().pop().unwrap();
    assert_eq!(last.to_string(), "write /dir/a");
}

#[test]
fn a_full_disk_takes_what_fits_and_room_is_kept_by_allocation_alone() {
    let disk = disk();
    disk.set_capacity(Some(100));
    let (reserved, other) = (create(&disk, "a"), create(&disk, "b"));
    reserved.allocate(60).unwrap();
    assert_eq!(reserved.len().unwrap(), 0);
    assert_eq!(other.write_at(&[0; 50], 0).unwrap(), 40);
    assert_eq!(other.write_at(&[0; 50], 40).unwrap_err().kind(), io::ErrorKind::StorageFull);
    reserved.write_all_at(&[0; 60], 0).unwrap();
    assert_eq!(reserved.allocate(61).unwrap_err().kind(), io::ErrorKind::StorageFull);
    // A file has its room until it has neither name nor descriptor.
    disk.remove(&at("b")).unwrap();
    assert!(reserved.write_at(&[0], 60).is_err());
    drop(other);
    reserved.write_all_at(&[0; 40], 60).unwrap();
    reserved.set_len(10).unwrap();
    create(&disk, "c").write_all_at(&[0; 90], 0).unwrap();
}

#[test]
fn a_lock_is_held_until_it_is_dropped_or_its_process_dies() {
    let disk = disk();
    let dir = Path::new(DIR);
    let held = disk.lock_directory(dir).unwrap();
    assert_eq!(disk.lock_directory(dir).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    disk.survivors(After::Kill).lock_directory(dir).unwrap();
    drop(held);
    disk.lock_directory(dir).unwrap();
}

#[test]
fn a_file_is_written_from_its_beginning() {
    let disk = disk();
    let mut writer = Sequential::new(create(&disk, "a"));
    disk.plan(2, Fault::Short);
    for text in ["one ", "two ", "three"] {
        writer.write_all(text.as_bytes()).unwrap();
    }
    assert_eq!(writer.written(), 13);
    assert_eq!(disk.content(&at("a")).unwrap(), b"one two three");
}

#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Write(u8, u16, Vec<u8>),
    SetLen(u8, u16),
    Allocate(u8),
    Read(u8),
    Rename(u8, u8),
    Link(u8, u8),
    Remove(u8),
    MakeDirectory(u8),
    RemoveDirectory(u8),
    Sync(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    // Few names, so that steps meet: files 0 to 3, of which two are in a directory that may be.
    let file = 0..4_u8;
    let step = prop_oneof![
        3 => file.clone().prop_map(Step::Create),
        3 => (file.clone(), 0..99_u16, prop::collection::vec(any::<u8>(), 0..50))
            .prop_map(|(name, offset, bytes)| Step::Write(name, offset, bytes)),
        1 => (file.clone(), 0..99_u16).prop_map(|(name, len)| Step::SetLen(name, len)),
        1 => file.clone().prop_map(Step::Allocate),
        1 => file.clone().prop_map(Step::Read),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => (file.clone(), file.clone()).prop_map(|(from, to)| Step::Link(from, to)),
        1 => file.clone().prop_map(Step::Remove),
        2 => (0..2_u8).prop_map(Step::MakeDirectory),
        1 => (0..2_u8).prop_map(Step::RemoveDirectory),
        1 => file.prop_map(Step::Sync),
    ];
    prop::collection::vec(step, 1..60)
}

fn perform(disk: &dyn FileSystem, root: &Path, step: &Step) -> io::Result<Vec<u8>> {
    let directory = |name: &u8| root.join(["x", "y"][usize::from(*name) % 2]);
    let path = |name: &u8| match name {
        0 | 1 => root.join(name.to_string()),
        _ => directory(name).join("file"),
    };
    let open = |name: &u8| disk.open(&path(name), Access::ReadWrite);
    let nothing = |()| Vec::new();
    match step {
        Step::Create(name) => disk.create_new(&path(name), 0o600).map(|_| Vec::new()),
        Step::Write(name, offset, bytes) => {
            open(name)?.write_all_at(bytes, u64::from(*offset)).map(nothing)
        }
        Step::SetLen(name, len) => open(name)?.set_len(u64::from(*len)).map(nothing),
        Step::Allocate(name) => open(name)?.allocate(4096).map(nothing),
        Step::Read(name) => disk.read(&path(name)),
        Step::Rename(from, to) => disk.rename(&path(from), &path(to)).map(nothing),
        Step::Link(original, link) => disk.hard_link(&path(original), &path(link)).map(nothing),
        Step::Remove(name) => disk.remove(&path(name)).map(nothing),
        Step::MakeDirectory(name) => disk.create_directory(&directory(name), 0o700).map(nothing),
        Step::RemoveDirectory(name) => disk.remove_directory(&directory(name)).map(nothing),
        Step::Sync(name) => open(name)?.sync_all().map(nothing),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    #[test]
    fn without_faults_it_answers_as_the_real_disk_does(steps in steps()) {
        let dir = tempfile::tempdir().unwrap();
        let simulated = disk();
        for step in &steps {
            let real = perform(&Disk, dir.path(), step).map_err(|error| error.kind());
            let ours = perform(&simulated, Path::new(DIR), step).map_err(|error| error.kind());
            prop_assert_eq!(ours, real, "{:?}", step);
            for below in ["", "x", "y"] {
                let real = listing(&Disk, dir.path(), below);
                prop_assert_eq!(listing(&simulated, Path::new(DIR), below), real);
            }
        }
    }
}

// === helpers ===

const POWER_LOST_ALL: After = After::PowerLoss { seed: 0 };
const POWER_KEPT_ALL: After = After::PowerLoss { seed: 1 };

fn disk() -> SimulatedDisk {
    let disk = SimulatedDisk::new();
    disk.create_directory(Path::new(DIR), 0o700).unwrap();
    disk.sync_directory(Path::new("/")).unwrap();
    disk
}

fn at(name: &str) -> PathBuf {
    Path::new(DIR).join(name)
}

fn create(disk: &SimulatedDisk, name: &str) -> Box<dyn OpenFile> {
    disk.create_new(&at(name), 0o600).unwrap()
}

fn left(disk: &SimulatedDisk, after: After, name: &str) -> Option<Vec<u8>> {
    disk.survivors(after).content(&at(name))
}

fn after_power_loss(disk: &SimulatedDisk, seed: u64) -> Option<Vec<u8>> {
    left(disk, After::PowerLoss { seed }, "a")
}

fn listing(disk: &dyn FileSystem, root: &Path, below: &str) -> Option<Vec<(PathBuf, Kind, u64)>> {
    let entries = disk.list(&root.join(below)).ok()?;
    let mut listing: Vec<_> = entries
        .into_iter()
        .map(|entry| {
            let metadata = disk.metadata(&entry.path).unwrap();
            assert_eq!(metadata.kind, entry.kind);
            let len = if entry.kind == Kind::File { metadata.len } else { 0 };
            (entry.path.strip_prefix(root).unwrap().to_owned(), entry.kind, len)
        })
        .collect();
    listing.sort_unstable();
    Some(listing)
}
