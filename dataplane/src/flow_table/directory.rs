//! The owner directory (T6): which worker has a flow, for packets that arrive at another.
//!
//! A fixed array of atomics, written when a flow begins and ends, read only after a local miss.
//! It holds fingerprints, not keys: a false match (2^-51 per pair) sends a packet to a worker that
//! misses too and then treats it as its own.

use crate::types::WorkerId;
use core::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 8;
const FREE: u64 = 0;

/// 56 bits of the hash and the worker's number plus one.
fn record(hash: u64, worker: WorkerId) -> u64 {
    fingerprint(hash) | (u64::from(worker.0) + 1)
}

const fn fingerprint(hash: u64) -> u64 {
    hash & !0xff
}

#[expect(clippy::cast_possible_truncation, reason = "the low byte")]
const fn worker_of(record: u64) -> WorkerId {
    WorkerId((record as u8).wrapping_sub(1))
}

/// The directory, shared by all workers.
#[derive(Debug)]
pub struct OwnerDirectory {
    slots: Box<[AtomicU64]>,
    bucket_mask: u64,
}

impl OwnerDirectory {
    /// Room for `flows` flows, two keys each, at half load. 32 bytes a flow, rounded up.
    pub fn with_capacity(flows: u32) -> Self {
        let buckets = (flows as usize * 2 / (SLOTS / 2)).max(1).next_power_of_two();
        let slots = (0..buckets * SLOTS).map(|_| AtomicU64::new(FREE)).collect();
        Self { slots, bucket_mask: buckets as u64 - 1 }
    }

    /// Both buckets that may hold a hash.
    fn slots_of(&self, hash: u64) -> impl Iterator<Item = &AtomicU64> {
        let bucket = |h: u64| usize::try_from((h >> 13) & self.bucket_mask).unwrap_or(0) * SLOTS;
        let (first, second) = (bucket(hash), bucket(hash.rotate_left(29)));
        let range = |at: usize| self.slots.get(at..at + SLOTS).unwrap_or(&[]);
        range(first).iter().chain(range(second))
    }

    /// The worker that has the flow with this hash.
    #[inline]
    pub fn owner(&self, hash: u64) -> Option<WorkerId> {
        let records = self.slots_of(hash).map(|slot| slot.load(Ordering::Relaxed));
        let mut same = records.filter(|r| *r != FREE && fingerprint(*r) == fingerprint(hash));
        same.next().map(worker_of)
    }

    /// Claims the flow for `worker`.
    ///
    /// # Errors
    /// The worker that has it already, or `None` if both buckets are full.
    pub fn claim(&self, hash: u64, worker: WorkerId) -> Result<(), Option<WorkerId>> {
        if let Some(owner) = self.owner(hash).filter(|owner| *owner != worker) {
            return Err(Some(owner));
        }
        let mine = record(hash, worker);
        let put = |slot: &&AtomicU64| {
            let swap = slot.compare_exchange(FREE, mine, Ordering::AcqRel, Ordering::Relaxed);
            swap.is_ok()
        };
        self.slots_of(hash).find(put).ok_or(None)?;
        // Two workers may have claimed two free slots at once; the earlier slot wins, and both
        // see the same order.
        match self.owner(hash) {
            Some(owner) if owner != worker => {
                self.release(hash, worker);
                Err(Some(owner))
            }
            _ => Ok(()),
        }
    }

    /// Gives a claim back. Does nothing where there is none.
    pub fn release(&self, hash: u64, worker: WorkerId) {
        let mine = record(hash, worker);
        let clear = |slot: &&AtomicU64| {
            let swap = slot.compare_exchange(mine, FREE, Ordering::AcqRel, Ordering::Relaxed);
            swap.is_ok()
        };
        let _ = self.slots_of(hash).any(|slot| clear(&slot));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_claim_wins_until_it_is_released() {
        let directory = OwnerDirectory::with_capacity(100);
        let (a, b) = (WorkerId(0), WorkerId(1));
        assert_eq!(directory.owner(0xabcd_0000_1111_2222), None);
        assert_eq!(directory.claim(0xabcd_0000_1111_2222, a), Ok(()));
        assert_eq!(directory.claim(0xabcd_0000_1111_2222, b), Err(Some(a)));
        directory.release(0xabcd_0000_1111_2222, b);
        assert_eq!(directory.owner(0xabcd_0000_1111_2222), Some(a));
        directory.release(0xabcd_0000_1111_2222, a);
        assert_eq!(directory.claim(0xabcd_0000_1111_2222, b), Ok(()));
    }

    #[test]
    fn full_buckets_refuse() {
        let directory = OwnerDirectory::with_capacity(1);
        let claims = (1..=64u64).map(|n| directory.claim(n << 40, WorkerId(3)));
        assert!(claims.filter(|c| *c == Err(None)).count() >= 48);
    }

    #[test]
    fn two_threads_never_both_own_a_flow() {
        let directory = OwnerDirectory::with_capacity(4096);
        let claimed = |worker: u8| -> Vec<bool> {
            let hash = |n: u64| n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (1..2000).map(|n| directory.claim(hash(n), WorkerId(worker)).is_ok()).collect()
        };
        std::thread::scope(|scope| {
            let other = scope.spawn(|| claimed(1));
            let mine = claimed(0);
            let both = mine.iter().zip(other.join().unwrap()).filter(|(a, b)| **a && *b);
            assert_eq!(both.count(), 0);
        });
    }
}
