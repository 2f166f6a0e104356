//! What packets of service ports were dropped for: a bounded table, since there are thousands of
//! service ports and tens of reasons, and few pairs of them ever meet.

use crate::host_flows::HASH_FACTOR;
use crate::stats::Counter;
use crate::types::ServiceId;
use crate::verdict::DropReason;
use core::sync::atomic::{AtomicU64, Ordering};

/// Pairs of service port and reason, 64 KiB for each worker. Drops of further pairs count in the
/// service port's sum alone, and are told as another reason there.
const PAIRS_MAX: usize = 4096;

/// Places that a pair may be at. More only help a table that is almost full.
const PROBES_MAX: usize = 16;

/// Counters of pairs that were met. One writer.
#[derive(Debug)]
pub struct ServiceDrops(Box<[Slot]>);

#[derive(Debug, Default)]
struct Slot {
    /// [`key`] of a pair; 0: nobody's yet.
    key: AtomicU64,
    packets: Counter,
}

impl Default for ServiceDrops {
    fn default() -> Self {
        Self::with_pairs_max(PAIRS_MAX)
    }
}

impl ServiceDrops {
    /// Room for so many pairs, a power of two.
    pub(super) fn with_pairs_max(count: usize) -> Self {
        Self((0..count).map(|_| Slot::default()).collect())
    }

    /// Counts a packet, if the pair has a place or gets one. Only for the one writer.
    pub fn add(&self, service: ServiceId, reason: DropReason) {
        let key = key(service, reason);
        for slot in self.places(key) {
            match slot.key.load(Ordering::Relaxed) {
                0 => slot.key.store(key, Ordering::Relaxed),
                other if other != key => continue,
                _ => {}
            }
            slot.packets.add(1);
            return;
        }
    }

    fn places(&self, key: u64) -> impl Iterator<Item = &Slot> {
        // Fibonacci hashing: neighbouring numbers are spread.
        let first = key.wrapping_mul(HASH_FACTOR) >> 32;
        let mask = self.0.len().wrapping_sub(1);
        let at = move |n: usize| (usize::try_from(first).unwrap_or(0) + n) & mask;
        (0..PROBES_MAX).filter_map(move |n| self.0.get(at(n)))
    }

    /// All pairs that were met.
    pub fn iter(&self) -> impl Iterator<Item = (ServiceId, DropReason, u64)> {
        self.0.iter().filter_map(|slot| {
            let (service, reason) = pair(slot.key.load(Ordering::Relaxed))?;
            Some((service, reason, slot.packets.get()))
        })
    }
}

/// A pair as a number, never 0.
fn key(service: ServiceId, reason: DropReason) -> u64 {
    u64::from(service.0) << 8 | (reason as u64 + 1)
}

fn pair(key: u64) -> Option<(ServiceId, DropReason)> {
    let reason = usize::try_from((key & 0xff).checked_sub(1)?).ok()?;
    let service = u32::try_from(key >> 8).ok()?;
    Some((ServiceId(service), *DropReason::ALL.get(reason)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_that_were_met_are_told_apart() {
        let drops = ServiceDrops::default();
        let pairs = [
            (ServiceId(1), DropReason::PktTooSmall),
            (ServiceId(1), DropReason::StaleWorker),
            (ServiceId(16_383), DropReason::NeighFailed),
        ];
        for (service, reason) in pairs.into_iter().chain([pairs[1]]) {
            drops.add(service, reason);
        }
        let mut found: Vec<_> = drops.iter().collect();
        found.sort_unstable();
        let expected: Vec<_> =
            pairs.into_iter().zip([1, 2, 1]).map(|((s, r), count)| (s, r, count)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_full_table_keeps_what_it_has() {
        let drops = ServiceDrops::with_pairs_max(8);
        let services = (1..100).map(ServiceId);
        services.for_each(|service| drops.add(service, DropReason::NeighFailed));
        drops.add(ServiceId(1), DropReason::NeighFailed);
        assert_eq!(drops.iter().count(), 8);
        assert!(drops.iter().any(|pair| pair == (ServiceId(1), DropReason::NeighFailed, 2)));
    }
}
