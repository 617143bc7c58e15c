//! Several forwarders and recorders: copies of spools, spools put back, a forwarder that is given
//! another recorder, one name for two, and directories that somebody else uses.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use e2e_tests::endpoint::{Plan, TcpServer, exchange};
use e2e_tests::process::Process;
use e2e_tests::scene::{Said, Scene, analyze};
use e2e_tests::{address, binary, wait};
use journal::Entry;
use prost::Message;
use schemas::wire::{FrameKind, Rows};
use serde_json::Value;

use crate::rows::text;

/// A forwarder beside the scene's own.
struct Forwarder {
    config: PathBuf,
    listen: SocketAddr,
    spool: PathBuf,
    log: PathBuf,
    process: Option<Process>,
}

impl Forwarder {
    /// Writes its configuration: a `node` with a spool of its own in the scene's directory.
    fn configure(
        scene: &Scene,
        stem: &str,
        node: &str,
        recorder: &Path,
        target: SocketAddr,
    ) -> Self {
        let dir = scene.path("");
        let (dir, recorder, listen) = (dir.display(), recorder.display(), scene.free_address());
        let text = format!(
            "node = \"{node}\"\n[recorder]\nendpoint = \"unix:{recorder}\"\nspool = \"{dir}/{stem}.spool\"\n\
             [accounting]\nslot = \"1s\"\ntable = 256\n[admin]\nsocket = \"{dir}/{stem}.sock\"\n\
             [[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
             [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
        );
        let config = scene.path(&format!("{stem}.toml"));
        fs::write(&config, text).expect("the scene's directory is writable");
        let spool = scene.path(&format!("{stem}.spool"));
        Self { config, listen, spool, log: scene.path(&format!("{stem}.log")), process: None }
    }

    fn command(&self, word: &str) -> Command {
        let mut command = Command::new(binary::path("forwarder"));
        command.arg(word).arg("-c").arg(&self.config).stdin(Stdio::null()).env_remove("RUST_LOG");
        command
    }

    fn start(&mut self) {
        let ready = Process::ready("forwarder", &mut self.command("run"), self.log.clone());
        self.process = Some(ready);
    }

    fn stop(&mut self) {
        assert!(self.process().terminate().success());
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("it was started")
    }

    fn status(&self) -> Value {
        let said = Said::of(self.command("status").arg("--json")).fine();
        serde_json::from_str(&said.stdout).expect("the status is JSON")
    }

    /// One session through it.
    fn serve(&self, client: SocketAddr) {
        exchange(client, self.listen, Plan { up: 100, down: 200 }).expect("a session is relayed");
    }

    /// Waits until its spool holds the rows of so many sessions and a recorder has acknowledged
    /// them, as the spool's note says.
    fn is_acknowledged(&self, sessions: usize) {
        wait::until("everything is acknowledged", || {
            let (spooled, last_frame) = self.spooled()?;
            let note = fs::read_to_string(self.spool.join("acked")).ok()?;
            let acked: u64 = note.split(' ').nth(2)?.parse().ok()?;
            (spooled >= sessions && acked >= last_frame).then_some(())
        });
    }

    /// Session rows in its spool, and the last frame.
    fn spooled(&self) -> Option<(usize, u64)> {
        let (mut sessions, mut last_frame) = (0, 0);
        for entry in journal::scan(&self.spool).ok()? {
            if let Entry::Frame(frame, _) = entry.ok()? {
                last_frame = frame.number;
                if frame.kind == FrameKind::Rows {
                    sessions += Rows::decode(&frame.payload[..]).ok()?.sessions.len();
                }
            }
        }
        Some((sessions, last_frame))
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("the scene's directory is writable");
    for entry in fs::read_dir(from).expect("it is a directory") {
        let path = entry.expect("it can be listed").path();
        if path.is_file() {
            let name = path.file_name().expect("a listed file has a name");
            fs::copy(&path, to.join(name)).expect("it can be copied");
        }
    }
}

/// How often each session is in a data directory, by its text id.
fn sessions(data: &Path) -> BTreeMap<String, usize> {
    let said = Said::of(&mut analyze(data, &["sessions", "--format", "json"])).fine();
    let rows: Vec<Value> = serde_json::from_str(&said.stdout).expect("rows are JSON");
    let mut found = BTreeMap::new();
    for row in &rows {
        *found.entry(text(row, "session").to_owned()).or_default() += 1;
    }
    found
}

fn kinds(scene: &Scene) -> Vec<String> {
    let rows = scene.rows(&["sql", "select kind from events order by ts"]);
    rows.iter().map(|row| text(row, "kind").to_owned()).collect()
}

#[track_caller]
fn assert_each_once(sessions: &BTreeMap<String, usize>, count: usize) {
    assert_eq!(sessions.len(), count, "{sessions:?}");
    assert!(sessions.values().all(|times| *times == 1), "{sessions:?}");
}

#[test]
fn a_spool_copied_to_a_second_machine_goes_its_own_way_and_nothing_is_there_twice() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    scene.start_recorder();
    let socket = scene.path("recorder.sock");
    let mut original = Forwarder::configure(&scene, "a", "edge-1", &socket, server.address());
    let mut copied = Forwarder::configure(&scene, "b", "edge-2", &socket, server.address());
    original.start();
    (0..5).for_each(|number| original.serve(scene.client(number)));
    original.is_acknowledged(5);
    copy(&scene.path("a.spool"), &scene.path("b.spool"));
    (5..10).for_each(|number| original.serve(scene.client(number)));
    original.is_acknowledged(10);

    copied.start();
    (10..15).for_each(|number| copied.serve(scene.client(number)));
    copied.is_acknowledged(10);
    (15..20).for_each(|number| original.serve(scene.client(number)));
    original.is_acknowledged(15);
    original.stop();
    copied.stop();
    scene.flush();
    assert_each_once(&sessions(&scene.data()), 20);
    let kinds = kinds(&scene);
    assert_eq!(kinds.iter().filter(|kind| *kind == "spool_forked").count(), 1, "{kinds:?}");
    scene.analyze(&["verify"]).fine();
    let ids = ["a", "b"].map(|stem| {
        fs::read_to_string(scene.path(&format!("{stem}.spool/id"))).expect("a spool has an id")
    });
    assert_ne!(ids[0].lines().next(), ids[1].lines().next());
}

#[test]
fn a_spool_put_back_to_an_earlier_state_says_so_and_nothing_is_there_twice() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    scene.start_recorder();
    let socket = scene.path("recorder.sock");
    let (spool, backup) = (scene.path("a.spool"), scene.path("backup"));
    let mut forwarder = Forwarder::configure(&scene, "a", "edge-1", &socket, server.address());
    forwarder.start();
    (0..5).for_each(|number| forwarder.serve(scene.client(number)));
    forwarder.is_acknowledged(5);
    copy(&spool, &backup);
    (5..10).for_each(|number| forwarder.serve(scene.client(number)));
    forwarder.is_acknowledged(10);
    forwarder.process().kill();

