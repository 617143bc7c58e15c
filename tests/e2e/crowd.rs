//! Very many sessions, and no descriptor left.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail like tests")]

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e_tests::endpoint::{Target, connect};
use e2e_tests::process::Process;
use e2e_tests::scene::Scene;
use e2e_tests::{address, descriptors, wait};

use crate::rows::integer;
use crate::tcp::scene_with;

/// Tells the child which file to write the target's address to.
const CHILD_FILE: &str = "E2E_TEST_TARGET_FILE";
/// The limit of open files under which the sessions must run.
const LIMIT: u64 = 20_000;
/// Most anonymous memory of the forwarder per idle session, in bytes, of a debug build. `make bench`
/// measures the release build, of which at most 2.5 KiB are wanted.
const MOST_MEMORY: u64 = 8 << 10;
/// Descriptors that the forwarder may open and close for itself meanwhile, as for its recorder.
const OWN: usize = 8;
/// Clients that connect before the forwarder is looked at again.
const BATCH: usize = 500;

#[test]
fn nine_thousand_five_hundred_idle_sessions_take_two_descriptors_each() {
    if let Some(file) = env::var_os(CHILD_FILE) {
        return hold_whatever_comes(file.into());
    }
    let sessions = usize::from(descriptors::sessions(9_500, 200, 2));
    let mut scene = Scene::new();
    // Each end of a session takes a descriptor: the targets' ends are in a process of their own.
    let (mut targets, target) = target_process(&scene, "holds_targets");
    let listen = scene.free_address();
    scene.write_forwarder_config(
        "[accounting]\nslot = \"1s\"\ntable = 16384\n",
        &format!(
            "[timeouts]\ndrain = \"30s\"\n[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\n\
             target = [\"{target}\"]\n\n[[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
        ),
    );
    scene.start_recorder();
    scene.start_forwarder_after(&format!("ulimit -n {LIMIT} || true"));
    let before = (held(&mut scene), scene.forwarder().resident_bytes().unwrap());

    let mut clients = Vec::with_capacity(sessions);
    while clients.len() < sessions {
        let more = BATCH.min(sessions - clients.len());
        let client = || connect(SocketAddr::new(scene.ip(), 0), listen).unwrap();
        clients.extend((0..more).map(|_| client()));
        // No queue of the kernel's fills, however slow the machine.
        let wanted = before.0 + 2 * clients.len();
        wait::until("each client has a target, and two descriptors", || {
            held(&mut scene).abs_diff(wanted).le(&OWN).then_some(())
        });
    }
    let memory = scene.forwarder().resident_bytes().unwrap().saturating_sub(before.1);
    let each = memory / u64::try_from(sessions).unwrap();
    assert!(each <= MOST_MEMORY, "{each} bytes of forwarder memory for an idle session");
    assert_eq!(scene.status()["sessions"]["current"], sessions);

    drop(clients);
    targets.kill();
    wait::until("all descriptors are back", || {
        held(&mut scene).abs_diff(before.0).le(&OWN).then_some(())
    });
    assert!(scene.stop_forwarder().success());
    scene.flush();
    let rows = scene.rows(&["sql", "select count(*) as sessions from sessions"]);
    assert_eq!(usize::try_from(integer(&rows[0], "sessions")), Ok(sessions));
}

#[test]
fn when_the_kernel_has_no_descriptor_left_accepting_rests_without_spinning_and_resumes() {
    const CLIENTS: u16 = 20;
    let target = Target::start(address::own());
    let (mut scene, listen) = scene_with(target.address(), "");
    let mut client = connect(scene.client(0), listen).unwrap();
    let mut server = target.accept();
    // Its own count of descriptors has room for thousands; the kernel has none.
    let open = scene.forwarder().descriptors().unwrap();
    let lowest_free = (0..).find(|number| !open.contains(number)).expect("few are open");
    scene.forwarder().limit_descriptors(lowest_free);
    let late: Vec<TcpStream> =
        (1..=CLIENTS).map(|number| connect(scene.client(number), listen).unwrap()).collect();
    wait::until("accepting rests", || {
        scene.forwarder().log().contains("accepting rests").then_some(())
    });

    let (used, started) = (scene.forwarder().processor_time().unwrap(), Instant::now());
    wait::until("a second has passed", || {
        (started.elapsed() > Duration::from_secs(1)).then_some(())
    });
    let used = scene.forwarder().processor_time().unwrap() - used;
    assert!(used < started.elapsed() * 3 / 10, "{used:?} of processor time on doing nothing");
    client.write_all(b"still here").unwrap();
    server.read_exact(&mut [0; 10]).unwrap();

    scene.forwarder().limit_descriptors(lowest_free + 1000);
    // A descriptor that came free meanwhile, such as the one to the recorder, let a client in for
    // whose target there was none.
    let refused = |scene: &mut Scene| scene.forwarder().log().matches("reason=resource").count();
    let mut served = Vec::new();
    while served.len() + refused(&mut scene) < usize::from(CLIENTS) {
        match target.next() {
            Some(connection) => served.push(connection),
            None => {
                let settled = served.len() + refused(&mut scene);
                assert_eq!(settled, usize::from(CLIENTS), "{}", scene.forwarder().log());
            }
        }
    }
    drop((late, client, server, served));
    assert!(scene.stop_forwarder().success());
}

/// How many descriptors the forwarder holds.
fn held(scene: &mut Scene) -> usize {
    scene.forwarder().descriptors().unwrap().len()
}

/// A process that accepts and holds whatever comes, and where.
fn target_process(scene: &Scene, name: &str) -> (Process, SocketAddr) {
    let file = scene.path(name);
    let test = "crowd::nine_thousand_five_hundred_idle_sessions_take_two_descriptors_each";
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD_FILE, &file);
    let process = Process::start(name, &mut command, file.with_extension("log"));
    let address = wait::until("the target listens", || {
        fs::read_to_string(&file).ok()?.strip_suffix('\n')?.parse().ok()
    });
    (process, address)
}

/// The child: it is killed when the test has seen enough, and ends by itself when nobody comes.
fn hold_whatever_comes(file: PathBuf) {
    descriptors::sessions(u16::MAX, 0, 1);
    let target = Target::start(address::own());
    fs::write(file, format!("{}\n", target.address())).unwrap();
    let mut held = Vec::new();
    while let Some(session) = target.next() {
        held.push(session);
    }
}
