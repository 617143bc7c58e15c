//! Pipes that flows borrow while they splice.
//!
//! A pipe belongs to a flow from its first fill until the sender has nothing more; then it comes back
//! empty, for the next flow. The kernel may refuse a pipe, or a large one: a user without
//! CAP_SYS_RESOURCE gets no more than `fs.pipe-user-pages-soft` pages for all of its pipes. Then a
//! smaller one will do, and below [`MIN_PIPE_BYTES`] copying is the better way.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rustix::io::retry_on_intr;
use rustix::pipe::{
    PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size, pipe_with, splice,
};

use super::counters::{Counters, count};
use super::descriptors::{Descriptors, Permit};

/// Most bytes asked for in one fill. A slot of a pipe holds a page or a fragment of many pages, so
/// that a pipe takes up to eight times its size.
const FILL_BYTES: usize = 1024 * 1024;
/// A pipe smaller than this moves less at a time than a buffer does.
const MIN_PIPE_BYTES: usize = 64 * 1024;
/// Empty pipes that a thread keeps; more are closed when they come back.
const SPARE_PIPES: usize = 32;
/// Descriptors of a pipe.
const PIPE_DESCRIPTORS: usize = 2;

/// One thread's pipes.
#[derive(Debug)]
pub(crate) struct Pipes {
    spare: RefCell<Vec<Pipe>>,
    /// Pipes that exist, lent ones too.
    exist: Cell<usize>,
    most: usize,
    descriptors: Descriptors,
    counters: Arc<Counters>,
}

/// A pipe between two sockets.
#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
    /// As asked for, in bytes.
    size: usize,
    _permit: Permit,
}

/// A borrowed pipe. Dropped without [`Lent::give_back`] it is closed: what may be in it is nobody
/// else's.
#[derive(Debug)]
pub(crate) struct Lent {
    /// `None` only while it is dropped.
    pipe: Option<Pipe>,
    pool: Rc<Pipes>,
}

impl Pipes {
    /// A pool of at most `most` pipes, made when they are first asked for.
    pub(crate) fn new(most: usize, descriptors: Descriptors, counters: &Arc<Counters>) -> Rc<Self> {
        Rc::new(Self {
            spare: RefCell::default(),
            exist: Cell::new(0),
            most,
            descriptors,
            counters: Arc::clone(counters),
        })
    }

    /// An empty pipe of `size` bytes, or of fewer if the kernel gives no more; `None`: there is none
    /// to be had, which is counted.
    pub(crate) fn lend(self: &Rc<Self>, size: usize) -> Option<Lent> {
        let spare = self.spare.borrow_mut().pop();
        let Some(pipe) = self.of_size(size, spare).or_else(|| self.make(size)) else {
            count(&self.counters.pipes_refused);
            return None;
        };
        count(&self.counters.pipes_in_use);
        Some(Lent { pipe: Some(pipe), pool: Rc::clone(self) })
    }

    /// Closes a pipe of another size: it is that of an earlier configuration.
    fn of_size(&self, size: usize, pipe: Option<Pipe>) -> Option<Pipe> {
        let pipe = pipe?;
        if pipe.size == size {
            return Some(pipe);
        }
        self.exist.set(self.exist.get() - 1);
        None
    }

    fn make(&self, size: usize) -> Option<Pipe> {
        if self.exist.get() >= self.most {
            return None;
        }
        let permit = self.descriptors.take(PIPE_DESCRIPTORS)?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        let given = enlarge(&writer, size);
        if given < size {
            count(&self.counters.pipes_small);
        }
        if given < MIN_PIPE_BYTES.min(size) {
            return None;
        }
        self.exist.set(self.exist.get() + 1);
        Some(Pipe { reader, writer, size, _permit: permit })
    }
}

/// Gives a pipe as much of `wanted` as the kernel grants, and says how much that is, in bytes.
fn enlarge(pipe: &OwnedFd, wanted: usize) -> usize {
    let mut size = wanted;
    while size >= MIN_PIPE_BYTES {
        if let Ok(given) = fcntl_setpipe_size(pipe, size) {
            return given;
        }
        size /= 2;
    }
    fcntl_getpipe_size(pipe).unwrap_or(0)
}

impl Lent {
    /// Splices what a socket has, at most `most` bytes, into the pipe, which must be empty.
    ///
    /// # Errors
    /// What splice(2) gives; `WouldBlock`: the socket has nothing.
    pub(crate) fn fill(&self, from: impl AsFd, most: usize) -> io::Result<usize> {
        let most = most.min(FILL_BYTES);
        let fill = || splice(from.as_fd(), None, &self.pipe().writer, None, most, FLAGS);
        Ok(retry_on_intr(fill)?)
    }

    /// Splices at most `bytes` of what is in the pipe into a socket.
    ///
    /// # Errors
    /// What splice(2) gives; `WouldBlock`: the socket takes nothing.
    pub(crate) fn drain(&self, to: impl AsFd, bytes: usize) -> io::Result<usize> {
        let drain = || splice(&self.pipe().reader, None, to.as_fd(), None, bytes, FLAGS);
        Ok(retry_on_intr(drain)?)
    }

