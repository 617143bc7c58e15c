//! Targets that lead back to us.

use std::io::ErrorKind;
use std::net::SocketAddr;

use schemas::vocab::Transport::Tcp;

use crate::support::*;

#[test]
fn a_name_that_means_our_own_listener_is_a_loop_at_once() {
    let elsewhere = tcp_target().local_addr().unwrap();
    let mut scene = Scene::start(&service_on("tcp://0.0.0.0:0", &[elsewhere]));
    let port = scene.address(0).port();
    let named = service_on("tcp://0.0.0.0:0", &[])
        .replace("target = []", &format!("target = [\"localhost:{port}\"]"));
    scene.reload(&named);
    let mut client = tcp_client(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let rows = scene.finish();
    let reasons: Vec<_> = rows.sessions.iter().map(|row| row.end_reason.as_str()).collect();
    assert_eq!(reasons, ["loop"]);
}

/// Neither of them can see that the other sends everything back. Each client costs as many sessions
/// as a limit lets it, and then all of them end, because the last one is refused.
#[test]
fn two_that_send_everything_to_each_other_go_round_until_a_limit_ends_all_of_it() {
    const SESSIONS: usize = 20;
    let limited = |target: SocketAddr| {
        let service = one_service(Tcp, &[target]);
        format!("{service}limit = [{{ per = \"service\", sessions = {SESSIONS} }}]\n")
    };
    let nowhere = "127.0.0.1:9".parse().unwrap();
    let mut one = Scene::start(&limited(nowhere));
    let other = Scene::start(&limited(one.address(0)));
    one.reload(&limited(other.address(0)));
    let mut client = tcp_client(one.address(0));
    assert_eq!(read_to_end(&mut client), Err(ErrorKind::ConnectionReset));
    let [one, other] = [one, other].map(Scene::finish);
    assert_eq!((one.sessions.len(), other.sessions.len()), (SESSIONS, SESSIONS));
    let [denied] = &one.denied[..] else { panic!("{:?}", one.denied) };
    assert_eq!((&*denied.reason, denied.count), ("limit_sessions", 1));
    assert_eq!(other.denied, []);
}
