//! The workers' sign of life (T2): a number per worker in memory that the XDP program reads.
#![expect(unsafe_code, reason = "the map's memory is shared with the XDP program")]

use crate::engine::EngineError;
use crate::types::{Time, WORKERS_MAX, WorkerId};
use crate::xdp::kernel_words::last_refused;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Every worker's last beat. Cheap to clone: one for each worker.
#[derive(Debug, Clone)]
pub struct Heartbeats(Arc<Mapping>);

#[derive(Debug)]
struct Mapping(NonNull<[AtomicU64; WORKERS_MAX]>);

// SAFETY: the mapping is atomics only, lives until `Mapping` is dropped, and belongs to no thread.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared access goes through the atomics.
unsafe impl Sync for Mapping {}

const BYTES: usize = size_of::<[AtomicU64; WORKERS_MAX]>();

impl Heartbeats {
    /// Maps the memory of the BPF map `heartbeats`.
    ///
    /// # Errors
    /// The kernel's refusal to map it.
    pub(crate) fn try_new(map: BorrowedFd<'_>) -> Result<Self, EngineError> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let fd = map.as_raw_fd();
        // SAFETY: a fresh shared mapping of the map's values; the kernel rounds up to a page.
        let memory =
            unsafe { libc::mmap(ptr::null_mut(), BYTES, protection, libc::MAP_SHARED, fd, 0) };
        match NonNull::new(memory.cast()) {
            Some(beats) if memory != libc::MAP_FAILED => Ok(Self(Arc::new(Mapping(beats)))),
            _ => Err(last_refused("map the heartbeats")),
        }
    }

    /// Tells the program that `worker` lives. No system call.
    #[inline]
    pub fn beat(&self, worker: WorkerId, now: Time) {
        if let Some(beat) = self.beats().get(usize::from(worker.0)) {
            // Relaxed: the program reads nothing else that the worker wrote.
            beat.store(now.0, Ordering::Relaxed);
        }
    }

    /// The last beat of `worker`; 0 before the first.
    pub fn last(&self, worker: WorkerId) -> Time {
        let beat = self.beats().get(usize::from(worker.0));
        Time(beat.map_or(0, |beat| beat.load(Ordering::Relaxed)))
    }

    /// How long ago `worker` has beaten, as of `now`.
    pub fn age(&self, worker: WorkerId, now: Time) -> Duration {
        Duration::from_nanos(now.0.saturating_sub(self.last(worker).0))
    }

    fn beats(&self) -> &[AtomicU64; WORKERS_MAX] {
        // SAFETY: mapped in `try_new` for as long as `Mapping` lives, page-aligned, never null.
        unsafe { self.0.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped in `try_new` with this length; nobody borrows it any more.
        let result = unsafe { libc::munmap(self.0.as_ptr().cast(), BYTES) };
        debug_assert_eq!(result, 0, "the mapping was ours");
    }
}
