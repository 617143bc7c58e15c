//! Memory that outlives its process: a file mapped as a slice of atomics.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::mm::{MapFlags, ProtFlags};

/// A shared mapping, unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<AtomicU64>,
    words: NonZeroUsize,
}

impl Mapping {
    /// Allocates `words` words of 8 bytes of the file, then maps them. A sparse mapping would die
    /// of SIGBUS on a full disk; an allocated one can always be stored to.
    ///
    /// The file must not be truncated while it is mapped: keep it in a directory that only its
    /// owner can enter, and locked.
    ///
    /// # Errors
    /// The file system is full, or the file cannot be mapped.
    pub fn create(file: &File, words: usize) -> io::Result<Self> {
        let bytes = u64::try_from(words * size_of::<AtomicU64>()).map_err(io::Error::other)?;
        fallocate(file, FallocateFlags::empty(), 0, bytes)?;
        Self::map(file, words)
    }

    /// Maps all of a file; what does not fill a word at its end is left out.
    ///
    /// # Errors
    /// The file is empty or cannot be mapped.
    pub fn open(file: &File) -> io::Result<Self> {
        let bytes = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        Self::map(file, bytes / size_of::<AtomicU64>())
    }

    fn map(file: &File, words: usize) -> io::Result<Self> {
        let words = NonZeroUsize::new(words)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the file is empty"))?;
        let bytes = words.get() * size_of::<AtomicU64>();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: mmap(2) with a null hint places a new mapping where nothing else is mapped, so no
        // memory of this process is replaced; the descriptor is open for reading and writing.
        let start = unsafe {
            rustix::mm::mmap(std::ptr::null_mut(), bytes, protection, MapFlags::SHARED, file, 0)
        }?;
        Self::from_raw(start, words)
    }

    /// Zeroed memory that dies with the process.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn anonymous(words: usize) -> io::Result<Self> {
        let words = NonZeroUsize::new(words)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no words asked for"))?;
        let bytes = words.get() * size_of::<AtomicU64>();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: as in `map`; anonymous memory has no file behind it.
        let start = unsafe {
            rustix::mm::mmap_anonymous(std::ptr::null_mut(), bytes, protection, MapFlags::PRIVATE)
        }?;
        Self::from_raw(start, words)
    }

    fn from_raw(start: *mut std::ffi::c_void, words: NonZeroUsize) -> io::Result<Self> {
        let start = NonNull::new(start.cast())
            .ok_or_else(|| io::Error::other("mmap placed a mapping at address 0"))?;
        Ok(Self { start, words })
    }

    /// The memory.
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: the mapping is `words` words long, page aligned, readable and writable until
        // `self` is dropped (mmap(2)); any bit pattern is an `AtomicU64`, and other processes can
        // only change it, which atomics allow. The file is not truncated by contract.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words.get()) }
    }

    /// The memory for as long as the process lives.
    pub fn leak(self) -> &'static [AtomicU64] {
        let mapping: &'static Self = Box::leak(Box::new(self));
        mapping.words()
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        let bytes = self.words.get() * size_of::<AtomicU64>();
        // SAFETY: the range was mapped by `map` or `anonymous` and is unmapped only here; slices
        // into it borrow `self` and are gone.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), bytes) };
        // munmap(2) fails only for a range that is none; there is nobody to tell.
        debug_assert!(unmapped.is_ok());
    }
}

// SAFETY: the mapping is plain memory reached only through atomics; nothing ties it to the thread
// that made it.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared access is access to atomics.
unsafe impl Sync for Mapping {}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    #[test]
    fn what_one_mapping_stores_another_reads() {
        let file = tempfile::tempfile().unwrap();
        let writer = Mapping::create(&file, 1000).unwrap();
        writer.words()[999].store(42, Ordering::Relaxed);
        let reader = Mapping::open(&file).unwrap();
        assert_eq!(reader.words().len(), 1000);
        assert_eq!(reader.words()[999].load(Ordering::Relaxed), 42);
    }

    #[test]
    fn an_empty_file_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Mapping::open(&file).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn anonymous_memory_begins_as_zeros() {
        let memory = Mapping::anonymous(64).unwrap();
        assert!(memory.words().iter().all(|word| word.load(Ordering::Relaxed) == 0));
    }
}
