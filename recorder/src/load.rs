//! From the name of a configuration file to its meaning.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::config::Config;
use schemas::exit::{Exit, Failure};

/// Longest configuration file, in bytes.
const MAX_FILE_BYTES: u64 = 4 << 20;

/// Reads the configuration in `path`.
///
/// # Errors
/// The file cannot be read, or it has faults; the message then shows them all.
pub fn config(path: &Path) -> Result<Config, Failure> {
    let text = text(path)?;
    Config::parse(&path.display().to_string(), &text)
        .map_err(|faults| Failure::new(Exit::Config, faults.to_string().trim_end()))
}

/// The text of the configuration in `path`.
///
/// # Errors
/// It cannot be read, is not UTF-8, or is no configuration by its size.
pub fn text(path: &Path) -> Result<String, Failure> {
    let attempt = format!("cannot read the configuration {}", path.display());
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure::new(
            Exit::Config,
            format!("{attempt}: there is no such file; name another with -c FILE"),
        ),
        io::ErrorKind::InvalidData => {
            Failure::new(Exit::Config, format!("{attempt}: it is not UTF-8 text"))
        }
        kind => Failure::of_kind(kind, format!("{attempt}: {error}")),
    };
    let mut text = String::new();
    let file = File::open(path).map_err(failed)?;
    let read = file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(read).is_ok_and(|read| read > MAX_FILE_BYTES) {
        let message = format!("{attempt}: it is longer than {MAX_FILE_BYTES} bytes");
        return Err(Failure::new(Exit::Config, message));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_cannot_be_read_is_told_with_its_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.toml");
        assert_eq!(config(&path).unwrap_err().exit, Exit::Config);
        std::fs::write(&path, [0xff, 0xfe]).unwrap();
        assert!(config(&path).unwrap_err().message.contains("UTF-8"));
        std::fs::write(&path, vec![b'#'; 5 << 20]).unwrap();
        assert!(config(&path).unwrap_err().message.contains("longer"));
        assert_eq!(config(dir.path()).unwrap_err().exit, Exit::Io);
        std::fs::write(&path, "data = 1\n").unwrap();
        let faults = config(&path).unwrap_err();
        assert!(faults.message.contains("r.toml:1:8: data: expected"), "{faults}");
    }
}
