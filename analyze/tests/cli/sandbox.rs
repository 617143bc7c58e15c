//! Statements that readers type: what is refused, what ends them, and what they leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use e2e_tests::process::finished;
use e2e_tests::wait;
use rustix::process::{Pid, Signal, kill_process};
use schemas::table::TABLES;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::support::account::Account;
use crate::support::{Data, Run};

/// Counts further than anybody waits.
const ENDLESS: &str = "select count(*) from range(100000000) a, range(100000000) b";

#[track_caller]
fn refused(run: &Run, statement: &str, sentence: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (64, ""), "{statement}: {}", run.stderr);
    assert!(run.stderr.starts_with("analyze: "), "{statement}: {}", run.stderr);
    assert!(run.stderr.contains(sentence), "{statement}: {:?} not in {}", sentence, run.stderr);
}

/// Every file below `dir`, with its bytes.
fn everything(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        } else {
            found.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    found
}

#[test]
fn statements_that_write_or_change_anything_are_refused_and_leave_all_as_it_was() {
    let data = Data::with(&Account::whole());
    let part = data.part_of("usage").display().to_string();
    let target = data.path().join("stolen").display().to_string();
    let before = everything(data.path());
    for statement in [
        format!("copy (from sessions) to '{target}'"),
        format!("copy (from sessions) to '{part}' (format parquet)"),
        format!("copy usage from '{part}'"),
        format!("explain analyze copy (from sessions) to '{target}'"),
        format!("explain copy (from sessions) to '{target}'"),
        format!("export database '{target}'"),
        format!("import database '{target}'"),
        format!("attach '{target}' as x"),
        "attach ':memory:' as x".to_owned(),
        "detach memory".to_owned(),
        "use memory".to_owned(),
        "install httpfs".to_owned(),
        "load httpfs".to_owned(),
        "force install httpfs from community".to_owned(),
        "set threads = 1".to_owned(),
        "set enable_external_access = true".to_owned(),
        "set variable x = 1".to_owned(),
        "reset memory_limit".to_owned(),
        "pragma database_list".to_owned(),
        "pragma memory_limit = '1TB'".to_owned(),
        "create table x (a int)".to_owned(),
        "create or replace view usage as select 1".to_owned(),
        "create macro f(a) as a".to_owned(),
        "create secret s (type s3)".to_owned(),
        "insert into usage select * from usage".to_owned(),
        "update usage set bytes_up = 0".to_owned(),
        "delete from usage".to_owned(),
        "drop view usage".to_owned(),
        "begin".to_owned(),
        "vacuum".to_owned(),
        "checkpoint".to_owned(),
        "prepare p as select 1".to_owned(),
        "call pragma_version()".to_owned(),
    ] {
        let run = data.analyze(&["sql", &statement]);
        refused(&run, &statement, "sql takes one SELECT and nothing that writes");
    }
    for statement in ["select 1; select 2", "select 1; copy usage to '/tmp/x'", "set x=1; select 1"]
    {
        refused(&data.analyze(&["sql", statement]), statement, "");
    }
    assert!(before == everything(data.path()), "the data directory has changed");
}

#[test]
fn no_file_but_the_tables_can_be_read() {
    let data = Data::with(&Account::whole());
    data.add_capture();
    let root = data.path().display();
    for source in [
        "read_csv('/etc/passwd')".to_owned(),
        "read_text('/etc/passwd')".to_owned(),
        "read_blob('/proc/self/environ')".to_owned(),
        "read_text('/proc/self/maps')".to_owned(),
        "'/etc/passwd'".to_owned(),
        "read_json('https://127.0.0.1:1/x.json')".to_owned(),
        "read_parquet('s3://bucket/x.parquet')".to_owned(),
        "sniff_csv('/etc/passwd')".to_owned(),
        "glob('/etc/*')".to_owned(),
        "glob('../*')".to_owned(),
        format!("read_text('{root}/weir.json')"),
        format!("read_text('{root}/accounting/../weir.json')"),
        format!("read_blob('{root}/captures/web/2026-10-26.pcapng')"),
        format!("read_parquet('{root}/accounting/**/*.parquet')"),
        format!("parquet_metadata('{root}/other.parquet')"),
        "query('copy (select 1) to ''/tmp/x''')".to_owned(),
        "query('attach ''/tmp/x'' as x')".to_owned(),
    ] {
        let statement = format!("select * from {source}");
        refused(&data.analyze(&["sql", &statement]), &statement, "");
    }
    // There is nothing to be had from the environment either.
    refused(&data.analyze(&["sql", "select getenv('HOME')"]), "getenv", "getenv");
}

#[test]
fn a_statement_that_never_ends_is_ended_at_its_limit() {
    let data = Data::with(&Account::whole());
    let file = data.path().join("answer.csv");
    let started = Instant::now();
    let run = data.analyze(&[
        "sql",
        ENDLESS,
        "--timeout",
        "500ms",
        "--format",
        "csv",
        "-o",
        file.to_str().unwrap(),
    ]);
    refused(&run, ENDLESS, "was not done after 500ms and was ended; narrow it");
    assert!(started.elapsed() < Duration::from_secs(30));
    assert!(!file.exists() && fs::read_dir(data.path()).unwrap().count() == 3);
    let endless = "with recursive t(n) as (select 1 union all select n + 1 from t) from t";
    refused(&data.analyze(&["sql", endless, "--timeout", "300ms"]), endless, "after 300ms");
}

