//! Maglev's lookup table (Eisenbud et al., NSDI 2016, section 3.4), the same on every node.

use crate::types::{IpAddress, L4Port, Protocol};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// The three table sizes; primes, so that every skip visits all entries.
///
/// Fixed steps, never tied to the exact backend count: another prime reshuffles 89-99 % of the keys
/// (measured, design.md T11). Each step keeps at least 100 entries per backend, the paper's bound
/// for a share within 1 % of even.
pub const TABLE_SIZES: [u32; 3] = [1_021, 16_381, 65_537];

/// What a backend is to the table: nothing that differs between nodes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct MaglevBackend {
    /// The pod's address.
    pub address: IpAddress,
    /// The pod's port.
    pub port: L4Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Share relative to the others; 0 gets no entry. Kubernetes has no weights: control gives 1.
    pub weight: u16,
}

/// A lookup table: hash of a flow to index of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaglevTable {
    entries: Box<[u16]>,
    backend_count: usize,
}

/// Why a table could not be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum MaglevError {
    /// No backend has a weight.
    #[error("build a Maglev table without backends")]
    NoBackends,
    /// More backends than an entry can number or the table can hold.
    #[error(
        "build a Maglev table of {size} entries for {count} backends, at most {} fit",
        u16::MAX
    )]
    TooManyBackends {
        /// The backends given.
        count: usize,
        /// The table's size.
        size: u32,
    },
    /// A composite size would leave entries that no skip reaches.
    #[error("build a Maglev table of {size} entries: not prime; next {next}")]
    NotPrime {
        /// The size given.
        size: u32,
        /// The next prime.
        next: u32,
    },
}

/// The size for this many backends: 1,021 up to 10, 16,381 up to 160, 65,537 above.
pub const fn table_size(backend_count: usize) -> u32 {
    match backend_count {
        0..=10 => TABLE_SIZES[0],
        11..=160 => TABLE_SIZES[1],
        _ => TABLE_SIZES[2],
    }
}

impl MaglevTable {
    /// Builds the table of `size` entries (a prime) for `backends`; entry values index `backends`.
    /// The order of `backends` changes the indexes, not which backend owns an entry.
    ///
    /// # Errors
    /// See [`MaglevError`].
    pub fn try_new(backends: &[MaglevBackend], size: u32, seed: u64) -> Result<Self, MaglevError> {
        check(backends, size)?;
        let permutations = backends.iter().map(|b| Permutation::of(b, size, seed)).collect();
        let order = canonical_order(backends);
        let weights: Vec<u16> = backends.iter().map(|b| b.weight).collect();
        Ok(Self {
            entries: populate(permutations, &order, &weights, size),
            backend_count: backends.len(),
        })
    }

    /// The index of the backend for a flow with this hash.
    #[inline]
    pub fn backend_index(&self, hash: u64) -> usize {
        self.entries.get(self.entry_of(hash)).copied().map_or(0, usize::from)
    }

    /// Which entry a hash meets, for `explain`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the high half is below the entry count")]
    pub fn entry_of(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.entries.len() as u128) >> 64) as usize
    }

    /// The number of backends that the table was built for.
    pub fn backend_count(&self) -> usize {
        self.backend_count
    }

    /// All entries; each is an index into the backends.
    pub fn entries(&self) -> &[u16] {
        &self.entries
    }
}

fn check(backends: &[MaglevBackend], size: u32) -> Result<(), MaglevError> {
    if !is_prime(size) {
        let next = (size..u32::MAX).find(|n| is_prime(*n)).unwrap_or(size);
        return Err(MaglevError::NotPrime { size, next });
    }
    let count = backends.len();
    if count > usize::from(u16::MAX) || count > size as usize {
        return Err(MaglevError::TooManyBackends { count, size });
    }
    if backends.iter().all(|b| b.weight == 0) {
        return Err(MaglevError::NoBackends);
    }
    Ok(())
}

/// One backend's preference list, walked lazily: `offset`, `offset + skip`, ... modulo the size.
#[derive(Debug, Clone)]
struct Permutation {
    next: u32,
    skip: u32,
}

impl Permutation {
    /// Offset and skip from the two halves of one XXH3-128, as the paper's h1 and h2. Versioned by
    /// this very definition: another hash is another table on half of a fleet during a roll-out.
    fn of(backend: &MaglevBackend, size: u32, seed: u64) -> Self {
        let mut identity = [0u8; 19];
        identity[..16].copy_from_slice(backend.address.bytes());
        identity[16..18].copy_from_slice(&backend.port.bytes());
        identity[18] = backend.protocol as u8;
        let hash = xxh3_128_with_seed(&identity, seed);
        let below = |half: u128, bound: u32| {
            let half = u64::try_from(half).unwrap_or(0);
            u32::try_from(half % u64::from(bound)).unwrap_or(0)
        };
        Self {
            next: below(hash >> 64, size),
            skip: below(hash & u128::from(u64::MAX), size - 1) + 1,
        }
    }

