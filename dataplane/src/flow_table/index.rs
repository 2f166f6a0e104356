//! From hash to entry: buckets of one cache line, two buckets per key.
//!
//! A key lives in its first bucket, or in its second when the first is full. The first counts how
//! many it sent away, so a lookup that finds 0 there need not look at the second: at half load
//! that is 95 of 100 misses. When both are full, one of the keys there moves to its other bucket.

/// A key's place: the flow's number and the direction, in 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reference(u32);

impl Reference {
    pub(crate) fn new(flow: u32, direction: super::Direction) -> Self {
        Self(flow << 1 | u32::from(direction as u8))
    }

    #[inline]
    pub(crate) fn flow(self) -> u32 {
        self.0 >> 1
    }

    #[inline]
    pub(crate) fn direction(self) -> super::Direction {
        if self.0 & 1 == 0 { super::Direction::Forward } else { super::Direction::Reply }
    }
}

const SLOTS: usize = 7;

/// One cache line. `tags[i] == 0` means free; a stored tag never is 0.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(64))]
struct Bucket {
    tags: [u32; SLOTS],
    overflowed: u32,
    references: [u32; SLOTS],
    unused: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    #[inline]
    fn free_slot(&self) -> Option<usize> {
        self.tags.iter().position(|tag| *tag == 0)
    }

    /// The slots whose tag fits, as bits. Without a branch per slot: which of them holds a key is
    /// chance, and a CPU that guesses wrong loses more than seven comparisons cost.
    #[inline]
    fn fitting(&self, tag: Tag) -> u32 {
        let bits = (0..).zip(&self.tags).map(|(at, stored)| u32::from(tag.fits(*stored)) << at);
        bits.fold(0, core::ops::BitOr::bitor)
    }

    /// The reference in the lowest of some slots, given as bits.
    #[inline]
    fn lowest(&self, slots: u32) -> Option<Reference> {
        self.references.get(slots.trailing_zeros() as usize).copied().map(Reference)
    }
}

/// Part of a hash that a slot remembers, and whether the slot is in the key's second bucket.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Tag(u32);

impl Tag {
    const DISPLACED: u32 = 1;
    /// Always set, so that a tag never is 0.
    const PRESENT: u32 = 2;

    #[inline]
    fn of(hash: u64) -> Self {
        Self((hash >> 32) as u32 & !Self::DISPLACED | Self::PRESENT)
    }

    #[inline]
    fn fits(self, stored: u32) -> bool {
        stored & !Self::DISPLACED == self.0
    }

    /// What leads from one bucket to the other, and back.
    #[inline]
    fn step(self) -> u64 {
        (u64::from(self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) | 1
    }
}

/// The buckets.
#[derive(Debug)]
pub(crate) struct Index {
    buckets: Box<[Bucket]>,
    mask: u64,
}

impl Index {
    /// Room for `keys` keys at a load of at most 4 of 7 slots.
    pub(crate) fn with_capacity(keys: usize) -> Self {
        let count = (keys / 4).max(2).next_power_of_two();
        Self { buckets: crate::memory::filled(Bucket::default(), count), mask: count as u64 - 1 }
    }

    /// Bytes of all buckets.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to the bucket count")]
    fn first(&self, hash: u64) -> usize {
        (hash & self.mask) as usize
    }

    /// The other bucket of a key that has this tag and can be in bucket `here`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "masked to the bucket count")]
    fn other(&self, here: usize, tag: Tag) -> usize {
        ((here as u64 ^ tag.step()) & self.mask) as usize
    }

    /// Asks the CPU for the first bucket.
    #[inline]
    pub(crate) fn prefetch(&self, hash: u64) {
        if let Some(bucket) = self.buckets.get(self.first(hash)) {
            crate::memory::prefetch(bucket);
        }
    }

    /// The first reference whose tag fits; a hint for prefetching, not an answer.
    #[inline]
    pub(crate) fn hint(&self, hash: u64) -> Option<Reference> {
        let bucket = self.buckets.get(self.first(hash))?;
        bucket.lowest(bucket.fitting(Tag::of(hash)))
    }

    /// The reference that `is_match` confirms.
    #[inline]
    pub(crate) fn find(
        &self,
        hash: u64,
        is_match: impl Fn(Reference) -> bool,
    ) -> Option<Reference> {
        let (here, tag) = (self.first(hash), Tag::of(hash));
        let first = self.buckets.get(here)?;
        let found = Self::find_in(first, tag, &is_match);
        if found.is_some() || first.overflowed == 0 {
            return found;
        }
        Self::find_in(self.buckets.get(self.other(here, tag))?, tag, &is_match)
    }

    #[inline]
    fn find_in(
        bucket: &Bucket,
        tag: Tag,
        is_match: &impl Fn(Reference) -> bool,
    ) -> Option<Reference> {
        let mut slots = bucket.fitting(tag);
        while let Some(reference) = bucket.lowest(slots) {
            if is_match(reference) {
                return Some(reference);
            }
            slots &= slots - 1;
        }
        None
    }

