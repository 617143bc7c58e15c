//! A wall clock that is wrong, and a disk that is full when we start: clear words, and an account
//! that is right all the same.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use e2e_tests::address;
use e2e_tests::clock::Clock;
use e2e_tests::endpoint::{Plan, TcpServer, exchange};
use e2e_tests::scene::{Said, Scene};
use e2e_tests::wait;
use serde_json::Value;

use crate::rows::{integer, text};

const HOUR: i64 = 3600;

/// None, and said so, where programs cannot be shown another clock.
fn clock_of(scene: &Scene) -> Option<Clock> {
    let clock = Clock::make(&scene.path("")).unwrap();
    if clock.is_none() {
        eprintln!("skipped: without a C compiler no program can be shown another clock");
    }
    clock
}

fn service(listen: SocketAddr, target: SocketAddr) -> String {
    format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n"
    )
}

/// The steps that the account tells of, in seconds.
fn steps(scene: &Scene) -> Vec<f64> {
    scene.flush();
    let rows =
        scene.rows(&["sql", "select value from events where kind = 'clock_step' order by seq"]);
    rows.iter().filter_map(|row| row["value"].as_f64()).collect()
}

#[test]
fn a_clock_set_back_an_hour_and_to_1970_leaves_the_account_exact() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    let Some(clock) = clock_of(&scene) else { return };
    let listen = scene.free_address();
    scene.configure(&service(listen, server.address()));
    scene.start_recorder_after(&clock.word());
    scene.start_forwarder_after(&clock.word());
    let plan = Plan { up: 5_000, down: 30_000 };
    let mut client = 0;
    let mut session = || {
        client += 1;
        let seen = exchange(scene.client(client), listen, plan).unwrap();
        assert_eq!(seen.received, plan.down);
    };
    for (told, step) in (1..).zip(["back an hour", "on again", "to 1970", "on again"]) {
        session();
        match step {
            "back an hour" => clock.shift(-HOUR),
            "to 1970" => clock.to_1970(),
            _ => clock.shift(0),
        }
        wait::until(step, || (steps(&scene).len() >= told).then_some(()));
    }
    session();
    assert!(scene.stop_forwarder().success());
    let steps = steps(&scene);
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert!((steps[0] + 3600.0).abs() < 10.0 && (steps[1] - 3600.0).abs() < 10.0, "{steps:?}");
    assert!(steps[2] < -1e9 && steps[3] > 1e9, "{steps:?}");

    let sums = "select count(*) as sessions, sum(bytes_up) as up, sum(bytes_down) as down, \
         min(duration_us) as shortest, min(connect_us) as connected, max(quality) as quality from sessions";
    let of = |row: &Value, names: [&str; 3]| names.map(|name| integer(row, name));
    let row = &scene.rows(&["sql", sums])[0];
    assert_eq!(of(row, ["sessions", "up", "down"]), [5, 25_000, 150_000]);
    let [shortest, connected, quality] = of(row, ["shortest", "connected", "quality"]);
    assert!(shortest >= 0 && connected >= 0 && quality == 0, "{row}");
    let usage =
        "select sum(bytes_up) as up, sum(bytes_down) as down, min(active_us) as active from usage";
    let row = &scene.rows(&["sql", usage])[0];
    let [up, down, active] = of(row, ["up", "down", "active"]);
    assert!((up, down) == (25_000, 150_000) && active >= 0, "{row}");
    let twice = "select count(*) as twice from (select 1 from slots where status <> 'DOWN' \
         group by boot, slot_start, clock_pass having count(*) > 1)";
    assert_eq!(integer(&scene.rows(&["sql", twice])[0], "twice"), 0);
    scene.analyze(&["verify"]).fine();
}

#[test]
fn a_recorder_that_thinks_it_is_1970_or_years_later_deletes_nothing() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    let Some(clock) = clock_of(&scene) else { return };
    let listen = scene.free_address();
    scene.configure(&service(listen, server.address()));
    scene.start_recorder();
    scene.start_forwarder();
    let plan = Plan { up: 100, down: 100 };
    for round in 0..3 {
        exchange(scene.client(round), listen, plan).unwrap();
        wait::until("the session is published", || {
            scene.flush();
            let rows = scene.rows(&["sql", "select count(*) as sessions from sessions"]);
            (integer(&rows[0], "sessions") == i64::from(round) + 1).then_some(())
        });
        assert!(scene.stop_recorder().success());
        if round == 0 {
            clock.to_1970();
        } else {
            clock.shift(10 * 365 * 24 * HOUR);
        }
        scene.start_recorder_after(&clock.word());
    }
    assert!(scene.stop_forwarder().success());
    scene.flush();
    scene.analyze(&["verify"]).fine();
    let ended = scene.rows(&["sql", "select end_reason from sessions"]);
    assert_eq!(ended.iter().map(|row| text(row, "end_reason")).collect::<Vec<_>>(), ["done"; 3]);
}

/// Runs a program whose directory `on` lies on a disk without room.
fn on_a_full_disk(scene: &Scene, program: &str, on: PathBuf) -> Option<Said> {
    fs::create_dir_all(&on).unwrap();
    let at = on.display();
    let full = format!(
        "mount -t tmpfs -o size=64k full {at} && {{ head -c 1M /dev/zero > {at}/full 2>/dev/null; true; }} || exit 99"
    );
    let run = scene.command_after(&full, program);
    let mut command = Command::new("unshare");
    command.arg("--mount").arg(run.get_program()).args(run.get_args());
    command.stdin(Stdio::null()).env_remove("RUST_LOG");
    let said = Said::of(&mut command);
    let denied = said.code == 99 || said.stderr.starts_with("unshare:");
    if denied {
        eprintln!("skipped: this user may not mount a small disk: {}", said.stderr);
    }
    (!denied).then_some(said)
}

#[test]
fn a_spool_on_a_full_disk_is_refused_at_the_start() {
    let scene = Scene::new();
    scene.configure(&service(scene.free_address(), scene.free_address()));
    let Some(said) = on_a_full_disk(&scene, "forwarder", scene.path("spool")) else { return };
    said.refused(74, &["spool", "No space left on device"]);
}

#[test]
fn a_data_directory_on_a_full_disk_is_refused_at_the_start() {
    let scene = Scene::new();
    let Some(said) = on_a_full_disk(&scene, "recorder", scene.data()) else { return };
    said.refused(74, &["data", "No space left on device"]);
}
