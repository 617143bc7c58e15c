//! What `make install` puts in place works from there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e_tests::binary;
use e2e_tests::process::try_output;
use e2e_tests::scene::Said;

/// The files as installed below a directory of their own.
fn install(into: &Path) -> Said {
    let root =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package lies in the workspace");
    let built = binary::path("forwarder");
    let built = built.parent().expect("a file has a directory");
    Said::of(
        Command::new("make")
            .args(["--no-print-directory", "install-files", "PREFIX=/usr"])
            .arg(format!("DESTDIR={}", into.display()))
            .arg(format!("BUILT={}", built.display()))
            .current_dir(root)
            .env_remove("MAKEFLAGS")
            .stdin(Stdio::null()),
    )
    .fine()
}

fn run(program: &Path, arguments: &[&str]) -> Said {
    Said::of(Command::new(program).args(arguments).env_clear().current_dir("/"))
}

#[test]
fn installed_programs_run_from_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    for program in ["forwarder", "recorder", "analyze"] {
        let said = run(&dir.path().join("usr/bin").join(program), &["--version"]).fine();
        assert_eq!(said.stdout, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

#[test]
fn installed_examples_are_right() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    // The users of the units exist only after systemd-sysusers; any user of this machine will do.
    let recorder = dir.path().join("etc/weir/recorder.toml");
    let text = fs::read_to_string(&recorder).unwrap();
    assert!(text.contains("\"weir-recorder\"") || text.contains("\"weir-forwarder\""));
    fs::write(&recorder, text.replace("\"weir-forwarder\"", "\"nobody\"")).unwrap();
    for program in ["forwarder", "recorder"] {
        let config = dir.path().join(format!("etc/weir/{program}.toml")).display().to_string();
        run(&dir.path().join("usr/bin").join(program), &["check", "-c", &config]).fine();
    }
}

#[test]
fn installing_again_leaves_the_operators_files_alone() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let config = dir.path().join("etc/weir/forwarder.toml");
    fs::write(&config, "# mine\n").unwrap();
    install(dir.path());
    assert_eq!(fs::read_to_string(config).unwrap(), "# mine\n");
}

#[test]
fn installed_units_start_what_was_installed() {
    let dir = tempfile::tempdir().unwrap();
    install(dir.path());
    let mut units: Vec<PathBuf> = Vec::new();
    for program in ["forwarder", "recorder"] {
        let unit = dir.path().join(format!("usr/lib/systemd/system/weir-{program}.service"));
        let text = fs::read_to_string(&unit).unwrap();
        assert!(
            text.contains(&format!(
                "ExecStart=/usr/bin/{program} run -c /etc/weir/{program}.toml\n"
            ))
        );
        // For systemd-analyze, which wants the program to be there.
        let here = text.replace("=/usr/bin/", &format!("={}/usr/bin/", dir.path().display()));
        fs::write(&unit, here).unwrap();
        units.push(unit);
    }
    let mut analyze = Command::new("systemd-analyze");
    let Ok(said) = try_output(analyze.args(["verify", "--man=no"]).args(&units)) else {
        println!("systemd-analyze is not here: the units were read as text only");
        return;
    };
    let words = String::from_utf8_lossy(&said.stderr);
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("weir-")).collect();
    assert!(said.status.success() && ours.is_empty(), "{words}");
}
