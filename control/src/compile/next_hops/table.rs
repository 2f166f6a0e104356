//! The table: who uses which entry, and what became of its way.

use super::index::Index;
use super::world::{Way, World, WorldView};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{Chunked, NextHop, NextHopState};
use tidegate_dataplane::types::{BackendSlot, IfIndex, IpAddress, NextHopId, ServiceId};

/// Entries at once: two and a half times the endpoints of a cluster of ten thousand Services. A
/// backend that finds none is reported, and takes no flows. Some 200 bytes each.
const NEXT_HOPS_MAX: usize = 262_144;

/// Free numbers that rest before one is given again: the longer, the later a mistake about who may
/// still name one could matter; more of them only lengthen the table.
const RESTING: usize = 1_024;

/// What a backend that has no entry names: nothing stands there.
pub(in crate::compile) const NOWHERE: NextHopId = NextHopId(u32::MAX);

/// The entries, and who uses them.
#[derive(Debug, Default)]
pub(in crate::compile) struct NextHops {
    pub(super) index: Index,
    pub(super) hops: Vec<Option<Hop>>,
    /// Numbers that no backend and no flow names any more, the longest free first.
    pub(super) free: VecDeque<NextHopId>,
    /// Numbers that no backend named at the last look; flows may.
    pub(super) leaving: VecDeque<NextHopId>,
    /// How often those were looked at.
    pub(super) looks: u64,
    pub(super) table: Chunked<NextHop>,
    /// To be resolved for the first time.
    fresh: BTreeSet<NextHopId>,
    world: World,
    /// How many serving addresses are behind an interface that backends may be behind.
    egress: BTreeMap<IfIndex, usize>,
    /// How many are behind one that backends may not be behind: not configured, or for clients.
    barred: BTreeMap<IfIndex, usize>,
    /// How many serving addresses want this neighbour asked for.
    probes: BTreeMap<(IfIndex, IpAddr), usize>,
    /// Those neighbours as last told; none if they changed since.
    told_probes: Option<Arc<[(IfIndex, IpAddr)]>>,
    /// The limit; smaller only in tests.
    entries_max: Option<usize>,
}

/// A (service port, backend) pair that uses an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::compile) struct Pair {
    pub(in crate::compile) service: ServiceId,
    pub(in crate::compile) slot: BackendSlot,
    /// Flows, old or new, may go there.
    pub(in crate::compile) is_serving: bool,
}

/// An entry with what the snapshot has no use for.
#[derive(Debug)]
pub(super) struct Hop {
    pub(super) way: Way,
    /// The pairs that use it, and those that did and may have flows.
    pub(super) pairs: Vec<(Pair, bool)>,
    serving_count: usize,
    /// While it is among those that leave: the count of looks when its last pair left.
    pub(super) left_at: Option<u64>,
}

impl NextHops {
    /// The number of the entry for `address`, which `pair` uses from now on.
    pub(in crate::compile) fn take(&mut self, address: IpAddress, pair: Pair) -> NextHopId {
        let Some(id) = self.index.get(address).or_else(|| self.add(address)) else {
            return NOWHERE;
        };
        let Some(hop) = self.hop_mut(id) else { return NOWHERE };
        let is_pair = |(old, is_used): &&mut (Pair, bool)| {
            !*is_used && (old.service, old.slot) == (pair.service, pair.slot)
        };
        match hop.pairs.iter_mut().find(is_pair) {
            Some(known) => *known = (pair, true),
            None => hop.pairs.push((pair, true)),
        }
        if pair.is_serving {
            hop.serving_count += 1;
            if hop.serving_count == 1 {
                self.count(id, true);
            }
        }
        id
    }

    fn add(&mut self, address: IpAddress) -> Option<NextHopId> {
        let next = NextHopId(u32::try_from(self.hops.len()).ok()?);
        let entries_max = self.entries_max.unwrap_or(NEXT_HOPS_MAX);
        let has_room = self.hops.len() < entries_max && self.free.len() < RESTING;
        let id = if has_room { next } else { self.free.pop_front()? };
        let way = Way::none(address, NextHopState::NoRoute, "no route");
        self.table.set(id.0 as usize, way.entry.clone());
        let hop = Hop { way, pairs: Vec::new(), serving_count: 0, left_at: None };
        match self.hops.get_mut(id.0 as usize) {
            Some(place) => *place = Some(hop),
            None => self.hops.push(Some(hop)),
        }
        self.index.insert(address, id);
        self.fresh.insert(id);
        Some(id)
    }

