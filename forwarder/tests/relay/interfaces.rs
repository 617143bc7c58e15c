//! Listeners and rules by the name of a network interface, whose addresses come and go.
//!
//! The tests run in network namespaces of their own, by starting themselves again there.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use schemas::vocab::Timestamp;

use crate::support::{Scene, accept, pass, read_to_end, tcp_client, tcp_target, until};

/// Says that this process is in the namespace of the test.
const INSIDE: &str = "WEIR_TEST_NAMESPACE";

/// Whether this process is in a network namespace of its own. Otherwise the test is run in one, and
/// is over; or it cannot be run, which is printed. `test` is its name with the module.
pub(crate) fn is_inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root makes network namespaces");
        return false;
    }
    let own = std::env::current_exe().unwrap();
    let mut again = Command::new("unshare");
    again.args(["--net", "--"]).arg(own).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = again.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{complaints}");
    false
}

pub(crate) fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

/// Two interfaces that are wired to each other, without addresses, but for those of IPv6 that the
/// kernel gives them.
fn wire(has_ipv6: bool) {
    ip("link set lo up");
    ip("link add weir0 type veth peer name weir1");
    if !has_ipv6 {
        std::fs::write("/proc/sys/net/ipv6/conf/weir0/disable_ipv6", "1").unwrap();
    }
    ip("link set weir0 up");
    ip("link set weir1 up");
}

/// What was told of listeners since the last time.
fn told(scene: &mut Scene) -> Vec<String> {
    scene.follow_names();
    let events = scene.listener_news(Timestamp(1));
    assert!(events.iter().all(|event| event.kind == "listener"));
    events.into_iter().map(|event| event.message).collect()
}

#[test]
fn a_listener_follows_the_addresses_of_its_interface() {
    if !is_inside("interfaces::a_listener_follows_the_addresses_of_its_interface") {
        return;
    }
    wire(false);
    let target = tcp_target();
    let rules = format!(
        "[[service]]\nname = \"s\"\nlisten = [\"tcp://weir0:0\"]\ntarget = [\"{}\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\nlimit = [{{ per = \"service\", sessions = 2 }}]\n",
        target.local_addr().unwrap()
    );
    let mut scene = Scene::start(&rules);
    let first = told(&mut scene);
    assert!(first[0].contains("weir0 has no address; it is waited for"), "{first:?}");
    assert!(told(&mut scene).is_empty(), "it is told once");

    ip("addr add 10.99.0.1/24 dev weir0");
    ip("addr add 10.99.0.2/24 dev weir0");
    let mut news = Vec::new();
    until("both are bound", || {
        news.extend(told(&mut scene));
        news.len() >= 2
    });
    assert!(news.iter().all(|text| text.starts_with("listening on tcp://10.99.0.")), "{news:?}");
    let addresses: Vec<SocketAddr> = scene.addresses();
    let bound = |ip: &str| *addresses.iter().find(|at| at.ip().to_string() == ip).unwrap();
    let mut client = tcp_client(bound("10.99.0.1"));
    let mut at_target = accept(&target);
    pass(&mut client, &mut at_target, b"before");

    ip("addr del 10.99.0.2/24 dev weir0");
    let mut news = Vec::new();
    until("one is closed", || {
        news.extend(told(&mut scene));
        !news.is_empty()
    });
    assert!(news[0].contains("no longer listening on tcp://10.99.0.2:0"), "{news:?}");
    assert_eq!(scene.addresses().len(), 1);
    pass(&mut client, &mut at_target, b"the other goes on");

    // All of them are under one limit.
    let _second = tcp_client(bound("10.99.0.1"));
    let _second_at_target = accept(&target);
    let mut third = tcp_client(bound("10.99.0.1"));
    assert!(read_to_end(&mut third).is_err(), "two sessions are the limit");
    drop((client, at_target));
}

#[test]
fn a_link_local_address_is_listened_on_with_its_interface() {
    if !is_inside("interfaces::a_link_local_address_is_listened_on_with_its_interface") {
        return;
    }
    wire(true);
    let target = tcp_target();
    let rules = format!(
        "[[service]]\nname = \"s\"\nlisten = [\"tcp://weir0:0\"]\ntarget = [\"{}\"]\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n",
        target.local_addr().unwrap()
    );
    let mut scene = Scene::start(&rules);
    // The kernel gives the address and checks for a while that nobody else has it.
    until("the link-local address is bound", || {
        for text in told(&mut scene) {
            println!("{text}");
        }
        !scene.addresses().is_empty()
    });
    let address = scene.addresses()[0];
    assert!(matches!(address, SocketAddr::V6(address) if address.scope_id() != 0), "{address}");
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"hello").unwrap();
    let mut heard = [0; 5];
    accept(&target).read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"hello");
}

#[test]
fn a_rule_by_interface_is_about_its_own_addresses_only() {
    if !is_inside("interfaces::a_rule_by_interface_is_about_its_own_addresses_only") {
        return;
    }
    wire(false);
    ip("addr add 10.99.0.1/24 dev weir0");
    ip("addr add 10.99.0.7/24 dev weir1");
    let target = tcp_target();
    let rules = format!(
        "[[service]]\nname = \"s\"\nlisten = [\"tcp://127.0.0.1:0\"]\ntarget = [\"{}\"]\n\
         [[rule]]\nname = \"own\"\nfrom = [\"weir0\"]\naction = \"block\"\n\
         [[rule]]\nname = \"all\"\naction = \"pass\"\n",
        target.local_addr().unwrap()
    );
    let mut scene = Scene::start(&rules);
    let is_blocked = |scene: &Scene, from: &str| {
        let mut client = crate::names::client(from, scene.address(0));
        let refused = read_to_end_of(&mut client, &target);
        drop(client);
        refused
    };
    assert!(is_blocked(&scene, "10.99.0.1"));
    assert!(!is_blocked(&scene, "10.99.0.7"), "its network is not meant");
    ip("addr add 10.99.0.3/24 dev weir0");
    until("the new address is known", || {
        scene.follow_names();
        is_blocked(&scene, "10.99.0.3")
    });
}

/// Whether the client is turned away, and not taken to the target.
fn read_to_end_of(client: &mut TcpStream, target: &std::net::TcpListener) -> bool {
    target.set_nonblocking(true).unwrap();
    let mut refused = None;
    client.set_nonblocking(true).unwrap();
    until("the verdict", || {
        if target.accept().is_ok() {
            refused = Some(false);
        } else if !matches!(client.read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
        {
            refused = Some(true);
        }
        refused.is_some()
    });
    refused.unwrap()
}