    // The counter table knows more than the spool that is put back.
    fs::remove_dir_all(&spool).expect("it is ours");
    copy(&backup, &spool);
    forwarder.start();
    (10..15).for_each(|number| forwarder.serve(scene.client(number)));
    forwarder.is_acknowledged(10);
    forwarder.stop();
    scene.flush();
    assert_each_once(&sessions(&scene.data()), 15);
    let kinds = kinds(&scene);
    for kind in ["spool_rolled_back", "recovery", "spool_forked"] {
        assert!(kinds.iter().any(|known| known == kind), "{kind} is missing in {kinds:?}");
    }
    scene.analyze(&["verify"]).fine();
}

#[test]
fn a_kill_between_the_new_id_on_disk_and_in_the_counter_table_costs_nothing() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    scene.start_recorder();
    let socket = scene.path("recorder.sock");
    let mut forwarder = Forwarder::configure(&scene, "a", "edge-1", &socket, server.address());
    forwarder.start();
    (0..3).for_each(|number| forwarder.serve(scene.client(number)));
    forwarder.is_acknowledged(3);
    forwarder.process().kill();
    let id = forwarder.spool.join("id");
    let old = fs::read_to_string(&id).expect("a spool has an id");
    fs::write(&id, format!("00000000000000aa\n{old}")).expect("it is ours");

    forwarder.start();
    forwarder.serve(scene.client(3));
    forwarder.is_acknowledged(4);
    forwarder.stop();
    scene.flush();
    assert_each_once(&sessions(&scene.data()), 4);
    let rows = scene.rows(&["sql", "select message from events where kind = 'recovery'"]);
    assert_eq!(rows.len(), 1);
    assert!(text(&rows[0], "message").contains("closed as lost"), "{rows:?}");
    let kinds = kinds(&scene);
    assert_eq!(kinds.iter().filter(|kind| *kind == "stream_start").count(), 2, "{kinds:?}");
    scene.analyze(&["verify"]).fine();
}

