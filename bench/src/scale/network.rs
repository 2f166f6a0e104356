//! What the kernel would tell of the node's network: a route to each node's pods, by that node.

use super::cluster::NODES;
use crate::rivals::rig::Link;
use ipnet::Ipv4Net;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use tidegate_control::netlink::{
    self, InterfaceAddress, Neighbour, NeighbourState, NetworkState, Route, RouteKind,
};
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// The gateway's address towards clients; it serves the node ports.
const OWN: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 1, 0, 254));

/// The network of a gateway with these two interfaces.
pub(crate) fn network(outer: &Link, inner: &Link) -> NetworkState {
    let mut network = NetworkState { version: 1, ..NetworkState::default() };
    network.links = Arc::new([outer, inner].map(|end| (end.index, link(end))).into());
    let address = |interface: IfIndex, address: IpAddr| InterfaceAddress {
        interface,
        address,
        prefix_length: 16,
        is_global: true,
        is_preferred: true,
    };
    network.addresses =
        Arc::new(vec![address(outer.index, OWN), address(inner.index, gateway(NODES))]);
    let routes = Arc::make_mut(&mut network.routes);
    for node in 0..NODES {
        let [.., high, low] = node.to_be_bytes();
        let pods = Ipv4Net::new_assert(Ipv4Addr::new(10, 128 + high, low, 0), 24);
        let kind = RouteKind::Via {
            interface: inner.index,
            gateway: Some(gateway(node)),
            source: None,
            mtu_bytes: None,
        };
        routes.v4.insert(pods, vec![Route { metric: 0, kind }]);
        set_mac(&mut network.neighbours, inner.index, node, 0);
    }
    network
}

/// Makes a node known under another link address.
pub(crate) fn set_mac(
    neighbours: &mut Arc<std::collections::BTreeMap<(IfIndex, IpAddr), Neighbour>>,
    interface: IfIndex,
    node: u32,
    variant: u8,
) {
    let [.., high, low] = node.to_be_bytes();
    let mac = MacAddress([2, variant, 0, 0, high, low]);
    let neighbour = Neighbour { state: NeighbourState::Known(mac), is_managed: true };
    Arc::make_mut(neighbours).insert((interface, gateway(node)), neighbour);
}

fn gateway(node: u32) -> IpAddr {
    let [.., high, low] = node.to_be_bytes();
    IpAddr::V4(Ipv4Addr::new(172, 16, high, low))
}

fn link(end: &Link) -> netlink::Link {
    let kind = "veth".into();
    netlink::Link { mac: end.mac, kind, ..netlink::Link::ethernet(end.index, end.name) }
}
