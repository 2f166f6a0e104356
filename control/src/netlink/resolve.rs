//! From an address to the interface, link address and source address of its next hop. Pure.

use super::state::{
    InterfaceAddress, Link, Neighbour, NeighbourState, NetworkState, Route, RouteKind,
};
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
        /// This node's address on that side, never a link-local one: the route's preferred
        /// source, else the interface's best, else the node's best of the family.
        source: Option<IpAddr>,
        /// The route's own MTU in bytes; the link's may be smaller.
        mtu_bytes: Option<u32>,
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
            Some(RouteKind::Via { interface, gateway, source, mtu_bytes }) => {
                let neighbour = gateway.unwrap_or(address);
                let entry = self.neighbours.get(&(*interface, neighbour)).copied();
                NextHopResolution::Via {
                    interface: *interface,
                    neighbour,
                    mac: entry.and_then(known),
                    is_managed: entry.is_some_and(|entry| entry.is_managed),
                    source: source.or_else(|| self.source_for(*interface, address)),
                    mtu_bytes: *mtu_bytes,
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
        let fits =
            |own: &&InterfaceAddress| own.is_global && own.address.is_ipv4() == address.is_ipv4();
        let own = self.addresses.iter().filter(fits);
        // Of equal ones the first: `min_by_key` keeps it.
        own.min_by_key(|own| source_rank(own, interface, address)).map(|own| own.address)
    }
}

/// The smaller, the better as a source: deprecated and temporary ones come last, the
/// outgoing interface's first; then, for IPv6, the longest prefix in common with the destination
/// (RFC 6724 section 5, rules 3, 7 reversed, 5 and 8). That last one also keeps unique local
/// addresses among themselves (rule 6).
fn source_rank(own: &InterfaceAddress, interface: IfIndex, to: IpAddr) -> (bool, bool, u32) {
    let common = match (own.address, to) {
        (IpAddr::V6(own), IpAddr::V6(to)) => (own.to_bits() ^ to.to_bits()).leading_zeros(),
        _ => 0,
    };
    let apart = 128 - common.min(own.prefix_length.into());
    (!own.is_preferred, own.interface != interface, apart)
}

fn known(neighbour: Neighbour) -> Option<MacAddress> {
    match neighbour.state {
        NeighbourState::Known(mac) => Some(mac),
        NeighbourState::Asking | NeighbourState::Failed => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const EGRESS: IfIndex = IfIndex(2);
    const OTHER: IfIndex = IfIndex(3);

    /// The source towards `to` of a node with these addresses: on which interface, which address
    /// with which prefix, and `deprecated` or `link` where it is.
    fn source(own: &[(IfIndex, &str, &str)], to: &str) -> Option<IpAddr> {
        let address = |(interface, net, words): &(IfIndex, &str, &str)| {
            let net: IpNet = net.parse().unwrap();
            InterfaceAddress {
                interface: *interface,
                address: net.addr(),
                prefix_length: net.prefix_len(),
                is_global: *words != "link",
                is_preferred: *words != "deprecated",
            }
        };
        let addresses = Arc::new(own.iter().map(address).collect());
        let network = NetworkState { addresses, ..NetworkState::default() };
        network.source_for(EGRESS, to.parse().unwrap())
    }

    #[test]
    fn the_source_is_the_best_global_address_of_the_outgoing_interface() {
        let to = "2001:db8:1::9";
        let link = (EGRESS, "fe80::1/64", "link");
        let global = (EGRESS, "2001:db8:1::1/64", "");
        let further = (EGRESS, "2001:db8:2::1/64", "");
        let local = (EGRESS, "fd00::1/64", "");
        let old = (EGRESS, "2001:db8:1::dead/64", "deprecated");
        let elsewhere = (OTHER, "2001:db8:1::2/64", "");
        for (own, expected) in [
            (vec![link, global], Some("2001:db8:1::1")),
            (vec![link], None),
            (vec![local, further, global], Some("2001:db8:1::1")),
            (vec![local, further], Some("2001:db8:2::1")),
            (vec![old, further], Some("2001:db8:2::1")),
            (vec![old], Some("2001:db8:1::dead")),
            (vec![elsewhere, local], Some("fd00::1")),
            (vec![link, elsewhere], Some("2001:db8:1::2")),
            (vec![(EGRESS, "10.0.0.1/24", "")], None),
            (
                vec![(EGRESS, "2001:db8:1::1/64", ""), (EGRESS, "2001:db8:1::8/64", "")],
                Some("2001:db8:1::1"),
            ),
        ] {
            let expected = expected.map(|text| text.parse().unwrap());
            assert_eq!(source(&own, to), expected, "{own:?}");
        }
        assert_eq!(source(&[global, local], "fd00::9"), Some("fd00::1".parse().unwrap()));
        let v4 = [global, (EGRESS, "10.0.0.1/24", ""), (EGRESS, "10.0.9.1/24", "")];
        assert_eq!(source(&v4, "10.0.9.9"), Some("10.0.0.1".parse().unwrap()));
    }
}
