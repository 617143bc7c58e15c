//! Where a report goes: standard output, or a file that appears complete or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, IsTerminal as _, StdoutLock, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Stdio};

use crate::failure::Failure;
use crate::scratch;

/// An open destination.
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout(BufWriter<StdoutLock<'static>>),
    /// A file under its temporary name.
    File(Unfinished),
    /// What has no content to replace: a device, a pipe.
    Device(File, PathBuf),
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
    /// Opens standard output, the temporary file beside `path`, or `path` itself when it is a
    /// device or a pipe: a file of that name in its place would be a disaster for `/dev/null`.
    ///
    /// # Errors
    /// 74 or 77 when the file cannot be made.
    pub fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let Some(path) = path else {
            return Ok(Self::Stdout(BufWriter::new(io::stdout().lock())));
        };
        match fs::metadata(path) {
            // Behind a link lies what is to be replaced, and the link stays.
            Ok(there) if there.is_file() => {
                let behind = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
                Unfinished::create(&behind).map(Self::File)
            }
            Ok(there) if !there.is_dir() => {
                let opened = OpenOptions::new().write(true).open(path);
                let failed = |error| Failure::writing(&path.display().to_string(), &error);
                opened.map(|file| Self::Device(file, path.to_owned())).map_err(failed)
            }
            _ => Unfinished::create(path).map(Self::File),
        }
    }

    /// The destination in words.
    pub fn name(&self) -> String {
        match self {
            Self::Stdout(_) => "standard output".to_owned(),
            Self::File(file) => file.path.display().to_string(),
            Self::Device(_, path) => path.display().to_string(),
        }
    }

    /// Whether people look at it while it is written.
    pub fn is_terminal(&self) -> bool {
        match self {
            Self::Stdout(_) => io::stdout().is_terminal(),
            Self::File(_) => false,
            Self::Device(file, _) => file.is_terminal(),
        }
    }

    /// The destination for a process that is to write there.
    ///
    /// # Errors
    /// No descriptor is free.
    pub fn stdio(&self) -> io::Result<Stdio> {
        match self {
            Self::Stdout(_) => Ok(Stdio::inherit()),
            Self::File(file) => file.writer.get_ref().try_clone().map(Stdio::from),
            Self::Device(file, _) => file.try_clone().map(Stdio::from),
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
            Self::Device(..) => Ok(()),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(out) => out.write(bytes),
            Self::File(file) => file.writer.write(bytes),
            Self::Device(file, _) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(out) => out.flush(),
            Self::File(file) => file.writer.flush(),
            Self::Device(file, _) => file.flush(),
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
    fn a_device_is_written_to_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        let mut sink = Sink::open(Some(&link)).unwrap();
        sink.write_all(b"gone").unwrap();
        sink.complete().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
    }

    #[test]
    fn behind_a_link_the_file_is_replaced_and_the_link_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("report.csv"), dir.path().join("latest.csv"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        let mut sink = Sink::open(Some(&link)).unwrap();
        sink.write_all(b"new").unwrap();
        sink.complete().unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
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