#[test]
fn a_statement_that_needs_more_memory_than_it_may_have_is_ended() {
    let data = Data::with(&Account::whole());
    for statement in [
        "select length(list(a.range::varchar)::varchar) from range(100000) a, range(100000) b",
        "select repeat('x', 2000000000) as x from range(20)",
    ] {
        let run = data.analyze(&["sql", statement, "--memory", "64 MiB"]);
        refused(&run, statement, "more memory than 64 MiB and was ended");
    }
}

/// A statement that never ends, with its report and its scratch directory in `out`.
fn endless(data: &Data, out: &Path) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_analyze"))
        .arg("--data")
        .arg(data.path())
        .args(["sql", ENDLESS, "--format", "csv", "-o"])
        .arg(out.join("answer.csv"))
        .env("TMPDIR", out)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait::until("the statement runs", || runner(&child));
    child
}

/// The process that runs the statement, once it has threads.
fn runner(child: &Child) -> Option<PathBuf> {
    let id = child.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
    let runner = PathBuf::from(format!("/proc/{}", children.split_whitespace().next()?));
    let threads = fs::read_dir(runner.join("task")).ok()?.count();
    (threads > 2).then_some(runner)
}

fn kill(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

#[test]
fn ctrl_c_ends_the_statement_and_leaves_neither_file_nor_process() {
    let data = Data::with(&Account::whole());
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let out = tempfile::tempdir().unwrap();
        let mut child = endless(&data, out.path());
        let runner = runner(&child).unwrap();
        kill(&child, signal);
        let output = finished("analyze", &mut child);
        assert_eq!(output.status.code(), Some(code));
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
        assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
        assert!(!runner.exists());
    }
}

#[test]
fn the_process_that_runs_a_statement_does_not_outlive_the_one_that_asked() {
    let data = Data::with(&Account::whole());
    let out = tempfile::tempdir().unwrap();
    let mut child = endless(&data, out.path());
    let runner = runner(&child).unwrap();
    kill(&child, Signal::KILL);
    finished("analyze", &mut child);
    wait::until("it has ended too", || {
        // Where nobody reaps orphans it stays as a zombie, without a command line.
        fs::read(runner.join("cmdline")).map_or(true, |line| line.is_empty()).then_some(())
    });
    assert!(!out.path().join("answer.csv").exists());
}

#[test]
fn without_landlock_the_statement_runs_behind_duckdbs_own_locks_and_that_is_said() {
    let data = Data::with(&Account::whole());
    let body = move || {
        deny_landlock();
        (
            data.analyze(&["sql", "select 1 as a", "--format", "csv"]),
            data.analyze(&["sql", "from read_text('/etc/passwd')"]),
        )
    };
    // A filter is for the thread that sets it and those it starts.
    let (run, outside) = wait::joined("both statements", thread::spawn(body));
    assert_eq!((run.code, run.stdout.as_str()), (0, "a\n1\n"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("note: this kernel has no Landlock").count(), 1);
    assert_eq!((outside.code, outside.stdout.as_str()), (64, ""), "{}", outside.stderr);
}

/// As on a kernel without it.
fn deny_landlock() {
    /// landlock_create_ruleset(2), whose number is the same on every architecture.
    const CREATE_RULESET: i64 = 444;
    /// ENOSYS
    const NO_SUCH_CALL: u32 = 38;
    let filter = SeccompFilter::new(
        BTreeMap::from([(CREATE_RULESET, vec![])]),
        SeccompAction::Allow,
        SeccompAction::Errno(NO_SUCH_CALL),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter(&program).unwrap();
}

#[test]
fn the_command_behind_the_command_is_not_for_people() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_analyze"))
        .arg("__sql")
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = finished("analyze", &mut child);
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8(output.stderr).unwrap().contains("is for analyze itself; use `sql`"));
}

#[test]
fn the_views_are_what_the_reference_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/analyze.md");
    let text = fs::read_to_string(page).unwrap();
    let (_, views) =
        text.split_once("| view | columns |\n").expect("the reference lists the views");
    let documented: BTreeMap<&str, Vec<&str>> = views
        .lines()
        .skip(1)
        .map_while(|line| line.strip_prefix("| `")?.strip_suffix("` |")?.split_once("` | `"))
        .map(|(view, columns)| (view, columns.split(' ').collect()))
        .collect();
    let names: Vec<&str> = documented.keys().copied().collect();
    let mut tables = TABLES.map(|table| table.name);
    tables.sort_unstable();
    assert_eq!(names, tables);
    // With parts and without.
    for data in [Data::with(&Account::whole()), Data::empty()] {
        for (view, columns) in &documented {
            let there = data.answer(&["sql", &format!("from {view} limit 0"), "--format", "csv"]);
            assert_eq!(there.trim_end(), columns.join(","), "{view}");
        }
    }
}