    /// A pair does not use the entry any more; its flows may.
    pub(in crate::compile) fn release(&mut self, address: IpAddress, pair: Pair) {
        let (Some(id), looks) = (self.index.get(address), self.looks) else { return };
        let Some(hop) = self.hop_mut(id) else { return };
        let is_pair = |(known, is_used): &&mut (Pair, bool)| *is_used && *known == pair;
        let Some(known) = hop.pairs.iter_mut().find(is_pair) else { return };
        known.1 = false;
        if pair.is_serving {
            hop.serving_count -= 1;
        }
        let is_last_serving = pair.is_serving && hop.serving_count == 0;
        if !hop.is_used() && hop.left_at.replace(looks).is_none() {
            self.leaving.push_back(id);
        }
        if is_last_serving {
            self.count(id, false);
        }
    }

    /// Resolves what is new and what the difference between the last world and this one may
    /// concern. Gives the service ports with a backend whose way changed.
    pub(in crate::compile) fn resolve(&mut self, world: &World) -> BTreeSet<ServiceId> {
        let mut ids = core::mem::take(&mut self.fresh);
        if !world.is_same(&self.world) {
            ids.extend(self.index.affected(&self.world, world));
            self.world = world.clone();
        }
        let mut view = WorldView::new(world);
        let mut changed = BTreeSet::new();
        for id in ids {
            self.resolve_one(id, &mut view, &mut changed);
        }
        changed
    }

    fn resolve_one(
        &mut self,
        id: NextHopId,
        view: &mut WorldView<'_>,
        changed: &mut BTreeSet<ServiceId>,
    ) {
        let Some(hop) = self.hop_mut(id) else { return };
        let after = view.way(hop.way.entry.address, &hop.way);
        if after == hop.way {
            return;
        }
        let is_serving = hop.serving_count > 0;
        if (&after.entry, &after.reason) != (&hop.way.entry, &hop.way.reason) {
            let users = hop.pairs.iter().filter(|(_, is_used)| *is_used);
            changed.extend(users.map(|(pair, _)| pair.service));
        }
        if is_serving {
            self.count(id, false);
        }
        let Some(hop) = self.hop_mut(id) else { return };
        let before = core::mem::replace(&mut hop.way, after.clone());
        if before.entry != after.entry {
            self.table.set(id.0 as usize, after.entry.clone());
        }
        self.index.follow(id, &before, &after);
        if is_serving {
            self.count(id, true);
        }
    }

    /// Counts the way of a serving address among the interfaces and neighbours that are wanted, or
    /// no more.
    fn count(&mut self, id: NextHopId, is_more: bool) {
        let Some(way) = self.hop(id).map(|hop| &hop.way) else { return };
        let interface = way.egress.filter(|_| way.is_for_backends);
        let barred = way.egress.or(way.interface).filter(|_| !way.is_for_backends);
        let neighbour = way.interface.zip(way.neighbour).filter(|_| way.is_to_be_probed);
        if let Some(interface) = interface {
            change(&mut self.egress, interface, is_more);
        }
        if let Some(barred) = barred {
            change(&mut self.barred, barred, is_more);
        }
        if let Some(neighbour) = neighbour {
            change(&mut self.probes, neighbour, is_more);
            self.told_probes = None;
        }
    }

    /// The interfaces that flows may leave by; not those that are for clients alone.
    pub(in crate::compile) fn egress(&self) -> impl Iterator<Item = IfIndex> {
        self.egress.keys().copied()
    }

    /// The interfaces that the routes to serving addresses name, and that the configuration does
    /// not let flows leave by.
    pub(in crate::compile) fn barred(&self) -> impl Iterator<Item = IfIndex> {
        self.barred.keys().copied()
    }

