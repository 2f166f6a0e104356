//! Giving numbers free again that no flow can name.

use super::table::NextHops;
use tidegate_dataplane::snapshot::NextHop;
use tidegate_dataplane::types::{BackendSlot, IfIndex, NextHopId};

/// Entries looked at per call: a fraction of a millisecond. Those left come at the next.
const LOOKED_AT_MAX: usize = 4_096;

impl NextHops {
    /// Frees entries that no backend names and no flow either: `has_flows` tells of the flows of a
    /// (service port, backend) pair, on all workers. To be called some hundreds of milliseconds
    /// apart, and only while the last compilation is published: an entry is freed at the second
    /// look at the earliest, when no burst of a snapshot that named it can run any more.
    pub(in crate::compile) fn reap(&mut self, has_flows: impl Fn(BackendSlot) -> bool) {
        self.looks += 1;
        for _ in 0..self.leaving.len().min(LOOKED_AT_MAX) {
            let (Some(id), looks) = (self.leaving.pop_front(), self.looks) else { return };
            let Some(hop) = self.hop_mut(id) else { continue };
            if hop.is_used() {
                // Taken again meanwhile.
                hop.left_at = None;
                continue;
            }
            let was_seen = hop.left_at.is_some_and(|left_at| left_at + 1 < looks);
            if was_seen && !hop.pairs.iter().any(|(pair, _)| has_flows(pair.slot)) {
                self.free(id);
            } else {
                self.leaving.push_back(id);
            }
        }
    }

    /// Whether flows of any pair, also one that has left, go by this interface.
    pub(in crate::compile) fn has_flows_by(
        &self,
        interface: IfIndex,
        has_flows: impl Fn(BackendSlot) -> bool,
    ) -> bool {
        let hops = self.index.behind(interface).filter_map(|id| self.hop(id));
        hops.flat_map(|hop| &hop.pairs).any(|(pair, _)| has_flows(pair.slot))
    }

    fn free(&mut self, id: NextHopId) {
        let Some(hop) = self.hops.get_mut(id.0 as usize).and_then(Option::take) else { return };
        let address = hop.way.entry.address;
        let gone =
            super::world::Way { interface: None, egress: None, neighbour: None, ..hop.way.clone() };
        self.index.follow(id, &hop.way, &gone);
        self.index.remove(address);
        self.table.set(id.0 as usize, NextHop::default());
        self.free.push_back(id);
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::{address, of_at_most, pair};

    #[test]
    fn an_entry_stays_while_a_flow_of_any_of_its_pairs_lives() {
        let mut hops = of_at_most(1);
        let id = hops.take(address(1), pair(1, 1));
        hops.take(address(1), pair(2, 2));
        hops.release(address(1), pair(1, 1));
        hops.release(address(1), pair(2, 2));
        for _ in 0..3 {
            hops.reap(|slot| slot.0 == 1);
        }
        assert_ne!(hops.take(address(2), pair(1, 3)), id, "a flow of the first pair names it");
        hops.reap(|_| false);
        assert_eq!(hops.take(address(2), pair(1, 3)), id, "free, and given to another address");
        assert_ne!(hops.take(address(1), pair(1, 1)), id);
    }

    #[test]
    fn an_entry_is_not_free_at_the_first_look() {
        let mut hops = of_at_most(1);
        let id = hops.take(address(1), pair(1, 1));
        hops.release(address(1), pair(1, 1));
        hops.reap(|_| false);
        assert_ne!(hops.take(address(2), pair(1, 2)), id);
        hops.reap(|_| false);
        assert_eq!(hops.take(address(2), pair(1, 2)), id);
    }

    #[test]
    fn an_entry_that_is_used_again_is_not_freed() {
        let mut hops = of_at_most(2);
        let id = hops.take(address(1), pair(1, 1));
        hops.release(address(1), pair(1, 1));
        hops.reap(|_| false);
        hops.take(address(1), pair(1, 1));
        hops.reap(|_| false);
        hops.reap(|_| false);
        assert_eq!(hops.take(address(1), pair(2, 2)), id);
        assert!(hops.leaving.is_empty());
    }
}
