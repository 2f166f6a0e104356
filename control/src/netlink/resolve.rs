//! From an address to the interface, link address and source address of its next hop. Pure.

use super::state::{Link, Neighbour, NeighbourState, NetworkState, Route, RouteKind};
use ipnet::IpNet;
use std::net::IpAddr;
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// How packets to an address leave this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHopResolution {
    /// They do not: the address is this node's own.
    Local,
    /// No route, or one that refuses.
    NoRoute,
    /// By an interface.
    Via {
        /// Which.
        interface: IfIndex,
        /// The neighbour: the gateway, or the address itself.
        neighbour: IpAddr,
        /// Its link address, where known.
        mac: Option<MacAddress>,
        /// The kernel keeps asking for it by itself.
        is_managed: bool,
        /// This node's address on that side: the route's preferred source, else the interface's
        /// first, else the node's first of the family.
        source: Option<IpAddr>,
    },
}

impl NetworkState {
    /// How packets to `address` leave this node, as the kernel's main table says. Policy rules
    /// (`ip rule`) are not consulted.
    pub fn resolve(&self, address: IpAddr) -> NextHopResolution {
        if self.is_own(address) {
            return NextHopResolution::Local;
        }
        match self.route(address).map(|route| &route.kind) {
            None | Some(RouteKind::Refused) => NextHopResolution::NoRoute,
            Some(RouteKind::Via { interface, gateway, source }) => {
                let neighbour = gateway.unwrap_or(address);
                let entry = self.neighbours.get(&(*interface, neighbour)).copied();
                NextHopResolution::Via {
                    interface: *interface,
                    neighbour,
                    mac: entry.and_then(known),
                    is_managed: entry.is_some_and(|entry| entry.is_managed),
                    source: source.or_else(|| self.source_for(*interface, address)),
                }
            }
        }
    }

    /// The longest prefix with a usable route; within it the lowest metric. As in the kernel, a
    /// route through a link that is down does not count.
    fn route(&self, address: IpAddr) -> Option<&Route> {
        let covering: Vec<&Vec<Route>> = match IpNet::from(address) {
            IpNet::V4(net) => self.routes.v4.cover_values(&net).collect(),
            IpNet::V6(net) => self.routes.v6.cover_values(&net).collect(),
        };
        covering.into_iter().rev().flatten().find(|route| self.is_usable(route))
    }

    fn is_usable(&self, route: &Route) -> bool {
        match route.kind {
            RouteKind::Refused => true,
            RouteKind::Via { interface, .. } => {
                self.links.get(&interface).is_some_and(|link: &Link| link.is_up)
            }
        }
    }

    fn source_for(&self, interface: IfIndex, address: IpAddr) -> Option<IpAddr> {
        self.address_on(interface, address).or_else(|| {
            let of_family = |own: &&super::InterfaceAddress| {
                own.is_global && own.address.is_ipv4() == address.is_ipv4()
            };
            self.addresses.iter().find(of_family).map(|own| own.address)
        })
    }
}

fn known(neighbour: Neighbour) -> Option<MacAddress> {
    match neighbour.state {
        NeighbourState::Known(mac) => Some(mac),
        NeighbourState::Asking | NeighbourState::Failed => None,
    }
}
