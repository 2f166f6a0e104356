//! The host's own flows with one of our source ports, as the guard notes them (T5): a port is not
//! given towards a backend to which the host has it.

use crate::types::{FlowKey, Time};
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use zerocopy::IntoBytes;

/// Marks, a power of two: 2 MiB. With as many as ten thousand flows of the host, one of 26 ports is
/// passed over for another tuple's mark.
pub const HOST_SLOTS: usize = 262_144;

/// 2^64 divided by the golden ratio, as Fibonacci hashing has it.
pub(crate) const HASH_FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;

/// The guard's marks, by hash of the tuple of the answers: the second of `CLOCK_MONOTONIC` until
/// which it is the host's. Cheap to clone: one for each worker.
#[derive(Clone)]
pub struct HostFlows(Arc<dyn AsRef<[AtomicU64]> + Send + Sync>);

impl HostFlows {
    /// Those marks; fewer than [`HOST_SLOTS`] mark nothing beyond.
    pub fn new(marks: Arc<dyn AsRef<[AtomicU64]> + Send + Sync>) -> Self {
        Self(marks)
    }

    /// Whether the answers of this tuple are the host's.
    #[inline]
    pub fn has(&self, answer: &FlowKey, now: Time) -> bool {
        // Relaxed: a mark stands for itself.
        let until = self.mark(answer).map_or(0, |mark| mark.load(Ordering::Relaxed));
        until > now.as_seconds()
    }

    fn mark(&self, answer: &FlowKey) -> Option<&AtomicU64> {
        (*self.0).as_ref().get(slot_of(answer))
    }

    /// Marks a tuple, as the guard does.
    #[cfg(test)]
    pub(crate) fn set(&self, answer: &FlowKey, until: Time) {
        self.mark(answer).unwrap().store(until.as_seconds(), Ordering::Relaxed);
    }
}

impl fmt::Debug for HostFlows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HostFlows")
    }
}

/// `slot_of` of `bpf/guard.bpf.c` does the same.
#[expect(clippy::cast_possible_truncation, reason = "the low bits")]
fn slot_of(answer: &FlowKey) -> usize {
    let words = answer.as_bytes().chunks_exact(8).filter_map(|word| word.first_chunk());
    let mix = |hash: u64, word: &[u8; 8]| {
        let hash = (hash ^ u64::from_ne_bytes(*word)).wrapping_mul(HASH_FACTOR);
        hash ^ hash >> 32
    };
    words.fold(0, mix) as usize & (HOST_SLOTS - 1)
}
