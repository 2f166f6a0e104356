//! The values of a BPF array in our own memory: shared with the program, without system calls.
#![expect(unsafe_code, reason = "the map's memory is shared with a BPF program")]

use crate::engine::EngineError;
use crate::xdp::kernel_words::last_refused;
use core::sync::atomic::AtomicU64;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// The first `N` values of an array of 64-bit numbers (narrower ones would not lie side by side).
#[derive(Debug)]
pub(crate) struct Mapping<const N: usize>(NonNull<[AtomicU64; N]>);

// SAFETY: the mapping is atomics only, lives until `Mapping` is dropped, and belongs to no thread.
unsafe impl<const N: usize> Send for Mapping<N> {}
// SAFETY: as above; shared access goes through the atomics.
unsafe impl<const N: usize> Sync for Mapping<N> {}

impl<const N: usize> Mapping<N> {
    const BYTES: usize = size_of::<[AtomicU64; N]>();

    /// Maps the memory of `map`, which has `BPF_F_MMAPABLE` and at least `N` values.
    ///
    /// # Errors
    /// The kernel's refusal to map it.
    pub(crate) fn try_new(map: BorrowedFd<'_>, what: &str) -> Result<Self, EngineError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = map.as_raw_fd();
        // SAFETY: a fresh shared mapping of the map's values; the kernel rounds up to a page, and
        // refuses more than the map has.
        let memory = unsafe {
            libc::mmap(ptr::null_mut(), Self::BYTES, protection, libc::MAP_SHARED, fd, 0)
        };
        match NonNull::new(memory.cast()) {
            Some(values) if memory != libc::MAP_FAILED => Ok(Self(values)),
            _ => Err(last_refused(what)),
        }
    }
}

impl<const N: usize> AsRef<[AtomicU64]> for Mapping<N> {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: mapped in `try_new` for as long as `self` lives, page-aligned, never null.
        let values: &[AtomicU64; N] = unsafe { self.0.as_ref() };
        values
    }
}

impl<const N: usize> Drop for Mapping<N> {
    fn drop(&mut self) {
        // SAFETY: mapped in `try_new` with this length; nobody borrows it any more.
        let result = unsafe { libc::munmap(self.0.as_ptr().cast(), Self::BYTES) };
        debug_assert_eq!(result, 0, "the mapping was ours");
    }
}
