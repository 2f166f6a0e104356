//! A node that exists in files alone: its cluster is real, its network made up.

use super::explainer::Explainer;
use crate::compile::{Attached, Compiled, Compiler};
use crate::config::{Config, InterfaceConfig, Role};
use crate::model::{ClusterState, Family, NodeAddressKind, Store};
use crate::netlink::{
    InterfaceAddress, Link, Neighbour, NeighbourState, NetworkState, Route, RouteKind,
};
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, MacAddress};

/// Clients and backends are behind the one, and its name in the configuration.
const INTERFACE: (IfIndex, &str) = (IfIndex(2), "eth0");

/// Where the node's own pods dial from.
const POD_SIDE: (IfIndex, &str) = (IfIndex(3), "pods");

/// Stand behind the interface and route to everywhere. Reserved for documentation (RFC 5737,
/// RFC 3849): no backend has them.
const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfe)),
];

/// To masquerade with where the node has no address of the family.
const SOURCES: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 253)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0xfd)),
];

const GATEWAY_MAC: MacAddress = MacAddress([2, 0, 0, 0, 0, 0xfe]);

/// Names of Nodes in a warning; more are left out.
const NAMES_MAX: usize = 5;

/// What is known of the node and its cluster.
#[derive(Debug)]
pub struct OfflineState {
    /// The cluster.
    pub cluster: ClusterState,
    /// The node's name.
    pub node: String,
    /// Addresses of the node beside those of its Node object.
    pub addresses: Vec<IpAddr>,
    /// The configuration. Its interfaces are not looked at.
    pub config: Config,
}

/// A compiled state that questions can be asked of.
#[derive(Debug)]
pub struct Offline {
    compiler: Compiler,
    compiled: Compiled,
    network: NetworkState,
    config: Config,
}

impl Offline {
    /// Compiles `state` for a node from which every backend can be reached.
    pub fn new(state: OfflineState) -> Self {
        let OfflineState { mut cluster, node, addresses, mut config } = state;
        let missing = is_missing(&cluster, &node);
        let own = own_addresses(&mut cluster, &node, addresses);
        let pods = InterfaceConfig { role: Role::Backend, ..InterfaceConfig::named(POD_SIDE.1) };
        config.interfaces = vec![InterfaceConfig::named(INTERFACE.1), pods];
        let network = network(&own);
        let attached: Attached =
            [(InterfaceSlot(1), INTERFACE.0), (InterfaceSlot(2), POD_SIDE.0)].into();
        let (mut store, mut compiler) = (Store::new(&node), Compiler::default());
        store.replace(&cluster);
        let mut compiled = compiler.compile(&mut store, &network, &attached, &config);
        compiled.warnings.extend(missing);
        Self { compiler, compiled, network, config }
    }

    /// What the operator should know beside the answers.
    pub fn warnings(&self) -> &[String] {
        &self.compiled.warnings
    }

    /// Answers questions.
    pub fn explainer(&self) -> Explainer<'_> {
        let compiled = (&self.compiled.snapshot, self.compiler.reports());
        let source_ports = self.config.load_balancer.source_port_range.0;
        Explainer::new(compiled, &self.network, source_ports, false)
    }
}

/// A name that no Node bears, where there are Nodes, is probably mistyped.
fn is_missing(cluster: &ClusterState, node: &str) -> Option<String> {
    let names: Vec<&str> = cluster.nodes.keys().map(AsRef::as_ref).take(NAMES_MAX).collect();
    let is_missing = !names.is_empty() && !cluster.nodes.contains_key(node);
    is_missing.then(|| format!("no Node {node} in the state; it has {}", names.join(", ")))
}

/// The Node's addresses and those given beside them: these come last in the Node's own list, so
/// that one of a family that it has none of is primary (semantics I3).
fn own_addresses(cluster: &mut ClusterState, node: &str, given: Vec<IpAddr>) -> Vec<IpAddr> {
    let given = given.into_iter().map(|address| address.to_canonical());
    let Some(node) = cluster.nodes.get_mut(node) else { return given.collect() };
    let node = Arc::make_mut(node);
    for address in given {
        if node.addresses.iter().all(|(_, known)| *known != address) {
            node.addresses.push((NodeAddressKind::External, address));
        }
    }
    node.addresses.iter().map(|(_, address)| *address).collect()
}

/// Whether more than this host or link may dial an address.
fn is_global(address: &IpAddr) -> bool {
    let is_link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !is_link_local
}

/// A network whose first interface bears `own` addresses and is the way to everywhere.
fn network(own: &[IpAddr]) -> NetworkState {
    let interface = INTERFACE.0;
    let mac = MacAddress([2, 0, 0, 0, 0, 2]);
    let link = |(index, name): (IfIndex, &str)| Link { mac, ..Link::ethernet(index, name) };
    let address = |address: &IpAddr| InterfaceAddress {
        interface,
        address: *address,
        prefix_length: if address.is_ipv4() { 32 } else { 128 },
        is_global: is_global(address),
        is_preferred: true,
    };
    let [v4, v6] = [0, 1].map(|family| default_route(own, family));
    let known = Neighbour { state: NeighbourState::Known(GATEWAY_MAC), is_managed: true };
    let mut network = NetworkState {
        version: 1,
        removals: 0,
        links: Arc::new([INTERFACE, POD_SIDE].map(|of| (of.0, link(of))).into()),
        addresses: Arc::new(own.iter().map(address).collect()),
        routes: Arc::default(),
        neighbours: Arc::new(GATEWAYS.map(|gateway| ((interface, gateway), known)).into()),
        bridge_ports: Arc::default(),
    };
    // The prefixes' default is the one that covers everything.
    let routes = Arc::make_mut(&mut network.routes);
    routes.v4.insert(Ipv4Net::default(), vec![v4]);
    routes.v6.insert(Ipv6Net::default(), vec![v6]);
    network
}

/// The route of the family of `GATEWAYS[family]`.
fn default_route(own: &[IpAddr], family: usize) -> Route {
    let (gateway, source) = (GATEWAYS[family], SOURCES[family]);
    let first = own.iter().find(|address| Family::of(**address) == Family::of(gateway));
    let kind = RouteKind::Via {
        interface: INTERFACE.0,
        gateway: Some(gateway),
        source: Some(first.copied().unwrap_or(source)),
        mtu_bytes: None,
    };
    Route { metric: 0, kind }
}
