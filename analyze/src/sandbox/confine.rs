//! What a process gives up before it runs a statement that somebody typed.
//!
//! Address space is not limited, since allocators reserve much that they never touch, and the
//! number of processes is not, since the system counts all of the user's; what is limited in their
//! place is writable memory, and Landlock leaves nothing that could be executed. Nor are files: the
//! report is one, and may be as long as its reader wants.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Limits;
use crate::failure::Failure;

/// Writable memory beyond what DuckDB may have, in bytes: the program's own, and rows on their way
/// into the report.
const OWN_MEMORY: u64 = 1 << 30;
/// The same for each processor: a thread with its stack and what its allocator keeps for it.
const THREAD_MEMORY: u64 = 32 << 20;
/// Processor seconds beyond the limit of time, per processor, after which the kernel steps in.
const GRACE_S: u64 = 10;

/// Limits what this process may use.
///
/// # Errors
/// 70 when the kernel does not let us be limited.
pub(super) fn limit(limits: Limits) -> Result<(), Failure> {
    let processors = thread::available_parallelism().map_or(1, |count| count.get() as u64);
    // A core file would hold what the tables hold.
    lower(Resource::Core, 0)?;
    let memory = limits.memory.saturating_add(OWN_MEMORY + processors * THREAD_MEMORY);
    lower(Resource::Data, memory)?;
    match limits.time {
        Some(time) => lower(Resource::Cpu, (time.as_secs() + GRACE_S).saturating_mul(processors)),
        None => Ok(()),
    }
}

fn lower(resource: Resource, to: u64) -> Result<(), Failure> {
    let there = getrlimit(resource).maximum;
    let to = Some(there.map_or(to, |there| there.min(to)));
    setrlimit(resource, Rlimit { current: to, maximum: to }).map_err(|error| {
        Failure::Internal(format!("cannot limit {resource:?} of the process for SQL: {error}"))
    })
}

/// Lets the calling thread, and those it starts later, read what lies below `readable`, write below
/// `scratch`, and open nothing else: no other file, no program, no TCP connection. `false`: the
/// kernel has no Landlock or it is switched off.
///
/// # Errors
/// 70 when the kernel has Landlock and refuses these rules.
#[cfg(target_os = "linux")]
pub(super) fn close_off(readable: &[PathBuf], scratch: &Path) -> Result<bool, Failure> {
    use landlock::{
        ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _,
        RulesetError, RulesetStatus, Scope, path_beneath_rules,
    };

    /// What DuckDB asks the system how much memory and how many processors there are; without
    /// the first two it aborts.
    const SYSTEM: [&str; 4] =
        ["/sys/fs/cgroup", "/proc/self/cgroup", "/proc/meminfo", "/dev/urandom"];

    // The newest that was tried; an older kernel enforces what it knows of it.
    let abi = ABI::V7;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write = AccessFs::from_all(ABI::V3) & !AccessFs::Execute & !AccessFs::Refer;
    let restricted = || -> Result<_, RulesetError> {
        Ruleset::default()
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            .scope(Scope::from_all(abi))?
            .create()?
            .add_rules(path_beneath_rules(readable, read))?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules([scratch], write))?
            .restrict_self()
    };
    let status = restricted().map_err(|error| {
        Failure::Internal(format!("cannot confine the process for SQL with Landlock: {error}"))
    })?;
    Ok(status.ruleset != RulesetStatus::NotEnforced)
}

/// Other systems have no Landlock.
///
/// # Errors
/// Never.
#[cfg(not(target_os = "linux"))]
pub(super) fn close_off(_readable: &[PathBuf], _scratch: &Path) -> Result<bool, Failure> {
    Ok(false)
}

/// Memory for a statement whose reader set no limit, in bytes: 4 GiB, or three quarters of what the
/// machine has when that is less.
pub(crate) fn default_memory() -> u64 {
    const MOST: u64 = 4 << 30;
    installed_memory().map_or(MOST, |installed| MOST.min(installed / 4 * 3))
}

fn installed_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    #[test]
    fn a_confined_thread_opens_the_tables_and_its_scratch_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (tables, scratch) = (dir.path().join("accounting"), dir.path().join("scratch"));
        fs::create_dir(&tables).unwrap();
        fs::create_dir(&scratch).unwrap();
        fs::write(tables.join("part"), "rows").unwrap();
        fs::write(dir.path().join("secret"), "no").unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let confined = move || {
            if !close_off(&[tables.clone(), dir.path().join("absent")], &scratch).unwrap() {
                return;
            }
            assert_eq!(fs::read(tables.join("part")).unwrap(), b"rows");
            fs::write(scratch.join("spilled"), "rows").unwrap();
            fs::remove_file(scratch.join("spilled")).unwrap();
            let denied = |result: io::Result<()>| {
                assert_eq!(result.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
            };
            denied(fs::write(tables.join("part"), "forged"));
            denied(fs::remove_file(tables.join("part")));
            denied(fs::read(dir.path().join("secret")).map(drop));
            denied(fs::read("/etc/passwd").map(drop));
            denied(fs::read("/proc/self/environ").map(drop));
            denied(Command::new("/bin/true").status().map(drop));
            denied(TcpStream::connect(listener.local_addr().unwrap()).map(drop));
        };
        thread::spawn(confined).join().unwrap();
    }

    #[test]
    fn a_statement_has_memory_without_being_given_any() {
        assert!((256 << 20..=4 << 30).contains(&default_memory()));
    }
}
