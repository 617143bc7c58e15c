//! Limits without sockets: bounds, threads, and what is remembered where.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use forwarder_core::config::Environment;
use schemas::vocab::Direction;
use tempfile::TempDir;

use super::*;

const QUOTA: &str = "quota = { up = \"1 MB\", every = \"day\", tz = \"UTC\" }";

/// A rule with limits.
fn config(limits: &str) -> Config {
    let source = format!(
        "[[service]]\nname = \"s\"\nlisten = [\"tcp://127.0.0.1:1\"]\ntarget = [\"127.0.0.1:2\"]\n\
         [[rule]]\nname = \"r\"\naction = \"pass\"\n{limits}\n"
    );
    let environment = Environment {
        host_name: "test".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: BTreeMap::new(),
    };
    Config::parse(&source, "forwarder.toml", &environment)
        .unwrap_or_else(|faults| panic!("{faults}"))
}

struct Scene {
    limits: Limits,
    rule: RuleLimits,
}

impl Scene {
    fn new(spool: &TempDir, limits: &str) -> Self {
        let config = config(limits);
        let limits = Limits::open(spool.path(), Clock::start());
        let rule = limits.of_rule(&config.rules[0], |_| Ok::<_, ()>(7)).unwrap();
        limits.put_in_force(&config);
        Self { limits, rule }
    }

    fn admit(&self, client: u32, now: Instant) -> Result<Rc<Grant>, Hit> {
        let client = IpAddr::V4(Ipv4Addr::from_bits(client));
        let keys = Keys { service: "s", customer: "", client };
        self.limits.admit(&self.rule, &keys, now).map(|grant| grant.unwrap())
    }

    /// Has a client send so many bytes.
    fn send(&self, client: u32, bytes: usize) {
        let now = self.limits.inside.clock.now();
        let grant = self.admit(client, now).unwrap();
        grant.received(Direction::Up, bytes, self.limits.inside.clock.wall(now));
    }

    fn in_use(&self) -> u64 {
        self.limits.snapshot(10).0[0].in_use
    }
}

