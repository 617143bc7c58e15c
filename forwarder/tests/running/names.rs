//! Names and interfaces of a running forwarder.

use std::time::{Duration, Instant};

use e2e_tests::name_server::NameServer;
use e2e_tests::process::finished;
use rustix::process::{Signal, kill_process};

use crate::support::*;

fn asking(server: &NameServer, target: &str) -> String {
    format!(
        "[dns]\nservers = [\"{}\"]\n[timeouts]\nresolve = \"2s\"\n\
         [[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:0\"]\ntarget = [\"{target}\"]\n\
         {EVERYONE}",
        server.address
    )
}

#[test]
fn a_listener_by_interface_listens_on_each_of_its_addresses() {
    let target = server("hello");
    let forwarder = Running::start(&(service("web", "\"tcp://lo:0\"", target) + EVERYONE));
    let listeners = forwarder.json(&["status"])["services"][0]["listeners"].clone();
    let shown = listeners.to_string();
    assert!(shown.contains("tcp://127.0.0.1:"), "{shown}");
    drop(hear(forwarder.address(0), "hello"));
    let paused = forwarder.json(&["pause", "web"]);
    assert_eq!(paused["changed"].as_array().unwrap().len(), listeners.as_array().unwrap().len());
}

#[test]
fn a_reload_knows_the_names_it_brings_before_it_is_in_force() {
    let names = NameServer::start();
    let (old, new) = (server("old"), server("new"));
    names.host("old.example.com.", 60, &["127.0.0.1"]);
    names.host("new.example.com.", 60, &["127.0.0.1"]);
    let forwarder = Running::start(&asking(&names, &format!("old.example.com:{}", old.port())));
    drop(hear(forwarder.address(0), "old"));
    assert!(forwarder.log().contains("name old.example.com is 127.0.0.1"), "{}", forwarder.log());

    forwarder.write(&asking(&names, &format!("new.example.com:{}", new.port())));
    assert!(forwarder.ask(&["reload"]).status.success());
    // Nobody is asked any more, and nobody needs to be.
    names.hang(true);
    drop(hear(forwarder.address(0), "new"));
    wait_for("the new name's line", || {
        forwarder.log().contains("name new.example.com is 127.0.0.1").then_some(())
    });
    let counted = forwarder.json(&["status"])["counters"].clone();
    assert!(counted["name_lookups"].as_u64().unwrap() >= 6, "{counted}");
}

#[test]
fn a_dead_name_server_delays_neither_start_nor_stop_for_long() {
    let names = NameServer::start();
    names.hang(true);
    let started = Instant::now();
    let mut forwarder = Running::start(&asking(&names, "web.example.com:80"));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    wait_for("a warning", || {
        forwarder.log().contains("name web.example.com is not known").then_some(())
    });
    kill_process(process(&forwarder), Signal::TERM).unwrap();
    assert!(finished("forwarder", &mut forwarder.process).status.success());
}