    /// Neighbours to ask the kernel for, each once.
    pub(in crate::compile) fn probes(&mut self) -> Arc<[(IfIndex, IpAddr)]> {
        let told = self.told_probes.take().unwrap_or_else(|| self.probes.keys().copied().collect());
        Arc::clone(self.told_probes.insert(told))
    }

    /// The table for the snapshot; the same as last time where nothing changed.
    pub(in crate::compile) fn table(&self) -> Chunked<NextHop> {
        self.table.clone()
    }

    /// Whether packets to `address` can leave.
    pub(in crate::compile) fn state(&self, address: IpAddress) -> NextHopState {
        self.at(address).map_or(NextHopState::NoRoute, |hop| hop.way.entry.state)
    }

    /// Why packets to `address` cannot leave; `None` where they can.
    pub(in crate::compile) fn reason(&self, address: IpAddress) -> Option<Arc<str>> {
        match self.at(address) {
            Some(hop) => hop.way.reason.clone(),
            None => Some(format!("all {NEXT_HOPS_MAX} next hops are taken").into()),
        }
    }

    fn at(&self, address: IpAddress) -> Option<&Hop> {
        self.hop(self.index.get(address)?)
    }

    pub(super) fn hop(&self, id: NextHopId) -> Option<&Hop> {
        self.hops.get(id.0 as usize)?.as_ref()
    }

    pub(super) fn hop_mut(&mut self, id: NextHopId) -> Option<&mut Hop> {
        self.hops.get_mut(id.0 as usize)?.as_mut()
    }
}

impl Hop {
    /// Whether any pair uses it.
    pub(super) fn is_used(&self) -> bool {
        self.pairs.iter().any(|(_, is_used)| *is_used)
    }
}

/// Counts one more or one less; what reaches nothing is forgotten.
fn change<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K, is_more: bool) {
    match counts.entry(key) {
        Entry::Vacant(entry) => {
            entry.insert(1);
        }
        Entry::Occupied(mut entry) if is_more => *entry.get_mut() += 1,
        Entry::Occupied(mut entry) => {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table of so many entries at most.
    pub(in crate::compile::next_hops) fn of_at_most(entries: usize) -> NextHops {
        NextHops { entries_max: Some(entries), ..NextHops::default() }
    }

    pub(in crate::compile::next_hops) fn pair(service: u32, slot: u32) -> Pair {
        Pair { service: ServiceId(service), slot: BackendSlot(slot), is_serving: true }
    }

    pub(in crate::compile::next_hops) fn address(last_byte: u8) -> IpAddress {
        IpAddress::v4([10, 0, 0, last_byte])
    }

    #[test]
    fn pairs_of_one_address_share_its_entry() {
        let mut hops = NextHops::default();
        let first = hops.take(address(1), pair(1, 1));
        assert_eq!(hops.take(address(1), pair(2, 2)), first);
        assert_ne!(hops.take(address(2), pair(1, 3)), first);
        hops.release(address(1), pair(1, 1));
        assert!(hops.leaving.is_empty(), "the other pair still uses it");
        hops.release(address(1), pair(2, 2));
        assert_eq!(hops.leaving, [first]);
        assert_eq!(hops.take(address(1), pair(3, 9)), first, "taken again before it was free");
    }

    #[test]
    fn addresses_that_come_and_go_do_not_lengthen_the_table_for_ever() {
        let mut hops = NextHops::default();
        for n in 0..2 * RESTING {
            let [high, low] = u16::try_from(n).unwrap().to_be_bytes();
            let address = IpAddress::v4([10, 0, high, low]);
            hops.take(address, pair(1, 1));
            hops.release(address, pair(1, 1));
            hops.reap(|_| false);
            hops.reap(|_| false);
        }
        assert_eq!(hops.hops.len(), RESTING);
    }

    #[test]
    fn a_full_table_gives_none_and_says_why() {
        let mut hops = of_at_most(1);
        hops.take(address(1), pair(1, 1));
        assert_eq!(hops.take(address(2), pair(1, 2)), NOWHERE);
        assert!(hops.table().get(NOWHERE.0 as usize).is_none());
        assert!(hops.reason(address(2)).unwrap().contains("next hops are taken"));
        hops.release(address(2), pair(1, 2));
    }
}
