//! Which addresses a change of the world may concern. Too many cost time, too few would leave a
//! stale way: so in doubt more.

use super::world::World;
use crate::netlink::{NetworkState, Route, RouteKind};
use ipnet::IpNet;
use prefix_trie::{Prefix, PrefixMap};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tidegate_dataplane::types::IfIndex;

/// Addresses to be resolved again, by what they depend on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Affected {
    /// All of them.
    pub(super) is_all: bool,
    /// These addresses themselves.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Those in these networks.
    pub(super) networks: BTreeSet<IpNet>,
    /// Those whose way leaves by these interfaces.
    pub(super) interfaces: BTreeSet<IfIndex>,
    /// Those whose way leads over these neighbours.
    pub(super) neighbours: BTreeSet<(IfIndex, IpAddr)>,
    /// Those on interfaces that have no address of their own to send from, if any.
    pub(super) is_source: bool,
}

impl Affected {
    /// What differs between two worlds.
    pub(super) fn between(old: &World, new: &World) -> Self {
        if old.interfaces != new.interfaces {
            return Self { is_all: true, ..Self::default() };
        }
        let mut affected = Self::default();
        if old.attached != new.attached {
            let both = || old.attached.iter().chain(&new.attached);
            let is_same = |slot, index| {
                [old, new].iter().all(|world| world.attached.get(slot) == Some(index))
            };
            let changed = both().filter(|(slot, index)| !is_same(slot, *index));
            affected.interfaces.extend(changed.map(|(_, index)| *index));
        }
        affected.add_links(&old.network, &new.network);
        affected.add_addresses(&old.network, &new.network);
        affected.add_routes(&old.network, &new.network);
        let keys = differing(&old.network.neighbours, &new.network.neighbours);
        affected.neighbours.extend(keys.copied());
        let moved = differing(&old.network.bridge_ports, &new.network.bridge_ports);
        affected.interfaces.extend(moved.map(|(bridge, _)| *bridge));
        affected
    }

    /// A link that comes, goes, or changes between up and down makes its routes count or not.
    fn add_links(&mut self, old: &NetworkState, new: &NetworkState) {
        let changed: BTreeSet<IfIndex> = differing(&old.links, &new.links).copied().collect();
        let is_up = |network: &NetworkState, index: &IfIndex| {
            network.links.get(index).is_some_and(|link| link.is_up)
        };
        let turned = changed.iter().filter(|index| is_up(old, index) != is_up(new, index));
        let turned: BTreeSet<IfIndex> = turned.copied().collect();
        if !turned.is_empty() {
            for routes in [&old.routes, &new.routes] {
                self.networks.extend(through(&routes.v4, &turned).map(IpNet::V4));
                self.networks.extend(through(&routes.v6, &turned).map(IpNet::V6));
            }
        }
        // Whether backends may be behind a bridge, its ports tell.
        let all = || [old, new].into_iter().flat_map(|network| network.links.values());
        let ports = all().filter(|link| changed.contains(&link.index));
        self.interfaces.extend(ports.filter_map(|link| link.master));
        self.interfaces.extend(changed);
    }

    /// An own address is Local, and may be the source of its interface's packets; or of those of
    /// interfaces that have none.
    fn add_addresses(&mut self, old: &NetworkState, new: &NetworkState) {
        if old.addresses == new.addresses {
            return;
        }
        let both = || old.addresses.iter().chain(new.addresses.iter());
        let held = |network: &NetworkState, interface: IfIndex| {
            let of = network.addresses.iter().filter(|own| own.interface == interface);
            of.cloned().collect::<Vec<_>>()
        };
        let interfaces: BTreeSet<IfIndex> = both().map(|own| own.interface).collect();
        let changed = interfaces.into_iter().filter(|index| held(old, *index) != held(new, *index));
        let changed: BTreeSet<IfIndex> = changed.collect();
        let of_changed = both().filter(|own| changed.contains(&own.interface));
        self.addresses.extend(of_changed.map(|own| own.address));
        self.interfaces.extend(changed);
        // Their order over interfaces counts too, so any difference.
        self.is_source = true;
    }

    fn add_routes(&mut self, old: &NetworkState, new: &NetworkState) {
        if std::sync::Arc::ptr_eq(&old.routes, &new.routes) {
            return;
        }
        let (old, new) = (&old.routes, &new.routes);
        self.networks.extend(differing_routes(&old.v4, &new.v4).map(IpNet::V4));
        self.networks.extend(differing_routes(&old.v6, &new.v6).map(IpNet::V6));
    }
}

/// The keys whose values differ, or that only one has.
fn differing<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = &'a K> {
    let gone = old.keys().filter(|key| !new.contains_key(key));
    let changed = new.iter().filter(|(key, value)| old.get(key) != Some(value));
    // Most often the two are one and the same.
    let is_same = core::ptr::eq(old, new);
    gone.chain(changed.map(|(key, _)| key)).take(if is_same { 0 } else { usize::MAX })
}

fn differing_routes<'a, P: Prefix + Copy>(
    old: &'a PrefixMap<P, Vec<Route>>,
    new: &'a PrefixMap<P, Vec<Route>>,
) -> impl Iterator<Item = P> {
    let gone = old.iter().filter(|(net, _)| new.get(net).is_none()).map(|(net, _)| net);
    let changed = new.iter().filter(|(net, routes)| old.get(net) != Some(*routes));
    gone.chain(changed.map(|(net, _)| net))
}

/// The networks with a route by one of these interfaces.
fn through<'a, P: Prefix + Copy>(
    routes: &'a PrefixMap<P, Vec<Route>>,
    interfaces: &'a BTreeSet<IfIndex>,
) -> impl Iterator<Item = P> {
    let is_through = |route: &Route| match route.kind {
        RouteKind::Via { interface, .. } => interfaces.contains(&interface),
        RouteKind::Refused => false,
    };
    let found = routes.iter().filter(move |(_, routes)| routes.iter().any(is_through));
    found.map(|(net, _)| net)
}
