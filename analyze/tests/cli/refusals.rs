//! Bad input: each kind gets one clear sentence and its exit code.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use e2e_tests::process::{finished, output};
use schemas::manifest::checkpoint_file;

use crate::support::account::Account;
use crate::support::{Data, Run, analyze};

#[track_caller]
fn refused(run: &Run, code: i32, sentence: &str) {
    assert!(run.stderr.contains(sentence), "{:?} is not in {:?}", sentence, run.stderr);
    assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn usage_errors_exit_64() {
    let data = Data::with(&Account::whole());
    let cases: &[(&[&str], &str)] = &[
        (&["frobnicate"], "unrecognized subcommand"),
        (&["usage", "--since", "yesterday"], "--since \"yesterday\" is not a time"),
        (&["usage", "--period", "2026-10", "--since", "-7d"], "cannot be used with"),
        (&["usage", "--by", "colour"], "use service, rule, customer"),
        (&["usage", "--by", "client/24,client/16"], "--by gives client_network twice"),
        (&["usage", "--by", "reason"], "does not know it"),
        (&["denied", "--by", "target"], "does not know it"),
        (&["denied", "--target", "10.0.0.1"], "has no target"),
        (&["sessions", "--by", "client"], "takes no --by"),
        (&["sessions", "--long", "tall"], "write a whole number and a unit"),
        (&["top", "client", "--by", "service"], "cannot be used with"),
        (&["top", "colour"], "use service, rule, customer"),
        (&["top", "--sparkline", "--format", "csv"], "draws in table and markdown only"),
        (&["usage", "--compare"], "--compare needs a period that has a beginning"),
        (&["usage", "--compare", "--by", "day,month"], "one of hour, day and month"),
        (&["traffic", "--by", "client"], "--by takes hour, day or month"),
        (&["ends", "--open"], "is about sessions that ended"),
        (&["sizes", "--by", "reason"], "does not know it"),
        (&["usage", "--client", "example.com"], "neither an address nor a network"),
        (&["usage", "--format", "html"], "only `bill` writes html"),
        (&["usage", "--format", "yaml"], "use table, csv, json, ndjson, markdown or parquet"),
        (
            &["usage", "--where", "colour = red"],
            "\"colour\" is no column; there are: session node boot",
        ),
        (&["usage", "--having", "bytes_up >"], "expected a value"),
        (&["usage", "--having", "colour = red"], "there are: customer sessions bytes_up"),
        (&["usage", "--having", "sessions > many"], "expected a number, not \"many\""),
        (&["usage", "--having", "customer > 1 and sessions like 1"], "`like` compares text"),
        (&["usage", "--where", "bytes_down > abc"], "expected a number, not \"abc\""),
        (&["usage", "--where", "bytes_down in 10.0.0.0/8"], "expected a number"),
        (&["usage", "--where", "slot_start > yesterday"], "expected a time, not \"yesterday\""),
        (&["usage", "--where", "is_final = 7"], "expected true or false"),
        (&["usage", "-n", "0"], "0 is not in 1.."),
        (&["usage", "--tz", "Mars/Olympus"], "is not a time zone"),
        (&["session", "k3f9x2ab"], "expected <boot>-<number>, as in k3f9x2ab-1042"),
        (&["sql", "select 1", "--timeout", "1"], "its unit is missing"),
        (&["sql", "select 1", "--memory", "much"], "\"much\" is not a size"),
        (&["session", "K3F9X2AB-1"], "expected <boot>-<number>"),
    ];
    for (arguments, sentence) in cases {
        refused(&data.analyze(arguments), 64, sentence);
    }
}

#[test]
fn a_session_that_does_not_exist_exits_66() {
    let data = Data::with(&Account::whole());
    let run = data.analyze(&["session", "k3f9x2ab-1042"]);
    refused(&run, 66, "there is no session k3f9x2ab-1042 in ");
}

#[test]
fn packets_that_are_not_there_are_refused_and_leave_no_file() {
    let data = Data::with(&Account::whole());
    let file = data.path().join("session.pcapng");
    let pcap = |session: &str| data.analyze(&["pcap", session, "-o", file.to_str().unwrap()]);
    refused(&pcap("k3f9x2ab-1042"), 66, "there is no session k3f9x2ab-1042");
    refused(&pcap("not-a-session"), 64, "expected <boot>-<number>");
    refused(&pcap("k3f9x2ab-2"), 66, "session k3f9x2ab-2 has no capture");
    refused(&pcap("p7q8r9s0-1"), 66, "session p7q8r9s0-1 has not ended");
    // The index leads to a file that is gone.
    refused(&pcap("k3f9x2ab-1"), 66, "2026-10-26.pcapng is gone");
    assert!(!file.exists());
    refused(&data.analyze(&["wireshark", "k3f9x2ab-1042"]), 66, "there is no session");
}

#[test]
fn packets_in_a_file_that_is_still_open_are_not_passed_over_in_silence() {
    let mut account = Account::whole();
    for session in account.sessions.iter_mut().filter(|session| session.session_no < 3) {
        session.captured_bytes = 3_500;
    }
    let data = Data::with(&account);
    // One has a first part in the index, the other nothing.
    let partly = data.analyze(&["pcap", "k3f9x2ab-1", "--payload", "down"]);
    refused(&partly, 66, "500 bytes of the payload of session k3f9x2ab-1 are not in the index");
    refused(&data.analyze(&["pcap", "k3f9x2ab-2"]), 66, "type `recorder flush` and ask again");
    let session = data.analyze(&["session", "k3f9x2ab-2"]).stdout;
    assert!(session.contains("has not closed yet (recorder flush)"), "{session}");
    // Packets are written as far as they are there, and are said to be incomplete.
    let packets = data.analyze(&["pcap", "k3f9x2ab-1"]).stderr;
    assert!(packets.starts_with("analyze: 500 bytes of the payload"), "{packets}");
}

#[test]
fn a_directory_that_is_not_ours_exits_66() {
    let dir = tempfile::tempdir().unwrap();
    for path in [dir.path().to_owned(), dir.path().join("absent")] {
        refused(&analyze(&path, &["usage"]), 66, "is not a Weir data directory");
    }
}

#[test]
fn a_newer_format_exits_78() {
    let data = Data::empty();
    fs::write(data.path().join("weir.json"), r#"{"format":2,"schema":"2.0"}"#).unwrap();
    refused(&data.analyze(&["usage"]), 78, "is of data format 2, this analyze reads up to 1");
}

#[test]
fn a_manifest_of_a_newer_format_exits_78() {
    let data = Data::with(&Account::whole());
    let path = data.path().join("manifest").join(checkpoint_file(1));
    let mut text = br#"{"format":2,"version":1,"all":"different""#.to_vec();
    let check = crc32c::crc32c(&text);
    text.extend_from_slice(format!(",\"check\":\"{check:08x}\"}}\n").as_bytes());
    fs::write(&path, text).unwrap();
    for command in ["usage", "verify"] {
        let run = data.analyze(&[command]);
        refused(&run, 78, "has format 2, written by a newer version of Weir");
        assert!(run.stderr.contains(path.to_str().unwrap()), "{}", run.stderr);
    }
}

#[test]
fn a_directory_without_permission_exits_77() {
    let data = Data::with(&Account::whole());
    let path = data.path().join("manifest");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    // Permissions do not stop root.
    let stopped = fs::read_dir(&path).is_err();
    let run = data.analyze(&["usage"]);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    if stopped {
        refused(&run, 77, "run as a member of the group");
    }
}

#[test]
fn a_damaged_manifest_exits_74_and_is_named() {
    let mut data = Data::with(&Account::whole());
    data.commit(&Account::default());
    data.commit(&Account::default());
    let second = data.path().join(format!("manifest/{:020}.json", 2));
    fs::write(&second, "{").unwrap();
    refused(&data.analyze(&["usage"]), 74, "00000000000000000002.json: EOF while parsing");
    fs::remove_file(&second).unwrap();
    refused(&data.analyze(&["usage"]), 74, "version 2 of the manifest");
    fs::write(&second, r#"{"version":2,"log_through":0,"add":[{"table":"usage","path":"../x","rows":1,"bytes":1,"min_time_us":0,"max_time_us":0,"sha256":""}]}"#).unwrap();
    refused(&data.analyze(&["usage"]), 74, "not below the data directory");
}

#[test]
fn a_damaged_part_exits_74_and_is_named() {
    let data = Data::with(&Account::whole());
    let part = data.part_of("usage");
    let bytes = fs::read(&part).unwrap();
    fs::write(&part, &bytes[..bytes.len() / 2]).unwrap();
    let path = part.to_string_lossy().into_owned();
    for arguments in [&["usage"][..], &["sql", "from usage"], &["session", "k3f9x2ab-1"]] {
        let run = data.analyze(arguments);
        refused(&run, 74, &format!("a part is damaged: {path}: it has "));
    }
    fs::remove_file(&part).unwrap();
    refused(&data.analyze(&["usage"]), 74, &format!("a part is damaged: {path}: it is missing"));
}

#[test]
fn sql_that_makes_no_sense_exits_64() {
    let data = Data::with(&Account::whole());
    refused(&data.analyze(&["sql", "select 1; select 2"]), 64, "these are 2");
    refused(&data.analyze(&["sql", ""]), 64, "there is no statement");
    refused(&data.analyze(&["sql", "selec 1"]), 64, "syntax error");
    refused(&data.analyze(&["sql", "select colour from usage"]), 64, "colour");
}

#[test]
fn sql_may_come_from_standard_input() {
    let data = Data::with(&Account::whole());
    let mut child = Command::new(env!("CARGO_BIN_EXE_analyze"))
        .arg("--data")
        .arg(data.path())
        .args(["sql", "--format", "csv"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let statement = b"select session, end_reason from sessions where session = 'k3f9x2ab-3';";
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), statement).unwrap();
    let output = finished("analyze", &mut child);
    assert_eq!(output.stdout, b"session,end_reason\nk3f9x2ab-3,lost\n");
}

#[test]
fn a_report_that_cannot_be_written_leaves_nothing_behind() {
    let data = Data::with(&Account::whole());
    let run = data.analyze(&["usage", "-o", "/nonexistent/report.csv"]);
    refused(&run, 74, "cannot write /nonexistent/report.csv");
    let run = data.analyze(&["usage", "-o", ".."]);
    refused(&run, 64, "does not name a file");
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let data = Data::with(&Account::whole());
    let mut child = Command::new(env!("CARGO_BIN_EXE_analyze"))
        .arg("--data")
        .arg(data.path())
        .args(["sql", "from range(2000000)", "--format", "csv"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = finished("analyze", &mut child);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn an_end_by_signal_leaves_no_partial_file() {
    let data = Data::with(&Account::whole());
    let out = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_analyze"))
        .arg("--data")
        .arg(data.path())
        .args(["sql", "select repeat('x', 100) as x from range(20000000)", "--format", "csv", "-o"])
        .arg(out.path().join("big.csv"))
        .env("TMPDIR", out.path())
        .spawn()
        .unwrap();
    // The temporary file is there: the report is being written.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let being_written = || {
        fs::read_dir(out.path())
            .unwrap()
            .any(|e| e.unwrap().path().extension() == Some("part".as_ref()))
    };
    while !being_written() {
        assert!(std::time::Instant::now() < deadline, "the report was never begun");
        assert_eq!(child.try_wait().unwrap(), None, "it ended before it was told to");
        std::thread::yield_now();
    }
    let pid = child.id().to_string();
    assert!(output(Command::new("kill").args(["-INT", &pid])).status.success());
    assert_eq!(finished("analyze", &mut child).status.code(), Some(130));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}
