//! The manifest on a real disk.

use std::fs;
use std::path::Path;

use schemas::manifest::{BootMark, SpoolMark};

use super::*;
use crate::data_dir::Group;

fn open(data: &Path) -> Result<Manifest, ManifestError> {
    Manifest::open(&Files::new(data, Group::nobody()))
}

fn empty() -> (tempfile::TempDir, Manifest) {
    let data = tempfile::tempdir().unwrap();
    fs::create_dir(data.path().join(DIRECTORY)).unwrap();
    let manifest = open(data.path()).unwrap();
    (data, manifest)
}

fn part(path: &str) -> Part {
    Part {
        table: "usage".into(),
        path: path.into(),
        rows: 3,
        bytes: 99,
        min_time_us: 1,
        max_time_us: 2,
        sha256: "00".into(),
    }
}

fn boot(boot: &str, last_seq: i64) -> BootMark {
    BootMark { node: "edge-1".into(), boot: boot.into(), last_seq, ..BootMark::default() }
}

#[test]
fn what_was_committed_is_found_by_the_next_start() {
    let (data, mut manifest) = empty();
    let spool = SpoolMark {
        spool_id: "00000000000000ff".into(),
        node: "edge-1".into(),
        last_frame: 7,
        last_crc: 9,
    };
    let first = Delta {
        add: vec![part("a"), part("b")],
        spools: vec![spool.clone()],
        boots: vec![boot("aaaaaaaa", 5), boot("bbbbbbbb", 1)],
        log_through: 10,
        ..Delta::default()
    };
    manifest.commit(first).unwrap();
    let second = Delta {
        remove: vec!["a".into()],
        boots: vec![boot("aaaaaaaa", 8)],
        log_through: 12,
        ..Delta::default()
    };
    manifest.commit(second).unwrap();

    let found = open(data.path()).unwrap();
    assert_eq!(found.version(), 2);
    assert_eq!(found.parts().map(|p| p.path.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(found.totals()["usage"], Totals { parts: 1, rows: 3, bytes: 99 });
    assert_eq!(found.marks().spool("00000000000000ff"), Some(&spool));
    assert_eq!(found.marks().boot("edge-1", "aaaaaaaa").unwrap().last_seq, 8);
    assert_eq!(found.marks().boot("edge-1", "bbbbbbbb").unwrap().last_seq, 1);
    assert_eq!(found.marks().log_through(), 12);
    assert_eq!(found.marks(), manifest.marks());
}

#[test]
fn a_temporary_file_was_never_committed() {
    let (data, _) = empty();
    let temporary = data.path().join(DIRECTORY).join(delta_file(1) + TEMPORARY);
    fs::write(&temporary, "{\"ver").unwrap();
    assert_eq!(open(data.path()).unwrap().version(), 0);
    assert!(!temporary.exists());
}

#[test]
fn a_version_cut_off_before_its_temporary_name_went_is_committed() {
    let (data, mut manifest) = empty();
    manifest.commit(Delta { log_through: 4, ..Delta::default() }).unwrap();
    let path = data.path().join(DIRECTORY).join(delta_file(1));
    let temporary = data.path().join(DIRECTORY).join(delta_file(1) + TEMPORARY);
    fs::hard_link(&path, &temporary).unwrap();
    assert_eq!(open(data.path()).unwrap().marks().log_through(), 4);
    assert!(!temporary.exists() && path.exists());
}

#[test]
fn a_version_is_never_overwritten() {
    let (data, mut manifest) = empty();
    let path = data.path().join(DIRECTORY).join(delta_file(1));
    fs::write(&path, "{}").unwrap();
    // As an attempt leaves it that could not remove the temporary name.
    fs::hard_link(&path, data.path().join(DIRECTORY).join(delta_file(1) + TEMPORARY)).unwrap();
    let refused = manifest.commit(Delta::default()).unwrap_err();
    assert!(matches!(refused, ManifestError::Taken { .. }), "{refused}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "{}");
    assert_eq!(manifest.version(), 0);
}

#[test]
fn a_damaged_a_renamed_and_a_missing_version_are_told() {
    let (data, mut manifest) = empty();
    for _ in 0..3 {
        manifest.commit(Delta::default()).unwrap();
    }
    let path = |version| data.path().join(DIRECTORY).join(delta_file(version));
    let whole = fs::read(path(3)).unwrap();
    fs::write(path(3), &whole[..whole.len() / 2]).unwrap();
    assert!(open(data.path()).unwrap_err().to_string().contains("is damaged"));
    fs::write(path(3), fs::read(path(2)).unwrap()).unwrap();
    assert!(open(data.path()).unwrap_err().to_string().contains("it says"));
    fs::remove_file(path(2)).unwrap();
    assert!(open(data.path()).unwrap_err().to_string().contains("00002.json is missing"));
}

/// As many versions as make two checkpoints, and a few more.
fn long_history() -> (tempfile::TempDir, Manifest) {
    let (data, mut manifest) = empty();
    manifest.set_checkpoints_every(3);
    for version in 1..=8 {
        let add = vec![part(&format!("part-{version}"))];
        manifest.commit(Delta { add, log_through: version, ..Delta::default() }).unwrap();
        manifest.checkpoint_if_due();
    }
    (data, manifest)
}

fn names(data: &Path) -> Vec<String> {
    let entries = fs::read_dir(data.join(DIRECTORY)).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn what_is_older_than_the_last_checkpoint_but_one_is_deleted() {
    let (data, manifest) = long_history();
    let expected = [
        checkpoint_file(3),
        delta_file(4),
        delta_file(5),
        checkpoint_file(6),
        delta_file(6),
        delta_file(7),
        delta_file(8),
    ];
    assert_eq!(names(data.path()), expected);
    assert_eq!(open(data.path()).unwrap().tables, manifest.tables);
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before_and_one_is_written_soon() {
    let (data, manifest) = long_history();
    let checkpoint = data.path().join(DIRECTORY).join(checkpoint_file(6));
    fs::write(&checkpoint, "{").unwrap();
    let found = open(data.path()).unwrap();
    assert_eq!(found.tables, manifest.tables);
    assert_eq!(found.checkpoints, [3]);
    // The one before is all that is left to build on.
    fs::write(data.path().join(DIRECTORY).join(checkpoint_file(3)), "{").unwrap();
    let told = open(data.path()).unwrap_err().to_string();
    assert!(told.contains("00001.json is missing") && told.contains("recorder recover"), "{told}");
}

#[test]
fn a_flipped_byte_anywhere_never_changes_the_tables() {
    let (data, manifest) = long_history();
    let mut refused = 0;
    for name in names(data.path()) {
        let path = data.path().join(DIRECTORY).join(&name);
        let whole = fs::read(&path).unwrap();
        // Each is a whole start: every seventh byte of the longer files is enough here, the codec
        // is tried with every bit.
        for at in (0..whole.len()).step_by(7) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x20;
            fs::write(&path, &bytes).unwrap();
            match open(data.path()) {
                Ok(found) => assert_eq!(found.tables, manifest.tables, "{name} at {at}"),
                Err(ManifestError::Damaged { path: told, .. }) => {
                    assert_eq!(told, path);
                    refused += 1;
                }
                Err(other) => panic!("{name} at {at}: {other}"),
            }
        }
        fs::write(&path, &whole).unwrap();
    }
    assert!(refused > 50, "only {refused}");
}

#[test]
fn a_file_of_a_newer_format_is_refused() {
    let (data, _) = long_history();
    for name in [delta_file(8), checkpoint_file(6)] {
        let path = data.path().join(DIRECTORY).join(name);
        let whole = fs::read(&path).unwrap();
        let mut text = br#"{"format":2"#.to_vec();
        let check = crc32c::crc32c(&text);
        text.extend_from_slice(format!(",\"check\":\"{check:08x}\"}}\n").as_bytes());
        fs::write(&path, &text).unwrap();
        let refused = open(data.path()).unwrap_err();
        assert!(matches!(refused, ManifestError::Newer { format: 2, .. }), "{refused}");
        fs::write(&path, &whole).unwrap();
    }
}