    /// Where to tee(2) from.
    pub(crate) fn reader(&self) -> BorrowedFd<'_> {
        self.pipe().reader.as_fd()
    }

    /// Ends the loan of a pipe that is empty.
    pub(crate) fn give_back(mut self) {
        let mut spare = self.pool.spare.borrow_mut();
        if spare.len() < SPARE_PIPES {
            spare.extend(self.pipe.take());
        }
    }

    fn pipe(&self) -> &Pipe {
        self.pipe.as_ref().expect("a lent pipe is taken out only when the loan ends")
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.counters.pipes_in_use.fetch_sub(1, Ordering::Relaxed);
        if self.pipe.is_some() {
            self.pool.exist.set(self.pool.exist.get() - 1);
        }
    }
}

const FLAGS: SpliceFlags = SpliceFlags::MOVE.union(SpliceFlags::NONBLOCK);

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    const SIZE: usize = 256 * 1024;

    /// The pages for pipes are one user's, whichever test takes them.
    fn alone() -> MutexGuard<'static, ()> {
        static PAGES: Mutex<()> = Mutex::new(());
        PAGES.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(most: usize, descriptors: usize) -> Rc<Pipes> {
        Pipes::new(most, Descriptors::with(descriptors), &Arc::default())
    }

    fn counts(pipes: &Pipes) -> [u64; 2] {
        let counters = &pipes.counters;
        [&counters.pipes_in_use, &counters.pipes_refused].map(|c| c.load(Ordering::Relaxed))
    }

    #[test]
    fn a_pool_at_its_bound_refuses_and_counts() {
        let _alone = alone();
        let pipes = pool(2, 1000);
        let (first, _second) = (pipes.lend(SIZE).unwrap(), pipes.lend(SIZE).unwrap());
        assert!(pipes.lend(SIZE).is_none());
        assert_eq!(counts(&pipes), [2, 1]);
        first.give_back();
        assert!(pipes.lend(SIZE).is_some());
    }

    #[test]
    fn pipes_count_as_descriptors_until_they_are_closed() {
        let _alone = alone();
        let pipes = pool(1000, 2 * SPARE_PIPES + 4);
        let all: Vec<_> = (0..SPARE_PIPES + 2).map(|_| pipes.lend(SIZE).unwrap()).collect();
        assert!(pipes.lend(SIZE).is_none());
        all.into_iter().for_each(Lent::give_back);
        assert_eq!((pipes.spare.borrow().len(), pipes.exist.get()), (SPARE_PIPES, SPARE_PIPES));
        assert!(pipes.descriptors.take(5).is_none() && pipes.descriptors.take(4).is_some());
        assert_eq!(counts(&pipes), [0, 1]);
    }

    #[test]
    fn a_pipe_of_an_earlier_configuration_is_replaced() {
        let _alone = alone();
        let pipes = pool(1, 1000);
        pipes.lend(SIZE).unwrap().give_back();
        let other = pipes.lend(2 * SIZE).unwrap();
        assert_eq!(fcntl_getpipe_size(other.reader()), Ok(2 * SIZE));
    }

    #[test]
    fn a_pipe_that_was_not_given_back_is_closed_and_makes_room_for_another() {
        let _alone = alone();
        let pipes = pool(1, 1000);
        let pipe = pipes.lend(SIZE).unwrap();
        rustix::io::write(&pipe.pipe().writer, b"somebody's").unwrap();
        drop(pipe);
        let pipe = pipes.lend(SIZE).unwrap();
        let left = rustix::io::read(pipe.reader(), &mut [0; 16]);
        assert_eq!(left, Err(rustix::io::Errno::AGAIN));
    }

    /// Uses up what the kernel gives a user without privileges, from a thread that has given its
    /// own up.
    #[test]
    fn a_user_who_has_used_up_the_pages_for_pipes_gets_no_pipe_and_it_is_counted() {
        let _alone = alone();
        let unprivileged = || {
            let mut capabilities = capabilities(None).unwrap();
            let bound = CapabilitySet::SYS_RESOURCE | CapabilitySet::SYS_ADMIN;
            capabilities.effective.remove(bound);
            set_capabilities(None, capabilities).unwrap();
            let pipes = pool(1000, 10_000);
            let mut lent: Vec<_> = Vec::new();
            while let Some(pipe) = pipes.lend(SIZE) {
                lent.push(pipe);
                assert!(lent.len() < 1000, "fs.pipe-user-pages-soft bounds them");
            }
            let refused = pipes.lend(SIZE).is_none();
            let small = pipes.counters.pipes_small.load(Ordering::Relaxed);
            let exist = pipes.exist.get();
            let held = lent.len();
            drop(lent);
            (refused, small > 0, exist == held, counts(&pipes)[0], pipes.lend(SIZE).is_some())
        };
        let told = std::thread::spawn(unprivileged).join().unwrap();
        assert_eq!(told, (true, true, true, 0, true));
    }
}
