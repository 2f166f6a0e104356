//! A table of bounded size that all workers read and write without waiting: slots in buckets, each
//! slot a sequence lock ([`SequenceLock`]). Readers never write, a writer never waits. At the limit
//! the oldest record of the bucket is forgotten.

use crate::sequence_lock::{SequenceLock, TRIES};
use core::marker::PhantomData;

const BUCKET_SLOTS: usize = 8;

/// What a slot holds, as the words of one cache line.
pub(crate) trait Record: Copy {
    /// Its words. All zero are those of a slot that was never used.
    fn to_words(self) -> [u64; 6];

    /// The record of these words.
    fn from_words(words: [u64; 6]) -> Self;

    /// Milliseconds of the packet path's clock; 0 in a slot that was never used.
    fn began_ms(&self) -> u64;
}

/// Records of one kind.
#[derive(Debug)]
pub(crate) struct Buckets<R> {
    slots: Box<[Slot]>,
    bucket_mask: u64,
    records: PhantomData<fn() -> R>,
}

/// One cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot(SequenceLock<6>);

impl<R: Record> Buckets<R> {
    /// An empty table for this many records, rounded up to whole buckets and a power of two.
    pub(crate) fn with_capacity(records: u32) -> Self {
        let buckets = (records as usize).div_ceil(BUCKET_SLOTS).next_power_of_two();
        let slots = (0..buckets * BUCKET_SLOTS).map(|_| Slot::default()).collect();
        Self { slots, bucket_mask: buckets as u64 - 1, records: PhantomData }
    }

    /// The record in the bucket that these bits choose, if `is_wanted`.
    pub(crate) fn find(&self, bits: u64, is_wanted: impl Fn(&R) -> bool) -> Option<R> {
        self.bucket(bits).iter().filter_map(Slot::read).map(|(_, record)| record).find(is_wanted)
    }

    /// Writes `record` over the one that `is_same`, else over a free slot or the oldest one. What
    /// others write at this moment is left alone.
    pub(crate) fn put(&self, bits: u64, record: &R, is_same: impl Fn(&R) -> bool) {
        let slots = self.bucket(bits);
        let _ = (0..TRIES).any(|_| {
            let read = slots.iter().filter_map(|slot| Some((slot, slot.read::<R>()?)));
            // A free slot is older than all.
            let chosen = read.min_by_key(|(_, (_, old))| (!is_same(old), old.began_ms()));
            chosen.is_some_and(|(slot, (sequence, _))| slot.0.write(sequence, &record.to_words()))
        });
    }

    fn bucket(&self, bits: u64) -> &[Slot] {
        let bucket = usize::try_from(bits & self.bucket_mask).unwrap_or(0);
        self.slots.get(bucket * BUCKET_SLOTS..(bucket + 1) * BUCKET_SLOTS).unwrap_or(&[])
    }
}

impl Slot {
    /// The record and its number, or `None` while it is being written.
    fn read<R: Record>(&self) -> Option<(u64, R)> {
        self.0.read().map(|(sequence, words)| (sequence, R::from_words(words)))
    }
}
