//! The account on a real spool and a real tmpfs.

use std::path::Path;
use std::sync::atomic::Ordering;

use forwarder::accounting::{Account, JournalThread, start};
use forwarder::clock::Clock;
use forwarder_core::accounting::{Denial, Ending, OpenSession, Opening};
use forwarder_core::config::{Config, Environment, WhenFull};
use journal::Entry;
use prost::Message;
use schemas::table::Event;
use schemas::vocab::{
    ClientAddr, CloseKind, DenyAction, DenyReason, Direction, EndPhase, EndReason, FirstFin,
    ListenAddr, Transport,
};
use schemas::wire::{BootEnd, FrameKind, Rows};

fn config(dir: &Path) -> Config {
    let spool = dir.join("spool");
    let text = format!(
        "node = \"edge\"\n[recorder]\nendpoint = \"unix:/nowhere\"\nspool = \"{}\"\n\
         [accounting]\nslot = \"1s\"\ntable = 64\n[admin]\nsocket = \"/nowhere\"\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:1\"]\ntarget = [\"127.0.0.1:2\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n",
        spool.display()
    );
    let environment = Environment {
        host_name: "edge".to_owned(),
        local_addresses: Vec::new(),
        congestion_controls: Vec::new(),
        files: std::collections::BTreeMap::new(),
    };
    Config::parse(&text, "test.toml", &environment).expect("the configuration is right")
}

fn open(account: &Account, clock: Clock) -> OpenSession {
    let name = |text| account.name_id(text).expect("the name area has room");
    account
        .open(&Opening {
            service: name("web"),
            rule: name("all"),
            customer: 0,
            config_rev: name("rev"),
            transport: Transport::Tcp,
            client: ClientAddr::new("127.0.0.2:4000".parse().expect("an address")),
            proxied_client: None,
            listen: ListenAddr::new("127.0.0.1:1".parse().expect("an address")),
            ts_start: clock.wall(clock.now()),
        })
        .expect("the table has room")
}

fn ending(clock: Clock) -> Ending {
    Ending {
        reason: EndReason::Done,
        phase: EndPhase::HalfClosed,
        first_fin: FirstFin::Client,
        client_close: CloseKind::Fin,
        target_close: CloseKind::Fin,
        errno: 0,
        ts_end: clock.wall(clock.now()),
        duration_us: 5,
    }
}

async fn stop(mut thread: JournalThread) {
    assert!(thread.finish().await);
    thread.close();
}

fn spooled(dir: &Path) -> (Vec<Rows>, Vec<BootEnd>) {
    let (mut rows, mut ends) = (Vec::new(), Vec::new());
    for entry in journal::scan(&dir.join("spool")).expect("the spool is readable") {
        if let Entry::Frame(frame, _) = entry.expect("the spool is whole") {
            match frame.kind {
                FrameKind::Rows => {
                    rows.push(Rows::decode(&frame.payload[..]).expect("our own rows"));
                }
                FrameKind::BootEnd => {
                    ends.push(BootEnd::decode(&frame.payload[..]).expect("our own end"));
                }
                _ => {}
            }
        }
    }
    (rows, ends)
}

