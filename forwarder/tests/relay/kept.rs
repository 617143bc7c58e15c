//! Whose payload is kept.

use schemas::vocab::Transport::Tcp;

use crate::recorder::Recorder;
use crate::support::*;

#[test]
fn payload_is_kept_of_the_clients_whose_rule_says_so_and_of_nobody_else() {
    let target = tcp_target();
    let watched = "[[rule]]\nname = \"watched\"\nfrom = [\"127.0.0.2\"]\ncapture = \"full\"\n\
                   action = \"pass\"\n[[rule]]\nname = \"all\"";
    let services = one_service(Tcp, &[target.local_addr().unwrap()]);
    let services = services.replacen("[[rule]]\nname = \"all\"", watched, 1);
    let recorder = Recorder::start();
    let setup = Setup { capture: recorder.lane(), ..Setup::default() };
    let scene = Scene::start_with(&services, setup);
    for ip in ["127.0.0.3", "127.0.0.2", "127.0.0.1"] {
        let mut client = tcp_client_from(&format!("{ip}:0"), scene.address(0));
        let mut server = accept(&target);
        pass(&mut client, &mut server, b"question");
        pass(&mut server, &mut client, b"answer");
    }
    let rows = scene.finish();
    let captured: Vec<_> = rows.sessions.iter().map(|session| session.captured_bytes).collect();
    assert_eq!(captured, [0, 14, 0]);
    let kept = recorder.finish();
    assert_eq!(kept.keys().copied().collect::<Vec<_>>(), [2]);
    assert_eq!(
        (&kept[&2].payload.up[..], &kept[&2].payload.down[..]),
        (&b"question"[..], &b"answer"[..])
    );
}
