//! An hour without a recorder has passed: the spool, written by the journal that forwarders write it
//! with, is delivered by a real forwarder to a real recorder.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use e2e_tests::account::{self, MadeUp, SESSIONS_PER_FRAME};
use e2e_tests::scene::Scene;
use journal::{Heading, Journal, Settings};
use schemas::vocab::SpoolId;
use schemas::wire::Frame;

use e2e_tests::figures::{Goal, Results};

const BOOT: &str = "k3f9x2ab";
/// Sessions a second while the recorder was away.
const RATE: u64 = 1000;
/// How often it is looked at what is left.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// When the waiting ends at the latest.
const PATIENCE: Duration = Duration::from_secs(600);
/// Memory that holds what is under way, however much waits.
const FLAT_MIB: f64 = 48.0;

/// Delivers so many sessions.
pub(crate) fn run(sessions: usize, results: &mut Results) -> Result<()> {
    let mut scene = Scene::new();
    let made = fill(&scene, sessions)?;
    let (listen, target) = (scene.free_address(), scene.free_address());
    scene.configure(&format!(
        "[[service]]\nname = \"web\"\nlisten = [\"tcp://{listen}\"]\ntarget = [\"{target}\"]\n\
         [[rule]]\nname = \"everyone\"\naction = \"pass\"\n"
    ));
    scene.start_recorder();
    let began = Instant::now();
    scene.start_forwarder();
    let mut most = [0_f64; 2];
    loop {
        for (most, process) in most.iter_mut().zip([0, 1]) {
            let process = if process == 0 { scene.forwarder() } else { scene.recorder() };
            *most = most.max(process.resident_bytes()? as f64 / f64::from(1 << 20));
        }
        let left = scene.status()["spool"]["unacknowledged_frames"].as_u64();
        if left == Some(0) {
            break;
        }
        ensure!(began.elapsed() < PATIENCE, "{left:?} frames are left after {PATIENCE:?}");
        thread::sleep(LOOK_EVERY);
    }
    let acknowledged = began.elapsed().as_secs_f64();
    scene.flush();
    let published = began.elapsed().as_secs_f64();
    let counted = scene.rows(&["sql", "select count(*) as rows from sessions"]);
    let counted = counted.first().and_then(|row| row["rows"].as_i64());
    ensure!(counted == Some(made), "{counted:?} sessions of {made} are in the tables");
    scene.analyze(&["verify"]).fine();

    let made = made as f64;
    let goal = Some(Goal::AtLeast(10.0));
    let times = |seconds: f64| made / seconds / RATE as f64;
    results.add("catch-up", "sessions that waited", made, None);
    results.add("catch-up", "times real time, acknowledged", times(acknowledged), goal);
    results.add("catch-up", "times real time, published", times(published), goal);
    results.add(
        "catch-up",
        "forwarder's memory at most, MiB",
        most[0],
        Some(Goal::AtMost(FLAT_MIB)),
    );
    results.add("catch-up", "recorder's memory at most, MiB", most[1], None);
    Ok(())
}

/// Writes the spool of a boot that has ended.
fn fill(scene: &Scene, sessions: usize) -> Result<i64> {
    let mut settings = Settings::new(SpoolId(0x5eed));
    settings.heading = Heading { boot: BOOT.to_owned(), next_seq: 1, boot_ended: false };
    let spool = Journal::open(&scene.path("spool"), settings).context("cannot make a spool")?;
    let (mut spool, _) = spool;
    let mut made = MadeUp::new("edge-1", BOOT, RATE);
    let mut append = |frame: Frame, next_seq: i64, ended: bool| {
        let heading = Heading { boot: BOOT.to_owned(), next_seq, boot_ended: ended };
        spool.set_heading(heading);
        spool.append(frame.kind, frame.payload).map(drop).context("cannot fill the spool")
    };
    for _ in 0..sessions.div_ceil(SESSIONS_PER_FRAME) {
        let rows = made.ended(SESSIONS_PER_FRAME);
        let next_seq = rows.first_seq().unwrap_or(1);
        append(account::rows_frame(0, rows), next_seq, false)?;
    }
    let (count, next_seq) = (made.sessions(), made.rows() + 1);
    let (slot, end) = made.end();
    append(account::rows_frame(0, slot), next_seq, false)?;
    append(account::end_frame(0, &end), next_seq + 1, true)?;
    spool.sync().context("cannot fill the spool")?;
    Ok(count)
}
