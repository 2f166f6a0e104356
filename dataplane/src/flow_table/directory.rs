//! The owner directory (T6): which worker has a flow, for packets that arrive at another.
//!
//! A fixed array of atomics, written when a flow begins and ends, read only after a local miss.
//! It holds fingerprints, not keys: a false match (2^-51 per pair) sends a packet to a worker that
//! misses too and then treats it as its own.

use crate::types::WorkerId;
use core::sync::atomic::{AtomicU64, Ordering};

const SLOTS: usize = 8;
const FREE: u64 = 0;

/// Looks of a worker that waits for one with a larger number to give way: it does so within a few
/// instructions, unless it has the flow for good or was interrupted.
const LOOKS_MAX: usize = 16;

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
    /// Two workers may put their records at the same moment. Load-bearing: each looks at all slots
    /// of both buckets after its own record stands, in one order for all (`SeqCst`), so at least
    /// one sees the other, and whoever still sees another at the end gives way. The larger number
    /// does so at once, the smaller after a few more looks: usually one of the two remains.
    ///
    /// # Errors
    /// The worker that has it already, or `None` if both buckets are full.
    pub fn claim(&self, hash: u64, worker: WorkerId) -> Result<(), Option<WorkerId>> {
        if let Some(owner) = self.other_owner(hash, worker) {
            return Err(Some(owner));
        }
        self.put(hash, worker).ok_or(None)?;
        match self.rival(hash, worker) {
            None => Ok(()),
            Some(rival) => {
                self.release(hash, worker);
                Err(Some(rival))
            }
        }
    }

    /// Puts our record into a free slot; `None` where there is none.
    fn put(&self, hash: u64, worker: WorkerId) -> Option<()> {
        let mine = record(hash, worker);
        let put = |slot: &AtomicU64| {
            slot.compare_exchange(FREE, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        self.slots_of(hash).any(put).then_some(())
    }

    /// Who must be given way to, now that our record stands.
    fn rival(&self, hash: u64, worker: WorkerId) -> Option<WorkerId> {
        let mut rival = None;
        for _ in 0..LOOKS_MAX {
            rival = Some(self.other_owner(hash, worker)?);
            if rival.is_some_and(|rival| rival.0 < worker.0) {
                break;
            }
            core::hint::spin_loop();
        }
        rival
    }

    /// The owner with the smallest number, `worker` left out.
    fn other_owner(&self, hash: u64, worker: WorkerId) -> Option<WorkerId> {
        let records = self.slots_of(hash).map(|slot| slot.load(Ordering::SeqCst));
        let same = records.filter(|r| *r != FREE && fingerprint(*r) == fingerprint(hash));
        same.map(worker_of).filter(|owner| *owner != worker).min_by_key(|owner| owner.0)
    }

    /// Gives a claim back. Does nothing where there is none.
    pub fn release(&self, hash: u64, worker: WorkerId) {
        let mine = record(hash, worker);
        let clear = |slot: &AtomicU64| {
            slot.compare_exchange(mine, FREE, Ordering::SeqCst, Ordering::Relaxed).is_ok()
        };
        let _ = self.slots_of(hash).any(clear);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;

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

    const FLOW: u64 = 1 << 40;
    const OTHER_FLOW: u64 = 2 << 40;

    /// Both found nobody at first; the one puts its record when the other has looked already.
    #[test]
    fn whoever_comes_second_gives_way_whatever_its_number() {
        for (first, second) in [(0, 1), (1, 0)].map(|(a, b)| (WorkerId(a), WorkerId(b))) {
            let directory = OwnerDirectory::with_capacity(1);
            directory.put(FLOW, first).unwrap();
            assert_eq!(directory.rival(FLOW, first), None);
            directory.put(FLOW, second).unwrap();
            assert_eq!(directory.rival(FLOW, second), Some(first));
        }
    }

    /// Slots before the first one's become free in between.
    #[test]
    fn the_place_of_a_record_gives_no_right() {
        let directory = OwnerDirectory::with_capacity(1);
        directory.put(OTHER_FLOW, WorkerId(2)).unwrap();
        directory.put(FLOW, WorkerId(0)).unwrap();
        assert_eq!(directory.rival(FLOW, WorkerId(0)), None);
        directory.release(OTHER_FLOW, WorkerId(2));
        directory.put(FLOW, WorkerId(1)).unwrap();
        assert_eq!(directory.rival(FLOW, WorkerId(1)), Some(WorkerId(0)));
        assert_eq!(directory.owner(FLOW), Some(WorkerId(1)), "the test is about this order");
    }

    const ROUNDS: usize = 3_000;

    /// Claims at the same moment as the other, again and again. Returns in which rounds it won.
    fn contend(directory: &OwnerDirectory, start: &Barrier, worker: WorkerId) -> Vec<bool> {
        let round = |_| {
            start.wait();
            let is_won = directory.claim(FLOW, worker).is_ok();
            start.wait();
            if is_won {
                directory.release(FLOW, worker);
            }
            is_won
        };
        (0..ROUNDS).map(round).collect()
    }

    #[test]
    fn two_threads_that_want_the_same_flow_never_both_get_it() {
        let (directory, start) = (OwnerDirectory::with_capacity(1), Barrier::new(2));
        let (first, second) = std::thread::scope(|scope| {
            let other = scope.spawn(|| contend(&directory, &start, WorkerId(1)));
            (contend(&directory, &start, WorkerId(0)), other.join().unwrap())
        });
        let both = first.iter().zip(&second).filter(|(a, b)| **a && **b);
        assert_eq!(both.count(), 0, "two own one flow");
        let one = first.iter().zip(&second).filter(|(a, b)| **a || **b);
        assert!(one.count() > ROUNDS / 2, "both gave way too often");
        assert_eq!(directory.owner(FLOW), None, "a claim was left behind");
    }
}