    fn advance(&mut self, size: u32) -> u32 {
        let here = self.next;
        let next = here + self.skip;
        self.next = if next >= size { next - size } else { next };
        here
    }

    /// How many entries come before `entry` from here on; `inverse` is the skip's.
    fn steps_to(&self, entry: u32, inverse: u32, size: u32) -> u32 {
        let distance =
            if entry >= self.next { entry - self.next } else { entry + size - self.next };
        product(distance, inverse, size)
    }

    fn go_behind(&mut self, entry: u32, size: u32) {
        self.next = entry;
        self.advance(size);
    }
}

/// The order in which backends take turns: by identity, so that every node takes the same.
fn canonical_order(backends: &[MaglevBackend]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..backends.len()).filter_map(|i| u16::try_from(i).ok()).collect();
    order.sort_by_key(|i| backends[usize::from(*i)]);
    order
}

/// Fills the table: in each turn a backend takes its next free preference. Towards the end a walk
/// along the preferences finds one entry in thousands free; then each free entry's place among
/// the preferences is worked out instead. Both find the same entry.
fn populate(mut lists: Vec<Permutation>, order: &[u16], weights: &[u16], size: u32) -> Box<[u16]> {
    let mut entries = vec![0; size as usize].into_boxed_slice();
    let mut turns = Turns::new(order, weights);
    let mut free = FreeEntries::all(size);
    // A walk takes some `size / left` steps, the places `left` multiplications, each dearer.
    let is_end = |left: &u32| u64::from(*left).pow(2) * 4 <= u64::from(size);
    let last = (1..size).take_while(is_end).last().unwrap_or(0);
    for _ in last..size {
        let backend = turns.next();
        let list = &mut lists[usize::from(backend)];
        let entry = loop {
            let candidate = list.advance(size);
            if free.take(candidate) {
                break candidate;
            }
        };
        entries[entry as usize] = backend;
    }
    let mut left = free.list(size);
    while !left.is_empty() {
        let backend = turns.next();
        let list = &mut lists[usize::from(backend)];
        let inverse = inverse(list.skip, size);
        let steps = |entry: u32| list.steps_to(entry, inverse, size);
        let nearest = (0..left.len()).min_by_key(|at| steps(left[*at])).unwrap_or(0);
        let entry = left.swap_remove(nearest);
        list.go_behind(entry, size);
        entries[entry as usize] = backend;
    }
    entries
}

/// Whose turn it is. A backend of less than the largest weight sits out turns so that its share is
/// its weight's (the cumulative rule: it moves when its summed weight passes a multiple of the
/// largest).
struct Turns<'a> {
    order: &'a [u16],
    weights: &'a [u16],
    weight_max: u64,
    is_even: bool,
    credit: Vec<u64>,
    at: usize,
}

impl<'a> Turns<'a> {
    fn new(order: &'a [u16], weights: &'a [u16]) -> Self {
        let of = |backend: &u16| weights.get(usize::from(*backend)).copied().unwrap_or(0);
        let weight_max = order.iter().map(of).max().unwrap_or(1);
        let is_even = order.iter().all(|backend| of(backend) == weight_max);
        let credit = vec![0; weights.len()];
        Self { order, weights, weight_max: weight_max.into(), is_even, credit, at: 0 }
    }

    fn next(&mut self) -> u16 {
        loop {
            let backend = self.order[self.at];
            self.at = if self.at + 1 == self.order.len() { 0 } else { self.at + 1 };
            if self.is_even {
                return backend;
            }
            let credit = &mut self.credit[usize::from(backend)];
            *credit += u64::from(self.weights[usize::from(backend)]);
            if *credit >= self.weight_max {
                *credit -= self.weight_max;
                return backend;
            }
        }
    }
}

/// The entries that nobody has yet, a bit each: all of them fit into the first-level cache.
struct FreeEntries(Vec<u64>);

impl FreeEntries {
    fn all(size: u32) -> Self {
        Self(vec![u64::MAX; size.div_ceil(u64::BITS) as usize])
    }

    /// Takes an entry. Whether it was free.
    fn take(&mut self, entry: u32) -> bool {
        let word = &mut self.0[(entry / u64::BITS) as usize];
        let bit = 1 << (entry % u64::BITS);
        let is_free = *word & bit != 0;
        // Written only where it changes: a store at every step would make the next one wait.
        if is_free {
            *word &= !bit;
        }
        is_free
    }

    fn list(&mut self, size: u32) -> Vec<u32> {
        (0..size).filter(|entry| self.take(*entry)).collect()
    }
}

/// The inverse of `n` modulo the prime `size`, by Fermat: `n` to the power of `size - 2`.
fn inverse(n: u32, size: u32) -> u32 {
    let (mut power, mut square, mut exponent) = (1, n, size - 2);
    while exponent > 0 {
        if exponent & 1 == 1 {
            power = product(power, square, size);
        }
        square = product(square, square, size);
        exponent >>= 1;
    }
    power % size
}

fn product(a: u32, b: u32, size: u32) -> u32 {
    u32::try_from(u64::from(a) * u64::from(b) % u64::from(size)).unwrap_or(0)
}