#[tokio::test]
async fn an_orderly_boot_is_in_the_spool_with_its_end_and_without_its_table() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let (account, thread) = start(&config(dir.path()), clock).unwrap();
    let session = open(&account, clock);
    session.received(Direction::Up, 10, clock.wall(clock.now()));
    session.delivered(Direction::Up, 9);
    assert_eq!(account.live().next().unwrap().traffic.up.bytes, 9);
    session.end(ending(clock));
    stop(thread).await;

    let (frames, ends) = spooled(dir.path());
    let session = frames.iter().flat_map(|f| &f.sessions).next().unwrap();
    assert_eq!((session.session_no, session.bytes_up, session.received_up), (1, 9, 10));
    assert_eq!((session.service.as_str(), session.rule.as_str()), ("web", "all"));
    assert_eq!(session.end_reason, "done");
    assert_eq!(ends.len(), 1);
    assert!(ends[0].exact);
    assert_eq!((ends[0].last_session_no, ends[0].unopened), (1, 0));
    let mut seqs: Vec<i64> = frames.iter().flat_map(|f| f.seqs().collect::<Vec<_>>()).collect();
    seqs.sort_unstable();
    assert_eq!(seqs, (1..=ends[0].last_seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_table_refuses_and_a_flood_of_refusals_is_two_rows() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let mut config = config(dir.path());
    config.recorder.when_full = WhenFull::RefuseNew;
    let (account, thread) = start(&config, clock).unwrap();
    let sessions: Vec<_> = (0..64).map(|_| open(&account, clock)).collect();
    let opening = Opening {
        service: 0,
        rule: 0,
        customer: 0,
        config_rev: 0,
        transport: Transport::Tcp,
        client: ClientAddr::new("127.0.0.2:4000".parse().unwrap()),
        proxied_client: None,
        listen: ListenAddr::new("127.0.0.1:1".parse().unwrap()),
        ts_start: clock.wall(clock.now()),
    };
    assert_eq!(account.open(&opening).unwrap_err().reason, DenyReason::TableFull);
    for _ in 0..1000 {
        account.deny(Denial {
            service: 1,
            rule: 0,
            limit: 0,
            customer: 0,
            transport: Transport::Tcp,
            client: opening.client,
            listen: opening.listen,
            phase: EndPhase::Policy,
            reason: DenyReason::TableFull,
            action: DenyAction::Reset,
            bytes: 0,
            ts: opening.ts_start,
        });
    }
    drop(sessions);
    stop(thread).await;
    let (frames, _) = spooled(dir.path());
    let denied: Vec<_> = frames.iter().flat_map(|f| &f.denied).collect();
    assert!(denied.len() <= 3, "{denied:?}");
    assert_eq!(denied.iter().map(|row| row.count).sum::<i64>(), 1000);
    let ends: Vec<_> =
        frames.iter().flat_map(|f| &f.sessions).map(|r| r.end_reason.as_str()).collect();
    assert_eq!(ends, ["internal"; 64]);
}

#[tokio::test]
async fn sessions_beyond_a_full_table_are_one_account_that_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let (account, mut thread) = start(&config(dir.path()), clock).unwrap();
    let own: Vec<_> = (0..60).map(|_| open(&account, clock)).collect();
    assert!(own.iter().all(|session| !session.is_shared()));
    let shared: Vec<_> = (0..10).map(|_| open(&account, clock)).collect();
    assert!(shared.iter().all(|session| session.is_shared() && session.number() == 61));
    for (nth, session) in (1..).zip(&shared) {
        session.received(Direction::Up, nth, clock.wall(clock.now()));
        session.delivered(Direction::Up, nth);
        assert_eq!(session.traffic().up.bytes, nth, "its own part");
    }
    own.into_iter().chain(shared).for_each(|session| session.end(ending(clock)));
    assert!(thread.finish().await);
    thread.close();

    let (frames, ends) = spooled(dir.path());
    let sessions: Vec<_> = frames.iter().flat_map(|f| &f.sessions).collect();
    assert_eq!((sessions.len(), ends[0].last_session_no), (61, 61));
    let many = sessions.iter().find(|row| row.session_no == 61).unwrap();
    assert_eq!((many.bytes_up, many.quality, many.end_reason.as_str()), (55, 3, "drained"));
    assert_eq!(many.attributes.as_deref(), Some(r#"{"overflow_sessions":10}"#));
    assert_eq!((many.client_ip.as_str(), many.target_ip.as_deref()), ("::", None));
    assert!(sessions.iter().all(|row| row.session_no == 61 || row.attributes.is_none()));
    let told: Vec<_> =
        frames.iter().flat_map(|f| &f.events).filter(|event| event.kind == "table_full").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].session_no, told[0].threshold), (Some(61), Some(64.0)));
}

#[tokio::test]
async fn a_session_that_never_ended_is_left_to_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::start();
    let (account, mut thread) = start(&config(dir.path()), clock).unwrap();
    let session = open(&account, clock);
    session.received(Direction::Up, 10, clock.wall(clock.now()));
    session.delivered(Direction::Up, 10);
    assert!(!thread.finish().await, "there is no orderly end with a session open");
    thread.close();
    let (frames, ends) = spooled(dir.path());
    assert_eq!(ends, [], "with its end the next start would not look into its table");
    assert!(frames.iter().all(|frame| frame.sessions.is_empty()), "{frames:?}");
}

#[tokio::test]
async fn events_are_rows() {
    let dir = tempfile::tempdir().unwrap();
    let (account, thread) = start(&config(dir.path()), Clock::start()).unwrap();
    account.event(Event { kind: "config".to_owned(), ..Event::default() });
    stop(thread).await;
    let (frames, _) = spooled(dir.path());
    let kinds: Vec<_> = frames.iter().flat_map(|f| &f.events).map(|e| e.kind.as_str()).collect();
    assert_eq!(kinds, ["boot", "config"]);
}

#[tokio::test]
async fn a_spool_that_was_full_takes_rows_again_when_everything_in_it_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(dir.path());
    config.recorder.spool_max_bytes = 64 << 10;
    let (account, thread) = start(&config, Clock::start()).unwrap();
    let spool = thread.spool();
    let event = || Event { message: "x".repeat(10 << 10), ..Event::default() };
    wait_until("the spool is full", || {
        account.event(event());
        spool.bytes() > config.recorder.spool_max_bytes
    });
    // The first refusal, and with it the trouble that only an acknowledgement can end.
    account.event(Event { kind: "after".to_owned(), ..event() });

    wait_until("it begins afresh", || {
        spool.acknowledged.store(*spool.durable.borrow(), Ordering::Release);
        spool.bytes() < config.recorder.spool_max_bytes
    });
    stop(thread).await;
    let (frames, ends) = spooled(dir.path());
    let kinds: Vec<_> = frames.iter().flat_map(|f| &f.events).map(|e| e.kind.as_str()).collect();
    assert!(kinds.contains(&"after") && kinds.contains(&"spool_back"), "{kinds:?}");
    assert!(ends[0].exact);
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    e2e_tests::wait::until(what, || condition().then_some(()));
}
