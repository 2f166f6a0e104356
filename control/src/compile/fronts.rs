//! The addresses that clients dial (semantics I1-I4, E8, E11-E13).

use crate::config::{Config, InterfaceConfig, NodePortAddress, networks_allow};
use crate::model::{Family, Node, Service, ServicePortSpec};
use crate::netlink::{InterfaceAddress, NetworkState, ROAD_DEVICE, ROAD_PEER};
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use tidegate_dataplane::snapshot::{FrontKey, FrontKind, Networks};

/// What a service port would like to own, each front once.
pub(super) type Wishes = Vec<(FrontKey, FrontKind)>;

/// The node's addresses that `nodePortAddresses` lets serve node ports, sorted.
pub(crate) fn node_addresses(
    node: Option<&Node>,
    network: &NetworkState,
    config: &Config,
) -> BTreeSet<IpAddr> {
    let own = own_addresses(network, &config.interfaces);
    let told: Vec<IpAddr> = node.iter().flat_map(|n| &n.addresses).map(|(_, a)| *a).collect();
    let primary_of = if told.is_empty() { &own } else { &told };
    let entries = &config.node_port_addresses;
    let mut chosen = BTreeSet::new();
    for entry in entries {
        match entry {
            NodePortAddress::All => chosen.extend(&own),
            NodePortAddress::Primary => chosen.extend(first_of_each_family(primary_of)),
            NodePortAddress::Network(_) => {
                let known = own.iter().chain(&told).copied();
                chosen.extend(known.filter(|address| networks_allow(entries, *address)));
            }
        }
    }
    chosen
}

/// The packet path's form of a list of networks.
pub(super) fn networks(list: &[IpNet]) -> Networks {
    Networks::new(list.iter().map(|net| (net.network().into(), net.broadcast().into())))
}

/// Whether a front asks its Service's source ranges: VIPs alone, and only those of a family that
/// any range is of (semantics F1, F4).
pub(super) fn is_guarded(service: &Service, key: &FrontKey, kind: FrontKind) -> bool {
    let is_v4 = |net: &IpNet| matches!(net, IpNet::V4(_));
    let mut ranges = service.source_ranges.iter();
    kind == FrontKind::LoadBalancer && ranges.any(|net| is_v4(net) == key.address.is_v4())
}

/// This node's global addresses, those of interfaces named earlier in the configuration first.
fn own_addresses(network: &NetworkState, interfaces: &[InterfaceConfig]) -> Vec<IpAddr> {
    let rank = |own: &InterfaceAddress| {
        let link = network.links.get(&own.interface)?;
        let is_ours = [ROAD_DEVICE, ROAD_PEER].contains(&&*link.name);
        let place = interfaces.iter().position(|e| !e.is_exclusion() && e.matches(&link.name));
        (!link.is_loopback && !is_ours).then_some(place.unwrap_or(usize::MAX))
    };
    let global = network.addresses.iter().filter(|own| own.is_global);
    // Deprecated and temporary addresses serve, but are not the first choice.
    let rank = |own: &InterfaceAddress| Some((!own.is_preferred, rank(own)?));
    let mut ranked: Vec<_> = global.filter_map(|own| Some((rank(own)?, own.address))).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, address)| address).collect()
}

fn first_of_each_family(addresses: &[IpAddr]) -> impl Iterator<Item = IpAddr> {
    let first = |family| addresses.iter().find(|a| Family::of(**a) == family).copied();
    [first(Family::V4), first(Family::V6)].into_iter().flatten()
}

/// The fronts of one service port; node ports after all others (semantics E9). Only of families
/// that the Service has a cluster IP of (A5).
pub(super) fn fronts(
    service: &Service,
    port: &ServicePortSpec,
    node_addresses: &BTreeSet<IpAddr>,
) -> Wishes {
    let cluster = service.cluster_addresses.iter();
    let cluster = cluster.map(|address| (address, port.port, FrontKind::ClusterIp));
    let vips = service.load_balancer_addresses.iter();
    let vips = vips.map(|address| (address, port.port, FrontKind::LoadBalancer));
    let external = service.external_addresses.iter();
    let external = external.map(|address| (address, port.port, FrontKind::ExternalIp));
    let node = node_addresses.iter();
    let node = node.filter_map(|address| Some((address, port.node_port?, FrontKind::NodePort)));
    let of_family = |address: &IpAddr| service.families.contains(&Family::of(*address));
    let all =
        cluster.chain(vips).chain(external).chain(node).filter(|(address, ..)| of_family(address));
    let all = all.map(|(address, port_number, kind)| {
        let address = (*address).into();
        (FrontKey { address, port: port_number, protocol: port.protocol }, kind)
    });
    // An address may be VIP and external IP at a time.
    let mut seen = BTreeSet::new();
    all.filter(|(key, _)| seen.insert(*key)).collect()
}
