//! What a bandwidth limit holds back, whatever way the payload takes.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use forwarder::relay::Tuning;
use forwarder_core::session::Route;
use schemas::vocab::Transport::Tcp;

use crate::modes::{Mode, in_every_mode};
use crate::support::*;

in_every_mode! {
    a_fin_comes_after_all_that_is_held_back_in_both_directions
}

fn a_fin_comes_after_all_that_is_held_back_in_both_directions(mode: Mode) {
    const LEN: usize = 18 << 10;
    let target = tcp_target();
    let service = one_service(Tcp, &[target.local_addr().unwrap()]);
    let stage = mode.start_with(&format!(
        "{service}limit = [{{ per = \"client\", \
         bandwidth = {{ up = \"16 KiB/s\", down = \"16 KiB/s\", burst = \"2 KiB\" }} }}]\n"
    ));
    let mut ends = [tcp_client(stage.scene.address(0)), accept(&target)];
    let (bytes, started) = (pattern(LEN), Instant::now());
    for end in &mut ends {
        end.write_all(&bytes).unwrap();
        end.shutdown(Shutdown::Write).unwrap();
    }
    for end in &mut ends {
        assert!(read_to_end(end).unwrap() == bytes, "byte for byte, and then the FIN");
    }
    let took = started.elapsed().as_secs_f64();
    assert!(took >= 0.8, "{took} s for 16 KiB at 16 KiB/s");
    drop(ends);
    let session = stage.scene.finish().sessions.remove(0);
    assert_eq!(session.end_reason, "done");
    assert_eq!(bytes_of(&session), [LEN as i64; 4]);
    let Some(recorder) = stage.recorder else { return };
    assert_eq!((session.captured_bytes, session.capture_dropped_bytes), (2 * LEN as i64, 0));
    let kept = recorder.finish().remove(&1).unwrap();
    assert!(kept.payload.up == bytes && kept.payload.down == bytes);
}

#[test]
fn a_session_that_was_idle_gets_its_burst_and_no_more() {
    const RATE: f64 = 100_000.0;
    // The burst, and what a turn and the buffers on the way may make of it.
    const AHEAD: f64 = 3.0 * 8192.0;
    for route in [Route::Copy, Route::Splice] {
        let target = tcp_target();
        let service = one_service(Tcp, &[target.local_addr().unwrap()]);
        let limit = "limit = [{ per = \"client\", bandwidth = { down = \"100 kB/s\", \
                     burst = \"8 KiB\" } }]\n";
        let tuning = Tuning { route, ..Tuning::default() };
        let scene = Scene::start_tuned(&format!("{service}{limit}"), tuning);
        let (mut client, mut server) = (tcp_client(scene.address(0)), accept(&target));
        pass(&mut client, &mut server, b"question");
        pass(&mut server, &mut client, b"answer");
        // Silence that an average over the session would credit with the whole of what follows.
        std::thread::sleep(Duration::from_millis(1000));
        let started = Instant::now();
        server.write_all(&pattern(90_000)).unwrap();
        let (mut got, mut buffer) = (0, vec![0; 64 << 10]);
        while got < 60_000 {
            got += client.read(&mut buffer).unwrap();
            let most = AHEAD + RATE * started.elapsed().as_secs_f64();
            assert!((got as f64) < most, "{route:?}: {got} bytes of {most}");
        }
        reset(client);
        drop(server);
        scene.finish();
    }
}
