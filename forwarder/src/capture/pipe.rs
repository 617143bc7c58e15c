//! The capture pipe: payload waits in it without being copied.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::io::{Errno, read, retry_on_intr, write};
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice, tee};

/// What the kernel gives everybody; less is not asked for.
const LEAST_BYTES: usize = 64 << 10;

/// A pipe whose write end belongs to a data thread and whose read end belongs to the mover.
#[derive(Debug)]
pub(super) struct CapturePipe {
    read: OwnedFd,
    write: OwnedFd,
}

impl CapturePipe {
    /// A pipe of `bytes`, or of the half of it that the kernel gives, and so on.
    ///
    /// # Errors
    /// The kernel gives no pipe at all, or denies what is to be done with it.
    pub(super) fn new(bytes: usize) -> io::Result<Self> {
        if bytes == 0 {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "pipes are switched off"));
        }
        let (read, write) = pipe()?;
        let mut wanted = bytes;
        while fcntl_setpipe_size(&write, wanted).is_err() && wanted > LEAST_BYTES {
            wanted /= 2;
        }
        let pipe = Self { read, write };
        pipe.probe()?;
        Ok(pipe)
    }

    /// Moves one byte the way that payload goes: a filter of system calls may know read and write
    /// alone.
    fn probe(&self) -> io::Result<()> {
        let (from, to) = pipe()?;
        write(&to, &[0])?;
        let teed = tee(&from, &self.write, 1, SpliceFlags::NONBLOCK)?;
        let spliced = splice(&self.read, None, &to, None, 1, SpliceFlags::NONBLOCK)?;
        if teed == 1 && spliced == 1 { Ok(()) } else { Err(Errno::NOSYS.into()) }
    }

    /// Duplicates up to `len` bytes from the head of the pipe `from`. Fewer: this one is full.
    ///
    /// # Errors
    /// `from` is no pipe.
    pub(super) fn tee(&self, from: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        match retry_on_intr(|| tee(from, &self.write, len, SpliceFlags::NONBLOCK)) {
            Err(Errno::AGAIN) => Ok(0),
            teed => Ok(teed?),
        }
    }

    /// Moves up to `len` bytes on to a socket that does not block.
    ///
    /// # Errors
    /// `WouldBlock`: the socket takes nothing now. Else it is broken.
    pub(super) fn splice(&self, to: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        Ok(retry_on_intr(|| splice(&self.read, None, to, None, len, flags))?)
    }

    /// Throws up to `len` bytes away, and says how many.
    ///
    /// # Errors
    /// The pipe is empty.
    pub(super) fn discard(&self, len: usize, scratch: &mut [u8]) -> io::Result<usize> {
        let len = len.min(scratch.len());
        Ok(retry_on_intr(|| read(&self.read, &mut scratch[..len]))?)
    }
}

fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}
