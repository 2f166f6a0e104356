//! Finding next hops by what a change of the world names.

use super::affected::Affected;
use super::world::{Way, World};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use tidegate_dataplane::types::{IfIndex, IpAddress, NextHopId};

/// The least address, as a gateway for bounds.
const FIRST: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// Next hops by address, by interface, and by gateway.
#[derive(Debug, Default)]
pub(super) struct Index {
    ids: BTreeMap<IpAddress, NextHopId>,
    /// By the interface of their route, and where that is a bridge by its port too.
    by_interface: BTreeSet<(IfIndex, NextHopId)>,
    /// Those whose neighbour is another than the address itself.
    by_gateway: BTreeSet<(IfIndex, IpAddr, NextHopId)>,
}

impl Index {
    pub(super) fn get(&self, address: IpAddress) -> Option<NextHopId> {
        self.ids.get(&address).copied()
    }

    pub(super) fn insert(&mut self, address: IpAddress, id: NextHopId) {
        self.ids.insert(address, id);
    }

    pub(super) fn remove(&mut self, address: IpAddress) {
        self.ids.remove(&address);
    }

    /// The way of `id` is `after` now.
    pub(super) fn follow(&mut self, id: NextHopId, before: &Way, after: &Way) {
        let ends = |way: &Way| (way.interface, way.egress, way.neighbour);
        if ends(before) == ends(after) {
            return;
        }
        for interface in [before.interface, before.egress].into_iter().flatten() {
            self.by_interface.remove(&(interface, id));
        }
        let after_interfaces = [after.interface, after.egress].into_iter().flatten();
        self.by_interface.extend(after_interfaces.map(|interface| (interface, id)));
        if let Some(interface) = before.interface {
            self.by_gateway.remove(&(interface, before.neighbour.unwrap_or(FIRST), id));
        }
        if let Some(interface) = after.interface {
            let gateway = after.neighbour.filter(|n| IpAddress::from(*n) != after.entry.address);
            self.by_gateway.extend(gateway.map(|gateway| (interface, gateway, id)));
        }
    }

    /// The next hops that may be concerned where `old` became `new`.
    pub(super) fn affected(&self, old: &World, new: &World) -> BTreeSet<NextHopId> {
        let affected = Affected::between(old, new);
        if affected.is_all {
            return self.ids.values().copied().collect();
        }
        let mut ids = BTreeSet::new();
        ids.extend(affected.addresses.iter().filter_map(|address| self.get((*address).into())));
        ids.extend(affected.networks.iter().flat_map(|network| self.within(network)));
        ids.extend(affected.interfaces.iter().flat_map(|interface| self.behind(*interface)));
        for (interface, neighbour) in &affected.neighbours {
            ids.extend(self.get((*neighbour).into()));
            ids.extend(self.over(*interface, *neighbour));
        }
        if affected.is_source {
            ids.extend(self.without_source([old, new]));
        }
        ids
    }

    fn within(&self, network: &IpNet) -> impl Iterator<Item = NextHopId> {
        let ends = IpAddress::from(network.network())..=IpAddress::from(network.broadcast());
        self.ids.range(ends).map(|(_, id)| *id)
    }

    pub(super) fn behind(&self, interface: IfIndex) -> impl Iterator<Item = NextHopId> {
        let ends = (interface, NextHopId(0))..=(interface, NextHopId(u32::MAX));
        self.by_interface.range(ends).map(|(_, id)| *id)
    }

    fn over(&self, interface: IfIndex, gateway: IpAddr) -> impl Iterator<Item = NextHopId> {
        let end = |id| (interface, gateway, NextHopId(id));
        self.by_gateway.range(end(0)..=end(u32::MAX)).map(|(.., id)| *id)
    }

    /// Those on interfaces that have no address to send from in either world: theirs is another
    /// interface's.
    fn without_source(&self, worlds: [&World; 2]) -> Vec<NextHopId> {
        let mut found = Vec::new();
        let mut next = self.by_interface.first();
        while let Some((interface, _)) = next {
            let has = |world: &World, is_v4: bool| {
                world.network.addresses.iter().any(|own| {
                    own.interface == *interface
                        && own.is_global
                        && own.is_preferred
                        && own.address.is_ipv4() == is_v4
                })
            };
            let lacks = |is_v4| worlds.iter().any(|world| !has(world, is_v4));
            let (lacks_v4, lacks_v6) = (lacks(true), lacks(false));
            if lacks_v4 || lacks_v6 {
                found.extend(self.behind(*interface));
            }
            let after = (IfIndex(interface.0.saturating_add(1)), NextHopId(0));
            next = self.by_interface.range(after..).next();
        }
        found
    }
}