#[test]
fn a_forwarder_moved_to_another_recorder_and_back_has_each_session_in_one_of_them() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    scene.start_recorder();
    let mut other = Scene::new();
    other.start_recorder();
    let sockets = [&scene, &other].map(|scene| scene.path("recorder.sock"));
    let mut client = 0;
    let mut serve = |forwarder: &Forwarder| {
        for _ in 0..5 {
            forwarder.serve(scene.client(client));
            client += 1;
        }
    };
    for (round, socket) in [0, 1, 0, 1].into_iter().enumerate() {
        let socket = &sockets[socket];
        let mut forwarder = Forwarder::configure(&scene, "a", "edge-1", socket, server.address());
        forwarder.start();
        serve(&forwarder);
        // Its end is told to the next one.
        forwarder.is_acknowledged(5 * (round + 1));
        forwarder.process().kill();
    }
    let mut last = Forwarder::configure(&scene, "a", "edge-1", &sockets[0], server.address());
    last.start();
    last.is_acknowledged(20);
    last.stop();
    scene.flush();
    other.flush();
    let mut all = sessions(&scene.data());
    for (session, times) in sessions(&other.data()) {
        *all.entry(session).or_default() += times;
    }
    assert_each_once(&all, 20);
    scene.analyze(&["verify"]).fine();
    other.analyze(&["verify"]).fine();
}

#[test]
fn three_forwarders_are_killed_and_restarted_and_no_session_is_lost_or_twice() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    scene.start_recorder();
    let socket = scene.path("recorder.sock");
    let mut forwarders = ["a", "b", "c"].map(|stem| {
        Forwarder::configure(&scene, stem, &format!("edge-{stem}"), &socket, server.address())
    });
    forwarders.iter_mut().for_each(Forwarder::start);
    let mut client = 0;
    for round in 0..6 {
        for forwarder in &forwarders {
            forwarder.serve(scene.client(client));
            client += 1;
        }
        let victim = &mut forwarders[round % 3];
        if round % 2 == 0 {
            victim.process().kill();
        } else {
            victim.stop();
        }
        victim.start();
        if round == 3 {
            scene.recorder().kill();
            scene.start_recorder();
        }
    }
    forwarders.iter_mut().for_each(Forwarder::stop);
    scene.flush();
    assert_each_once(&sessions(&scene.data()), usize::from(client));
    scene.analyze(&["verify"]).fine();
}

#[test]
fn of_two_forwarders_by_one_name_the_second_is_refused_and_told_why() {
    let server = TcpServer::start(address::own());
    let mut scene = Scene::new();
    scene.start_recorder();
    let socket = scene.path("recorder.sock");
    let mut first = Forwarder::configure(&scene, "a", "edge-1", &socket, server.address());
    let mut second = Forwarder::configure(&scene, "b", "edge-1", &socket, server.address());
    first.start();
    first.serve(scene.client(0));
    first.is_acknowledged(1);
    second.start();
    second.serve(scene.client(1));
    let error = wait::until("the second is refused", || {
        let state = text(&second.status()["recorder"], "state").to_owned();
        state.contains("refuses").then_some(state)
    });
    assert!(error.contains("node edge-1 is connected already, as boot "), "{error}");
    let log = second.process().log();
    assert!(log.contains("give one of the two another `node`"), "{log}");
    assert!(scene.recorder().log().contains("node edge-1 is connected already"));

    // When the first has gone, the second has its turn: nothing was lost meanwhile.
    first.stop();
    second.is_acknowledged(1);
    second.stop();
    scene.flush();
    assert_each_once(&sessions(&scene.data()), 2);
    assert!(kinds(&scene).iter().any(|kind| kind == "recorder_refuses"));
    scene.analyze(&["verify"]).fine();
}

#[test]
fn a_spool_that_another_forwarder_uses_is_refused_with_75() {
    let server = TcpServer::start(address::own());
    let scene = Scene::new();
    let socket = scene.path("recorder.sock");
    let mut first = Forwarder::configure(&scene, "a", "edge-1", &socket, server.address());
    first.start();
    let second = Forwarder::configure(&scene, "b", "edge-2", &socket, server.address());
    let config = fs::read_to_string(&second.config).expect("it was written");
    fs::write(&second.config, config.replace("b.spool", "a.spool")).expect("it is ours");
    let process = format!("process {}", first.process().id());
    Said::of(&mut second.command("run")).refused(75, &["a.spool is in use by", &process]);
}

#[test]
fn a_data_directory_that_another_recorder_uses_is_refused_with_75() {
    let mut scene = Scene::new();
    scene.start_recorder();
    let config = scene.path("second.toml");
    let dir = scene.path("");
    let dir = dir.display();
    let text = format!(
        "data = \"{dir}/data\"\nlisten = [\"unix:{dir}/second.sock\"]\n[admin]\nsocket = \"{dir}/second-admin.sock\"\n"
    );
    fs::write(&config, text).expect("the scene's directory is writable");
    let mut second = Command::new(binary::path("recorder"));
    second.arg("run").arg("-c").arg(&config).stdin(Stdio::null());
    let process = scene.recorder().id().to_string();
    Said::of(&mut second).refused(75, &["data", &process]);
}
