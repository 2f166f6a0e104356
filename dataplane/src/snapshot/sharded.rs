//! A map whose copies share what did not change, so that a snapshot with one front more costs one
//! shard and not all fronts.

use core::hash::{BuildHasher, Hash};
use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};
use std::sync::Arc;

/// Shards. A change copies the list of shards and one shard, so the square root of the usual count
/// costs least: ten thousand Services have some twenty thousand fronts. More make a small change
/// dearer, fewer a large map's.
const SHARDS: usize = 256;

type Shard<K, V> = Arc<HashTable<(K, V)>>;

/// A hash map that is copied in the time of one pointer. A change copies the shard that it falls
/// into, if a copy shares it. A look-up costs one pointer more than in a plain map.
///
/// Unbounded by itself: what control puts there is bounded by the cluster's objects.
#[derive(Debug, Clone)]
pub struct Sharded<K, V> {
    hasher: DefaultHashBuilder,
    /// None while nothing was ever inserted; then [`SHARDS`].
    shards: Arc<[Shard<K, V>]>,
    count: usize,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { hasher: DefaultHashBuilder::default(), shards: Arc::default(), count: 0 }
    }
}

impl<K, V> Sharded<K, V> {
    /// The number of entries.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter()).map(|(key, value)| (key, value))
    }

    /// All values, in no order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// All keys, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }
}

impl<K: Hash + Eq, V> Sharded<K, V> {
    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        let hash = self.hasher.hash_one(key);
        let shard = self.shards.get(place(hash))?;
        shard.find(hash, |(known, _)| known == key).map(|(_, value)| value)
    }

    /// Whether `key` is there.
    pub fn contains_key(&self, key: &K) -> bool {
        self.get(key).is_some()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Sharded<K, V> {
    /// Sets the value of `key`; gives the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        if self.shards.is_empty() {
            self.shards = core::iter::repeat_with(Arc::default).take(SHARDS).collect();
        }
        let hasher = self.hasher.clone();
        let hash = hasher.hash_one(&key);
        let shard = self.shard_mut(hash)?;
        match shard.entry(hash, |(known, _)| *known == key, |(known, _)| hasher.hash_one(known)) {
            Entry::Occupied(mut entry) => Some(core::mem::replace(&mut entry.get_mut().1, value)),
            Entry::Vacant(entry) => {
                entry.insert((key, value));
                self.count += 1;
                None
            }
        }
    }

    /// Removes `key`; gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        // A shard is not copied for a key that it has not.
        self.get(key)?;
        let hash = self.hasher.hash_one(key);
        let entry = self.shard_mut(hash)?.find_entry(hash, |(known, _)| known == key).ok()?;
        let ((_, value), _) = entry.remove();
        self.count -= 1;
        Some(value)
    }

    /// The shard of a hash, copied if it is shared; `None` only before the first insertion.
    fn shard_mut(&mut self, hash: u64) -> Option<&mut HashTable<(K, V)>> {
        Arc::make_mut(&mut self.shards).get_mut(place(hash)).map(Arc::make_mut)
    }
}

/// By bits that the table itself does not use: it takes the lowest and the seven highest.
#[inline]
fn place(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for Sharded<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::default();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;
    use hashbrown::HashMap;

    #[test]
    fn it_holds_what_a_plain_map_holds() {
        let (mut ours, mut plain, mut random) =
            (Sharded::default(), HashMap::new(), Random::new(7));
        for _ in 0..20_000 {
            let (key, value) = (random.below(2_000), random.below(1_000));
            if value < 400 {
                assert_eq!(ours.remove(&key), plain.remove(&key));
            } else {
                assert_eq!(ours.insert(key, value), plain.insert(key, value));
            }
            assert_eq!(ours.len(), plain.len());
        }
        let mut all: Vec<(u32, u32)> = ours.iter().map(|(k, v)| (*k, *v)).collect();
        let mut expected: Vec<_> = plain.into_iter().collect();
        all.sort_unstable();
        expected.sort_unstable();
        assert_eq!(all, expected);
    }

    #[test]
    fn a_copy_keeps_its_own_and_shares_all_but_the_changed_shard() {
        let mut map: Sharded<u32, u32> = (0..5_000).map(|n| (n, n)).collect();
        let before = map.clone();
        map.insert(5, 50);
        map.remove(&6);
        assert_eq!((before.get(&5), before.get(&6), before.len()), (Some(&5), Some(&6), 5_000));
        assert_eq!((map.get(&5), map.get(&6), map.len()), (Some(&50), None, 4_999));
        let pairs = before.shards.iter().zip(map.shards.iter());
        let changed = pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert!((1..=2).contains(&changed), "{changed} shards were copied");
    }

    #[test]
    fn an_empty_map_has_nothing_to_remove() {
        let mut map = Sharded::<u32, u32>::default();
        assert_eq!((map.remove(&1), map.get(&1), map.is_empty()), (None, None, true));
    }
}
