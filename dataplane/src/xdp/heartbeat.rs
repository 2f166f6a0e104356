//! The workers' sign of life (T2): a number per worker in memory that the XDP program reads.

use crate::engine::EngineError;
use crate::types::{Time, WORKERS_MAX, WorkerId};
use crate::xdp::mapping::Mapping;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Every worker's last beat. Cheap to clone: one for each worker.
#[derive(Debug, Clone)]
pub struct Heartbeats(Arc<Mapping<WORKERS_MAX>>);

impl Heartbeats {
    /// Maps the memory of the BPF map `heartbeats`.
    ///
    /// # Errors
    /// The kernel's refusal to map it.
    pub(crate) fn try_new(map: BorrowedFd<'_>) -> Result<Self, EngineError> {
        Ok(Self(Arc::new(Mapping::try_new(map, "map the heartbeats")?)))
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

    fn beats(&self) -> &[AtomicU64] {
        (*self.0).as_ref()
    }
}