fn is_prime(n: u32) -> bool {
    n >= 2 && (2..=n.isqrt()).all(|d| !n.is_multiple_of(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(count: u16) -> Vec<MaglevBackend> {
        let address = |i: u16| IpAddress::v4([10, 244, i.to_be_bytes()[0], i.to_be_bytes()[1]]);
        let backend = |i| MaglevBackend {
            address: address(i),
            port: L4Port::new(5000),
            protocol: Protocol::Tcp,
            weight: 1,
        };
        (0..count).map(backend).collect()
    }

    fn shares(table: &MaglevTable) -> Vec<usize> {
        let mut counts = vec![0; table.backend_count()];
        table.entries().iter().for_each(|e| counts[usize::from(*e)] += 1);
        counts
    }

    /// Table 1 of the paper: M = 7, (offset, skip) = (3, 4), (0, 2), (3, 1).
    #[test]
    fn the_papers_table_is_reproduced() {
        let list = |next, skip| Permutation { next, skip };
        let lists = vec![list(3, 4), list(0, 2), list(3, 1)];
        assert_eq!(*populate(lists.clone(), &[0, 1, 2], &[1, 1, 1], 7), [1, 0, 1, 0, 2, 2, 0]);
        assert_eq!(*populate(lists, &[0, 2], &[1, 0, 1], 7), [0, 0, 0, 0, 2, 2, 2]);
    }

    /// Section 3.4 word by word: no bits, no places worked out.
    #[test]
    fn the_table_is_what_a_plain_walk_makes_of_the_preferences() {
        for (count, size, weights) in [(1, 2, 1), (7, 7, 1), (10, 1_021, 1), (300, 65_537, 3)] {
            let mut backends = backends(count);
            backends.iter_mut().zip(0u16..).for_each(|(b, n)| b.weight = n % weights + 1);
            let mut lists: Vec<_> = backends.iter().map(|b| Permutation::of(b, size, 9)).collect();
            let mut plain = vec![u16::MAX; size as usize];
            let (mut credit, mut left) = (vec![0; backends.len()], size);
            while left > 0 {
                for at in 0..backends.len() {
                    credit[at] += backends[at].weight;
                    if left == 0 || credit[at] < weights {
                        continue;
                    }
                    credit[at] -= weights;
                    let mut walk = core::iter::repeat_with(|| lists[at].advance(size) as usize);
                    let entry = walk.find(|entry| plain[*entry] == u16::MAX).unwrap();
                    plain[entry] = u16::try_from(at).unwrap();
                    left -= 1;
                }
            }
            let table = MaglevTable::try_new(&backends, size, 9).unwrap();
            assert_eq!(table.entries(), plain, "{count} in {size}");
        }
    }

    #[test]
    fn shares_differ_by_at_most_one_entry() {
        for count in [1, 2, 3, 7, 10, 160, 1000] {
            let table =
                MaglevTable::try_new(&backends(count), table_size(count.into()), 0).unwrap();
            let shares = shares(&table);
            assert!(shares.iter().max().unwrap() - shares.iter().min().unwrap() <= 1, "{count}");
        }
    }

    #[test]
    fn removing_a_backend_moves_at_most_one_percent_of_the_others() {
        let all = backends(400);
        let before = MaglevTable::try_new(&all, 65_537, 0).unwrap();
        let after = MaglevTable::try_new(&all[..399], 65_537, 0).unwrap();
        let pairs = before.entries().iter().zip(after.entries());
        let moved = pairs.filter(|(b, a)| **b != 399 && b != a).count();
        assert!(moved <= 655, "{moved} of 65537 entries of other backends moved");
    }

    #[test]
    fn the_order_of_the_backends_does_not_matter() {
        let forward = backends(50);
        let reversed: Vec<_> = forward.iter().rev().copied().collect();
        let (a, b) =
            (MaglevTable::try_new(&forward, 16_381, 7), MaglevTable::try_new(&reversed, 16_381, 7));
        let owners = |t: MaglevTable, list: &[MaglevBackend]| -> Vec<MaglevBackend> {
            t.entries().iter().map(|e| list[usize::from(*e)]).collect()
        };
        assert_eq!(owners(a.unwrap(), &forward), owners(b.unwrap(), &reversed));
    }

    #[test]
    fn weights_give_proportional_shares() {
        let mut three = backends(3);
        three[0].weight = 2;
        let shares = shares(&MaglevTable::try_new(&three, 65_537, 0).unwrap());
        assert!(shares[0].abs_diff(32_769) <= 1, "{shares:?}");
        assert!(shares[1].abs_diff(shares[2]) <= 1, "{shares:?}");
    }

    #[test]
    fn bad_sizes_and_empty_sets_are_refused() {
        let error = MaglevTable::try_new(&backends(1), 65_536, 0).unwrap_err();
        assert_eq!(error, MaglevError::NotPrime { size: 65_536, next: 65_537 });
        assert_eq!(MaglevTable::try_new(&[], 7, 0).unwrap_err(), MaglevError::NoBackends);
    }
}
