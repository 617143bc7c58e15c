//! What a reload changes, and what it refuses to.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene should fail")]

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use forwarder::load;
use forwarder::reload::Live;
use schemas::exit::{Exit, Failure};

const SERVICE: &str = "[[service]]\nname = \"web\"\nlisten = [\"tcp://127.0.0.1:8080\"]\n\
    target = [\"10.0.0.5:80\"]\n[[rule]]\nname = \"everyone\"\naction = \"pass\"\n";

fn live(file: &Path) -> Live {
    fs::write(file, format!("node = \"a\"\n{SERVICE}")).unwrap();
    Live::new(file, load::config(file).unwrap())
}

#[tokio::test]
async fn a_good_file_is_put_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let live = live(&file);
    let before = live.config().revision.clone();
    fs::write(
        &file,
        format!("node = \"a\"\n{}", SERVICE.replace("8080\"", "8081\", \"tcp://[::1]:8081\"")),
    )
    .unwrap();
    let applied = AtomicU32::new(0);
    let reloaded = live
        .reload(async |config| {
            assert_eq!(config.services[0].listeners.len(), 2);
            applied.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(applied.load(Ordering::Relaxed), 1);
    assert!(reloaded.changed && reloaded.config_rev != before);
    assert_eq!(reloaded.listeners_added, ["tcp://127.0.0.1:8081", "tcp://[::1]:8081"]);
    assert_eq!(reloaded.listeners_removed, ["tcp://127.0.0.1:8080"]);
    assert_eq!(live.config().revision, reloaded.config_rev);
    assert!(!live.reload(async |_| Ok(())).await.unwrap().changed);
}

#[tokio::test]
async fn a_file_that_does_not_come_holds_up_nobody_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let live = live(&file);
    let before = live.config();
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RWXU).unwrap();
    let reload = live.reload(async |_| panic!("there is nothing to apply"));
    let refused = tokio::time::timeout(Duration::from_secs(60), reload).await;
    // Lets whoever still waits to read go, for the test to end. Opened both ways, it blocks nobody.
    drop(fs::File::options().read(true).write(true).open(&file).unwrap());
    let failure = refused.unwrap().unwrap_err();
    assert_eq!(failure.exit, Exit::Io);
    assert!(failure.message.contains("took longer than 15 s"), "{failure}");
    assert_eq!(live.config().revision, before.revision);
}

#[tokio::test]
async fn a_bad_file_leaves_the_old_configuration_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let live = live(&file);
    let before = live.config();
    let must_not = async |_: &_| panic!("a bad file must not be applied");
    fs::write(&file, format!("node = \"a\"\nnods = 1\n{SERVICE}")).unwrap();
    let failure = live.reload(must_not).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    assert!(failure.message.contains("f.toml:2:1: nods is not a key"), "{failure}");
    assert!(failure.message.contains("stays in force"), "{failure}");

    let moved = "[accounting]\nslot = \"60s\"\n[recorder]\nspool = \"/elsewhere\"\n";
    fs::write(&file, format!("node = \"b\"\nthreads = 7\n{moved}{SERVICE}")).unwrap();
    let failure = live.reload(must_not).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    let named =
        "node, threads, recorder.spool, accounting.slot cannot change while the forwarder runs";
    assert!(failure.message.contains(named), "{failure}");

    fs::remove_file(&file).unwrap();
    assert_eq!(live.reload(must_not).await.unwrap_err().exit, Exit::Config);
    assert_eq!(live.config(), before);
}

#[tokio::test]
async fn a_listener_that_cannot_be_bound_leaves_the_old_configuration_in_force() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let live = live(&file);
    let before = live.config();
    fs::write(&file, format!("node = \"a\"\n{}", SERVICE.replace("8080", "1"))).unwrap();
    let failure = live
        .reload(async |_| Err(Failure::new(Exit::Unreachable, "cannot listen")))
        .await
        .unwrap_err();
    assert_eq!(failure.exit, Exit::Unreachable);
    assert_eq!(live.config(), before);
}

#[tokio::test]
async fn a_rule_that_no_client_reaches_is_told_by_a_reload() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("f.toml");
    let live = live(&file);
    let late = "[[rule]]\nname = \"late\"\nfrom = [\"10.0.0.0/8\"]\naction = \"block\"\n";
    fs::write(&file, format!("node = \"a\"\n{SERVICE}{late}")).unwrap();
    let reloaded = live.reload(async |_| Ok(())).await.unwrap();
    let told = "f.toml:9:1: warning: no client ever reaches this rule: rule \"everyone\" in line 6 \
                decides first";
    assert!(reloaded.warnings.contains(told), "{}", reloaded.warnings);
}

#[tokio::test]
async fn a_file_that_the_configuration_names_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let (file, networks) = (dir.path().join("f.toml"), dir.path().join("nets.txt"));
    let live = live(&file);
    let from = "[[rule]]\nname = \"some\"\nfrom = [\"@nets.txt\"]\naction = \"block\"\n[[rule]]";
    let source = format!("node = \"a\"\n{SERVICE}").replacen("[[rule]]", from, 1);
    fs::write(&file, source).unwrap();
    fs::write(&networks, "10.0.0.0/8\n").unwrap();
    assert!(live.reload(async |_| Ok(())).await.unwrap().changed);
    fs::write(&networks, "10.0.0.0/9\n").unwrap();
    assert!(live.reload(async |_| Ok(())).await.unwrap().changed);
    let before = live.config();
    fs::write(&networks, "10.0.0.0/9\n10.0.0.1/9\n").unwrap();
    let failure = live.reload(async |_| panic!("not to be applied")).await.unwrap_err();
    assert!(failure.message.contains("nets.txt:2:1: \"10.0.0.1/9\" has bits set"), "{failure}");
    assert_eq!(live.config(), before);
}
