//! A short torture with a fixed seed; `make torture` is the long one.

use std::process::Command;
use std::time::Duration;

use e2e_tests::binary;
use e2e_tests::process::Process;
use e2e_tests::wait;

#[test]
fn a_dozen_kills_lose_nothing_and_count_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binary::path("torture"));
    command.args(["--seed", "5", "--seconds", "60", "--kills", "12", "--clients", "12"]);
    let mut torture = Process::start("torture", &mut command, dir.path().join("torture.log"));
    let ended = wait::within(Duration::from_secs(240), || torture.exited());
    let status = ended.unwrap_or_else(|| panic!("it does not end:\n{}", torture.log()));
    let said = torture.log();
    assert!(status.success(), "{said}");
    assert!(said.contains("seed 5") && said.contains("nothing lost, nothing twice"), "{said}");
}
