//! A wall clock that can be set, for programs that are shown it in place of the real one.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

/// Shows a program the wall clock shifted by the seconds in a file, and the monotonic one as it is.
const SHIM: &str = r"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *shift;

__attribute__((constructor)) static void begin(void) {
    int file = open(getenv(CLOCK), O_RDONLY | O_CLOEXEC);
    void *at = mmap(0, sizeof *shift, PROT_READ, MAP_SHARED, file, 0);
    if (at == MAP_FAILED) abort();
    shift = at;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, id, now);
    if (result == 0 && shift && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE))
        now->tv_sec += *shift;
    return result;
}
";

/// Names of the variables by which a program sees the clock.
const VARIABLES: [&str; 2] = ["SHIFTED_CLOCK", "LD_PRELOAD"];

/// A wall clock that can be set.
#[derive(Debug)]
pub struct Clock {
    shift: File,
    path: PathBuf,
    shim: PathBuf,
}

impl Clock {
    /// A clock that shows the right time, with its files in `dir`. `None` where programs cannot be
    /// shown one: there is no C compiler, or no such way.
    ///
    /// # Errors
    /// The files cannot be written.
    pub fn make(dir: &Path) -> io::Result<Option<Self>> {
        let [source, shim, path] = ["clock.c", "clock.so", "clock"].map(|name| dir.join(name));
        fs::write(&source, SHIM)?;
        let mut compile = Command::new("cc");
        let define = format!("-DCLOCK=\"{}\"", VARIABLES[0]);
        compile.args(["-shared", "-fPIC", &define, "-o"]).arg(&shim).arg(&source);
        let compiled = compile.stdin(Stdio::null()).output();
        if !cfg!(target_os = "linux") || !compiled.is_ok_and(|done| done.status.success()) {
            return Ok(None);
        }
        fs::write(&path, 0_i64.to_ne_bytes())?;
        let shift = File::options().write(true).open(&path)?;
        Ok(Some(Self { shift, path, shim }))
    }

    /// What a program's environment needs so that it sees this clock.
    pub fn environment(&self) -> [(&'static str, &Path); 2] {
        let [clock, preload] = VARIABLES;
        [(clock, &self.path), (preload, &self.shim)]
    }

    /// What a shell is told before it starts a program that shall see this clock.
    pub fn word(&self) -> String {
        let set = self.environment().map(|(name, value)| format!("{name}={}", value.display()));
        format!("export {}", set.join(" "))
    }

    /// Sets it so many seconds off the right time, for all programs at once.
    ///
    /// # Panics
    /// Its file is gone.
    pub fn shift(&self, seconds: i64) {
        let written = self.shift.write_all_at(&seconds.to_ne_bytes(), 0);
        written.expect("the file is open and has room for the figure");
    }

    /// Sets it to 1970.
    ///
    /// # Panics
    /// As [`Clock::shift`].
    pub fn to_1970(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.shift(-now.cast_signed());
    }
}
