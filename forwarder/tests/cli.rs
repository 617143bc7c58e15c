//! The program as it is typed: what it prints where, and what it exits with.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::path::Path;
use std::process::{Command, Output};

use e2e_tests::process::output;

const GOOD: &str = "[[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:8080\"]\n\
    target = [\"10.0.0.5:80\"]\n[[rule]]\nname = \"everyone\"\naction = \"pass\"\n";

fn forwarder(arguments: &[&str]) -> Output {
    output(Command::new(env!("CARGO_BIN_EXE_forwarder")).args(arguments))
}

/// Exit code, stdout and stderr.
fn said(arguments: &[&str]) -> (i32, String, String) {
    let Output { status, stdout, stderr } = forwarder(arguments);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_wrong_command_line_exits_with_64_and_says_why() {
    for wrong in [&["dance"][..], &["run", "--fast"], &["sessions", "--limit", "many"], &[]] {
        let (code, stdout, stderr) = said(wrong);
        assert_eq!((code, stdout.as_str()), (64, ""), "{wrong:?}");
        assert!(stderr.contains("--help"), "{stderr}");
    }
}

#[test]
fn help_and_version_are_no_error() {
    for asked in [&["--help"][..], &["-h"], &["--version"], &["help"], &["check", "--help"]] {
        let (code, stdout, stderr) = said(asked);
        assert_eq!((code, stderr.as_str()), (0, ""), "{asked:?}");
        assert!(stdout.contains("forwarder"));
    }
}

#[test]
fn what_barefoot_was_told_is_converted_or_refused_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let (old, new) = (dir.path().join("barefootd.conf"), dir.path().join("forwarder.toml"));
    let rule =
        "client pass { from: 0/0 to: 127.0.0.1 port = 8080 bounce to: 10.0.0.5 port = 80 }\n";
    std::fs::write(&old, format!("user.privileged: root\n{rule}")).unwrap();
    let (code, stdout, stderr) = said(&["convert", text(&old)]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("# line 1: user.privileged: root: not carried over"), "{stdout}");
    assert!(stderr.contains("1 statement could not be carried over"), "{stderr}");
    std::fs::write(&new, stdout).unwrap();
    let (code, stdout, stderr) = said(&["check", "-c", text(&new)]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("tcp://127.0.0.1:8080"), "{stdout}");
    std::fs::write(&old, "client pass {\n  from: 0/0 to: 127.0.0.1\n}\n").unwrap();
    let (code, stdout, stderr) = said(&["convert", text(&old)]);
    assert_eq!((code, stdout.as_str()), (78, ""));
    assert!(stderr.contains("barefootd.conf:1:1: client pass has no bounce to"), "{stderr}");
    std::fs::write(&old, rule.replace("10.0.0.5 port = 80", "127.0.0.1")).unwrap();
    let (code, stdout, stderr) = said(&["convert", text(&old)]);
    assert_eq!(code, 78);
    assert!(stdout.contains("[[service]]") && stderr.contains("our own listener"), "{stderr}");
}

#[test]
fn a_file_to_convert_that_is_not_there_does_not_exist() {
    let (code, stdout, stderr) = said(&["convert", "/nowhere/barefootd.conf"]);
    assert_eq!((code, stdout.as_str()), (66, ""));
    assert_eq!(stderr, "cannot read the file /nowhere/barefootd.conf: there is no such file\n");
}

#[test]
fn a_kill_of_nobody_in_particular_is_told_what_to_say() {
    let (code, stdout, stderr) = said(&["kill"]);
    assert_eq!((code, stdout.as_str()), (64, ""));
    for selector in ["ID", "--client", "--rule", "--service"] {
        assert!(stderr.contains(selector), "{stderr}");
    }
}

#[test]
fn check_says_what_a_good_file_means() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    std::fs::write(&file, GOOD).unwrap();
    let (code, stdout, _) = said(&["check", "-c", text(&file)]);
    assert_eq!(code, 0);
    for word in ["tcp://127.0.0.1:8080", "10.0.0.5:80", "everyone", "65,536 sessions"] {
        assert!(stdout.contains(word), "{word} is missing in\n{stdout}");
    }
    let (code, stdout, _) = said(&["check", "--json", "-c", text(&file)]);
    let json: serde_json::Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &json["service"][0]["name"]), (0, &"web".into()));
}

#[test]
fn check_warns_and_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    std::fs::write(&file, GOOD.replace("pass", "block").replace("target", "# target")).unwrap();
    // Nobody passes, and there is no target for anybody.
    assert_eq!(said(&["check", "-c", text(&file)]).0, 78);
    std::fs::write(&file, GOOD.replace("pass", "block")).unwrap();
    let (code, _, stderr) = said(&["check", "-c", text(&file)]);
    assert_eq!(code, 0);
    assert!(stderr.contains("f.toml:1:1: warning: every client of service \"web\""), "{stderr}");
}

#[test]
fn a_bad_file_exits_with_78_for_check_and_for_run() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    std::fs::write(&file, format!("nod = \"a\"\n{GOOD}target = 5\n")).unwrap();
    for command in ["check", "run"] {
        let (code, stdout, stderr) = said(&[command, "-c", text(&file)]);
        assert_eq!((code, stdout.as_str()), (78, ""), "{stderr}");
        let name = text(&file);
        assert!(stderr.contains(&format!("{name}:1:1: nod is not a key")), "{stderr}");
        assert!(stderr.contains(&format!("{name}:9:10: rule.target: expected")), "{stderr}");
    }
    let absent = dir.path().join("absent.toml");
    let (code, _, stderr) = said(&["run", "-c", text(&absent)]);
    assert_eq!(code, 78);
    assert!(stderr.contains("there is no such file"), "{stderr}");
}

#[test]
fn asking_nobody_exits_with_69() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("admin.sock");
    let file = dir.path().join("f.toml");
    // Broken, but for the one key that matters.
    std::fs::write(&file, format!("x = = 1\n[admin]\nsocket = \"{}\"\n", text(&socket))).unwrap();
    for command in ["status", "sessions", "reload"] {
        for by in [["--socket", text(&socket)], ["-c", text(&file)]] {
            let (code, stdout, stderr) = said(&[&[command][..], &by].concat());
            assert_eq!((code, stdout.as_str()), (69, ""), "{stderr}");
            assert!(stderr.contains("no forwarder runs here"), "{stderr}");
            assert!(stderr.contains(text(&socket)), "{stderr}");
        }
    }
}
