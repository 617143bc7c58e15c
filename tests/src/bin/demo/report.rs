//! What the account says afterwards, by the commands a reader would type.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use e2e_tests::binary;
use serde_json::Value;

const DATA: &str = "demo-data/data";
const CAPTURE: &str = "demo-data/session.pcapng";

/// Prints the reports, and how to go on from there.
pub(crate) fn print() -> Result<()> {
    show("What each customer used", &["usage", "--by", "customer,service"])?;
    show("Who used most", &["top", "--by", "client", "--top", "5"])?;
    show("Who was refused", &["denied"])?;
    let session = captured_session()?;
    show(&format!("One session, {session}"), &["session", &session])?;
    show("Is the account whole?", &["verify"])?;

    analyze(&["pcap", &session, "-o", CAPTURE])?;
    println!("\n## Its packets\n");
    let line = format!("tshark -r {CAPTURE} -c 8");
    println!("$ analyze --data {DATA} pcap {session} -o {CAPTURE}");
    println!("$ {line}");
    match Command::new("tshark").args(["-r", CAPTURE, "-c", "8"]).stderr(Stdio::null()).output() {
        Ok(seen) => print!("{}", String::from_utf8_lossy(&seen.stdout)),
        Err(_) => println!("(tshark is not installed here)"),
    }
    println!("\nIn Wireshark:  analyze --data {DATA} wireshark {session}");
    println!("Explore:       analyze --data {DATA} sql \"select * from sessions\"");
    let programs = binary::path("analyze");
    let programs = programs.parent().unwrap_or(&programs).display();
    println!("The programs are in {programs}/.");
    println!("The data stays in demo-data/, the tables below demo-data/data/accounting/.");
    Ok(())
}

/// The text id of the captured web session that moved most.
fn captured_session() -> Result<String> {
    let rows =
        analyze(&["sessions", "--service", "web", "--customer", "acme", "--format", "json"])?;
    let rows: Vec<Value> =
        serde_json::from_str(&rows).context("`analyze sessions` did not answer with JSON")?;
    let most = rows.iter().max_by_key(|row| row["bytes_down"].as_i64().unwrap_or(0));
    let session = most.and_then(|row| row["session"].as_str());
    Ok(session.context("no session of acme was recorded")?.to_owned())
}

fn show(title: &str, arguments: &[&str]) -> Result<()> {
    println!("\n## {title}\n\n$ analyze --data {DATA} {}", arguments.join(" "));
    print!("{}", analyze(arguments)?);
    Ok(())
}

fn analyze(arguments: &[&str]) -> Result<String> {
    run("analyze", &[&["--data", DATA], arguments].concat())
}

/// Runs a command to its end; what it wrote to stdout.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary::path(program))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let (command, complaint) = (arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    let status = output.status;
    ensure!(status.success(), "`{program} {command}` ended with {status}:\n{complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
