//! Where a report goes: standard output, or a file that appears complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process;

use crate::failure::Failure;
use crate::scratch;

/// An open destination.
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout(BufWriter<StdoutLock<'static>>),
    /// A file under its temporary name.
    File(Unfinished),
}

/// A file that gets its name when it is complete, and is removed when it never is.
#[derive(Debug)]
pub struct Unfinished {
    writer: BufWriter<File>,
    temporary: PathBuf,
    path: PathBuf,
    complete: bool,
}

impl Sink {
    /// Opens standard output, or the temporary file beside `path`.
    ///
    /// # Errors
    /// 74 or 77 when the file cannot be made.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        match path {
            None => Ok(Self::Stdout(BufWriter::new(io::stdout().lock()))),
            Some(path) => Unfinished::create(path).map(Self::File),
        }
    }

    /// The destination in words.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout(_) => "standard output".to_owned(),
            Self::File(file) => file.path.display().to_string(),
        }
    }

    /// Hands everything over; only now a file has its name.
    ///
    /// # Errors
    /// 74 when not everything could be written.
    pub fn complete(self) -> Result<(), Failure> {
        match self {
            Self::Stdout(mut out) => {
                out.flush().map_err(|error| Failure::writing("standard output", &error))
            }
            Self::File(file) => file.complete(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.writer.flush(),
        }
    }
}

impl Unfinished {
    fn create(path: &Path) -> Result<Self, Failure> {
        let name = path
            .file_name()
            .ok_or_else(|| Failure::Usage(format!("-o {} does not name a file", path.display())))?;
        let hidden = format!(".{}.{}.part", name.to_string_lossy(), process::id());
        let temporary = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|error| Failure::writing(&path.display().to_string(), &error))?;
        scratch::guard(&temporary);
        Ok(Self { writer: BufWriter::new(file), temporary, path: path.to_owned(), complete: false })
    }

    fn complete(mut self) -> Result<(), Failure> {
        let finished = self.writer.flush().and_then(|()| {
            scratch::release(&self.temporary, || fs::rename(&self.temporary, &self.path))
        });
        self.complete = finished.is_ok();
        finished.map_err(|error| Failure::writing(&self.path.display().to_string(), &error))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.complete {
            // Nothing is left to do about a file that cannot be removed either.
            drop(scratch::release(&self.temporary, || fs::remove_file(&self.temporary)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_when_it_is_complete_and_not_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("report.csv");
        fs::write(&path, "old").unwrap();

        let mut sink = Sink::open(Some(&path)).unwrap();
        sink.write_all(b"new").unwrap();
        sink.flush().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        sink.complete().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_report_given_up_half_way_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sink::open(Some(&dir.path().join("report.csv"))).unwrap();
        sink.write_all(b"half").unwrap();
        drop(sink);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
