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
        let size = u128::from(size);
        let low = |n: u128| u32::try_from(n).unwrap_or(0);
        Self {
            next: low((hash >> 64) % size),
            skip: low((hash & u128::from(u64::MAX)) % (size - 1) + 1),
        }
    }

    fn advance(&mut self, size: u32) -> u32 {
        let here = self.next;
        let next = here + self.skip;
        self.next = if next >= size { next - size } else { next };
        here
    }
}

/// The order in which backends take turns: by identity, so that every node takes the same.
fn canonical_order(backends: &[MaglevBackend]) -> Vec<u16> {
    let mut order: Vec<u16> = (0..backends.len()).filter_map(|i| u16::try_from(i).ok()).collect();
    order.sort_by_key(|i| backends[usize::from(*i)]);
    order
}

/// Fills the table: in each turn every backend takes its next free preference. A backend of less
/// than the largest weight sits out turns so that its share is its weight's (the cumulative rule:
/// it moves when its summed weight passes a multiple of the largest).
fn populate(mut lists: Vec<Permutation>, order: &[u16], weights: &[u16], size: u32) -> Box<[u16]> {
    const FREE: u16 = u16::MAX;
    let mut entries = vec![FREE; size as usize].into_boxed_slice();
    let weight_max = u64::from(weights.iter().copied().max().unwrap_or(1));
    let mut credit = vec![0u64; weights.len()];
    let mut left = size;
    loop {
        for &backend in order {
            let index = usize::from(backend);
            credit[index] += u64::from(weights[index]);
            if credit[index] < weight_max {
                continue;
            }
            credit[index] -= weight_max;
            let entry = loop {
                let candidate = lists[index].advance(size) as usize;
                if entries[candidate] == FREE {
                    break candidate;
                }
            };
            entries[entry] = backend;
            left -= 1;
            if left == 0 {
                return entries;
            }
        }
    }
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