fn dir() -> TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn threads_together_let_in_no_more_than_may_be_and_free_what_they_took() {
    let spool = dir();
    let scene = Scene::new(
        &spool,
        "[[rule.limit]]\nper = \"rule\"\nsessions = 5\n[[rule.limit]]\nper = \"client\"\nsessions = 3\n",
    );
    let (now, most, let_in) = (Instant::now(), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for client in 0..8 {
            let (scene, most, let_in) = (&scene, &most, &let_in);
            scope.spawn(move || {
                for _ in 0..2_000 {
                    let grants: Vec<_> =
                        (0..4).filter_map(|_| scene.admit(client, now).ok()).collect();
                    assert!(grants.len() <= 3);
                    let running = let_in.fetch_add(grants.len() as u64, Ordering::SeqCst);
                    most.fetch_max(running + grants.len() as u64, Ordering::SeqCst);
                    let_in.fetch_sub(grants.len() as u64, Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 5);
    assert!(scene.limits.snapshot(100).0.iter().all(|state| state.in_use == 0));
    assert!((1..=9).contains(&scene.limits.snapshot(100).1));
}

#[test]
fn nothing_is_counted_by_one_limit_when_another_refuses() {
    let spool = dir();
    let scene = Scene::new(
        &spool,
        "[[rule.limit]]\nper = \"rule\"\nsessions = 1\n\
         [[rule.limit]]\nper = \"client\"\nnew_sessions = \"2/1h\"\n",
    );
    let now = Instant::now();
    let first = scene.admit(1, now).unwrap();
    for _ in 0..10 {
        assert_eq!(&*scene.admit(2, now).unwrap_err().limit, "rule sessions");
    }
    drop(first);
    drop(scene.admit(2, now).unwrap());
    drop(scene.admit(2, now).unwrap());
    let hit = scene.admit(2, now).unwrap_err();
    assert_eq!(
        (&*hit.limit, hit.id, hit.reason),
        ("client new_sessions", 7, DenyReason::LimitRate)
    );
    assert_eq!(scene.limits.counters().refused.load(Ordering::Relaxed), 11);
}

#[test]
fn a_flood_of_clients_is_refused_at_the_bound_and_forgotten_when_their_time_is_over() {
    let spool = dir();
    let scene = Scene::new(&spool, "[[rule.limit]]\nper = \"client\"\nnew_sessions = \"1/1h\"\n");
    let now = Instant::now();
    let known = (0..80_000).filter(|&client| scene.admit(client, now).is_ok()).count();
    assert!((60_000..=65_536).contains(&known), "{known}");
    let unknown = scene.limits.counters().refused_unknown.load(Ordering::Relaxed);
    assert_eq!(unknown, 80_000 - known as u64);
    assert_eq!(scene.admit(79_999, now).map(drop).unwrap_err().reason, DenyReason::TableFull);
    let later = now + Duration::from_secs(3600);
    let known = (100_000..160_000).filter(|&client| scene.admit(client, later).is_ok()).count();
    assert!(known > 55_000, "{known}");
}

#[test]
fn a_flood_that_a_limit_of_all_refuses_takes_no_room_of_single_clients() {
    let spool = dir();
    let scene = Scene::new(
        &spool,
        "[[rule.limit]]\nper = \"rule\"\nsessions = 1\n[[rule.limit]]\nper = \"client\"\nsessions = 1\n",
    );
    let now = Instant::now();
    let _first = scene.admit(0, now).unwrap();
    for client in 1..70_000 {
        assert_eq!(&*scene.admit(client, now).unwrap_err().limit, "rule sessions");
    }
    assert_eq!(scene.limits.snapshot(10).1, 2, "of all, and of the first client");
}

#[test]
fn clients_that_come_and_go_by_the_hundred_thousand_are_not_refused() {
    let spool = dir();
    let scene = Scene::new(&spool, "[[rule.limit]]\nper = \"client\"\nsessions = 1\n");
    let now = Instant::now();
    (0..150_000).for_each(|client| drop(scene.admit(client, now).unwrap()));
}

#[test]
fn clients_that_left_nothing_behind_take_no_room() {
    let spool = dir();
    let scene = Scene::new(&spool, "[[rule.limit]]\nper = \"client\"\nsessions = 1\n");
    let now = Instant::now();
    let seconds = (0..100_000).map(|client| (client, now + Duration::from_secs(client.into())));
    for (client, at) in seconds {
        drop(scene.admit(client, at).unwrap());
    }
}

#[test]
fn what_was_used_outlives_a_kill_because_it_is_in_memory_that_does() {
    let spool = dir();
    let killed = Scene::new(&spool, QUOTA);
    killed.send(1, 400_000);
    // Nothing was saved, and nobody ends it in order.
    drop(killed);
    assert!(!spool.path().join("quotas").exists());
    let again = Scene::new(&spool, QUOTA);
    again.send(1, 100_000);
    assert_eq!(again.in_use(), 500_000);
    again.limits.close();
}

#[test]
fn what_was_saved_outlives_the_machine() {
    let spool = dir();
    let stopped = Scene::new(&spool, QUOTA);
    stopped.send(1, 400_000);
    stopped.limits.close();
    drop(stopped);
    let again = Scene::new(&spool, QUOTA);
    again.send(1, 600_000);
    let hit = again.admit(1, Instant::now()).unwrap_err();
    assert_eq!((&*hit.limit, hit.reason), ("client quota", DenyReason::Quota));
    assert!(again.admit(2, Instant::now()).is_ok(), "another client has its own");
    again.limits.close();
}

#[test]
fn a_saved_file_that_is_damaged_is_not_believed_and_saved_anew() {
    let spool = dir();
    let file = spool.path().join("quotas");
    for damaged in [&b"WEIRQTA1"[..], b"", &[0xff; 4096]] {
        fs::write(&file, damaged).unwrap();
        let scene = Scene::new(&spool, QUOTA);
        scene.send(1, 1000);
        scene.limits.close();
        assert!(forwarder_core::limit::read_cells(&fs::read(&file).unwrap()).is_ok());
        fs::remove_file(&file).unwrap();
    }
}

#[test]
fn a_quota_can_be_saved_beside_a_save_that_was_cut_short() {
    let spool = dir();
    fs::write(spool.path().join("quotas.new"), b"half").unwrap();
    let scene = Scene::new(&spool, QUOTA);
    scene.send(1, 1000);
    scene.limits.close();
    let saved = fs::read(spool.path().join("quotas")).unwrap();
    assert_eq!(forwarder_core::limit::read_cells(&saved).unwrap().len(), 1);
    assert!(!spool.path().join("quotas.new").exists());
}
