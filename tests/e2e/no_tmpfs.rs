//! A machine whose `/dev/shm` is full, or no tmpfs: the account goes on in ordinary memory, and says
//! what a kill would take along.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::Command;

use e2e_tests::address;
use e2e_tests::endpoint::{Plan, TcpServer, connect, exchange};
use e2e_tests::scene::Scene;
use e2e_tests::wait;

use crate::rows::{integer, text};

/// What a shell is told so that the program after it sees another `/dev/shm`.
fn with_mount(mount: &str) -> String {
    format!("exec unshare --mount sh -c '{mount} && exec \"$0\" run -c \"$1\"' \"$0\" \"$1\"")
}

fn can_mount() -> bool {
    let tried = Command::new("unshare")
        .args(["--mount", "sh", "-c", "mount -t tmpfs -o size=16k none /dev/shm"])
        .output();
    let can = tried.is_ok_and(|tried| tried.status.success());
    if !can {
        eprintln!("skipped: this user may not mount anything in a namespace of its own");
    }
    can
}

/// A scene with a recorder, and where its forwarder will listen.
fn scene(server: SocketAddr) -> (Scene, SocketAddr) {
    let mut scene = Scene::new();
    let listen = scene.free_address();
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{server}\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n"
    ));
    scene.start_recorder();
    (scene, listen)
}

fn warnings(scene: &Scene, kind: &str) -> Vec<String> {
    scene.flush();
    let question = format!("select message from events where kind = '{kind}' order by ts");
    scene.rows(&["sql", &question]).iter().map(|row| text(row, "message").to_owned()).collect()
}

#[test]
fn without_room_on_tmpfs_or_without_one_every_session_is_accounted_and_the_risk_is_told() {
    if !can_mount() {
        return;
    }
    let server = TcpServer::start(address::own());
    for (mount, why) in [
        ("mount -t tmpfs -o size=16k none /dev/shm", "No space left on device"),
        ("mount --bind /proc /dev/shm", "/dev/shm is not a tmpfs"),
    ] {
        let (mut scene, listen) = scene(server.address());
        scene.start_forwarder_after(&with_mount(mount));
        let plan = Plan { up: 5_000, down: 30_000 };
        for client in 0..5 {
            assert_eq!(exchange(scene.client(client), listen, plan).unwrap().received, plan.down);
        }
        assert!(scene.stop_forwarder().success());
        let told = warnings(&scene, "no_tmpfs");
        assert!(
            told.len() == 1
                && told[0].starts_with("no counter table on /dev/shm (")
                && told[0].contains(why)
                && told[0].ends_with(
                    "counts since the last slot edge would not survive a crash of the forwarder"
                ),
            "{told:?}"
        );
        let sums = "select count(*) as n, sum(bytes_up) as up, sum(bytes_down) as down, \
            max(quality) as quality from sessions";
        let row = &scene.rows(&["sql", sums])[0];
        let found = ["n", "up", "down", "quality"].map(|name| integer(row, name));
        assert_eq!(found, [5, 25_000, 150_000, 0]);
        scene.analyze(&["verify"]).fine();
    }
}

#[test]
fn a_kill_without_a_counter_table_is_told_and_the_account_says_what_it_does_not_know() {
    if !can_mount() {
        return;
    }
    let server = TcpServer::start(address::own());
    let (mut scene, listen) = scene(server.address());
    let mount = with_mount("mount -t tmpfs -o size=16k none /dev/shm");
    scene.start_forwarder_after(&mount);
    exchange(scene.client(0), listen, Plan { up: 100, down: 200 }).unwrap();
    let plan = Plan { up: 5_000, down: 1 };
    let mut open = connect(scene.client(1), listen).unwrap();
    open.write_all(&plan.up_bytes()[..2_000]).unwrap();
    open.read_exact(&mut [0; 1]).unwrap();
    wait::until("the first session is in the tables", || {
        scene.flush();
        (scene.rows(&["sessions"]).len() == 1).then_some(())
    });
    scene.forwarder().kill();
    scene.start_forwarder_after(&mount);
    assert!(scene.stop_forwarder().success());
    let told = warnings(&scene, "recovery");
    assert!(
        told.len() == 1
            && told[0].contains("its counter table is gone: sessions open then are known"),
        "{told:?}"
    );
    let said = scene.analyze(&["verify"]).fine();
    assert!(said.stdout.contains("note: "), "{}", said.stdout);
}