    /// Stores a key that is not there. False if both buckets are full and none of their keys can
    /// move.
    pub(crate) fn insert(&mut self, hash: u64, reference: Reference) -> bool {
        let (first, tag) = (self.first(hash), Tag::of(hash));
        let second = self.other(first, tag);
        if self.put(first, tag.0, reference.0) {
            return true;
        }
        if self.put(second, tag.0 | Tag::DISPLACED, reference.0) {
            self.buckets[first].overflowed += 1;
            return true;
        }
        self.make_room(first) && self.put(first, tag.0, reference.0)
    }

    fn put(&mut self, at: usize, tag: u32, reference: u32) -> bool {
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        let Some(slot) = bucket.free_slot() else { return false };
        bucket.tags[slot] = tag;
        bucket.references[slot] = reference;
        true
    }

    /// Moves one key of a full bucket to its other bucket.
    fn make_room(&mut self, at: usize) -> bool {
        (0..SLOTS).any(|slot| {
            let bucket = self.buckets[at];
            let (stored, reference) = (bucket.tags[slot], bucket.references[slot]);
            let to = self.other(at, Tag(stored & !Tag::DISPLACED));
            if to == at || !self.put(to, stored ^ Tag::DISPLACED, reference) {
                return false;
            }
            // The first bucket of the moved key counts it while it is away.
            if stored & Tag::DISPLACED == 0 {
                self.buckets[at].overflowed += 1;
            } else {
                self.buckets[to].overflowed -= 1;
            }
            self.buckets[at].tags[slot] = 0;
            true
        })
    }

    /// Removes a key. False if it was not there.
    pub(crate) fn remove(&mut self, hash: u64, reference: Reference) -> bool {
        let (first, tag) = (self.first(hash), Tag::of(hash));
        if self.take(first, tag.0, reference) {
            return true;
        }
        let is_away = self.take(self.other(first, tag), tag.0 | Tag::DISPLACED, reference);
        if is_away {
            self.buckets[first].overflowed -= 1;
        }
        is_away
    }

    fn take(&mut self, at: usize, tag: u32, reference: Reference) -> bool {
        let Some(bucket) = self.buckets.get_mut(at) else { return false };
        let is_it =
            |slot: &usize| bucket.tags[*slot] == tag && bucket.references[*slot] == reference.0;
        let Some(slot) = (0..SLOTS).find(is_it) else { return false };
        bucket.tags[slot] = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_table::Direction;

    fn reference(n: u32) -> Reference {
        Reference::new(n, Direction::Forward)
    }

    #[test]
    fn a_full_bucket_sends_keys_to_their_second_and_finds_them_again() {
        let mut index = Index::with_capacity(4096);
        let hashes: Vec<u64> = (1..=10).map(|n| n << 32 | 5).collect();
        for (n, hash) in (0..).zip(&hashes) {
            assert!(index.insert(*hash, reference(n)));
        }
        for (n, hash) in (0..).zip(&hashes) {
            assert_eq!(index.find(*hash, |r| r.flow() == n), Some(reference(n)));
        }
        for (n, hash) in (0..10).zip(&hashes).rev() {
            assert!(index.remove(*hash, reference(n)));
            assert!(!index.remove(*hash, reference(n)));
        }
        assert_eq!(index.buckets[5].overflowed, 0);
        assert!(index.buckets.iter().all(|b| b.tags == [0; SLOTS]));
    }

    #[test]
    fn equal_tags_are_told_apart_by_the_caller() {
        let mut index = Index::with_capacity(64);
        assert!(index.insert(42, reference(1)) && index.insert(42, reference(2)));
        assert_eq!(index.find(42, |r| r.flow() == 2), Some(reference(2)));
        assert_eq!(index.find(42, |r| r.flow() == 3), None);
    }

    /// Against a plain map, at the highest load that the table is made for.
    #[test]
    fn at_full_capacity_every_key_finds_room_and_is_found() {
        let keys = 8192u32;
        let mut index = Index::with_capacity(keys as usize);
        let mut random = crate::random::Random::new(3);
        let hashes: Vec<u64> = (0..keys).map(|_| random.next_u64()).collect();
        for (n, hash) in (0..keys).zip(&hashes) {
            assert!(index.insert(*hash, reference(n)), "key {n}");
        }
        for (n, hash) in (0..keys).zip(&hashes) {
            assert_eq!(index.find(*hash, |r| r.flow() == n), Some(reference(n)));
        }
        assert!(index.buckets.iter().any(|b| b.overflowed > 0));
        for (n, hash) in (0..keys).zip(&hashes) {
            assert!(index.remove(*hash, reference(n)));
        }
        assert!(index.buckets.iter().all(|b| b.overflowed == 0 && b.tags == [0; SLOTS]));
    }

    #[test]
    fn full_buckets_refuse() {
        let mut index = Index::with_capacity(1);
        let stored = (0..100u32).filter(|n| index.insert(u64::from(*n) << 34, reference(*n)));
        assert_eq!(stored.count(), 2 * SLOTS);
    }
}
