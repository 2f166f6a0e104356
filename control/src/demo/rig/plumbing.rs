//! How a node connects its pods: the forms of the usual CNI plugins, with real interfaces.

mod overlay;

use super::plan::{client_of, families};
use super::{NetNs, Node, RigError, RigPlan};
use crate::model::Family;
use core::net::IpAddr;

/// The bridge of [`Plumbing::Bridge`].
const BRIDGE: &str = "cni0";

/// The gateway that Calico's pods know; no interface has it, the node answers for it.
const LINK_LOCAL_GATEWAY: &str = "169.254.1.1";

/// The link address of the node's end of all of Calico's veths, and the link-local address that
/// follows from it: its pods' IPv6 gateway.
const CALICO_MAC: &str = "ee:ee:ee:ee:ee:ee";
/// See [`CALICO_MAC`].
const CALICO_GATEWAY_V6: &str = "fe80::ecee:eeff:feee:eeee";

/// How a node connects its pods; the way to other nodes' pods is a plain route (`host-gw`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plumbing {
    /// As the plugin `ptp`: a veth whose host end bears the gateway's address, and a host route.
    PointToPoint,
    /// As the plugin `bridge`, by which flannel and k3s do it: veths are ports of `cni0`.
    Bridge,
    /// As Calico: a veth without an address at the host end, a host route, and proxy ARP.
    Routed,
    /// As flannel with its backend `vxlan`: [`Self::Bridge`], and the way to other nodes' pods is a
    /// VXLAN device per family. For two arms alone.
    Overlay,
}

/// What is to be connected.
#[derive(Debug)]
pub(super) struct PodEnds<'a> {
    pub(super) pod: &'a NetNs,
    pub(super) host: &'a NetNs,
    pub(super) node: Node,
    /// The name of the node's end.
    pub(super) interface: &'a str,
    /// More words of `ip link add`, such as `index 77`.
    pub(super) options: &'a str,
    /// IPv4, IPv6.
    pub(super) addresses: [IpAddr; 2],
    /// Of each end, in `ip`'s words.
    pub(super) queues: &'a str,
}

impl Plumbing {
    /// The name of the node's end of the pod of this number.
    pub(super) fn host_interface(self, index: usize) -> String {
        match self {
            Self::PointToPoint | Self::Bridge | Self::Overlay => format!("veth{index}"),
            Self::Routed => format!("cali{index}"),
        }
    }

    /// What a node has before its first pod.
    pub(super) fn prepare(self, host: &NetNs, node: Node, plan: &RigPlan) -> Result<(), RigError> {
        match self {
            Self::PointToPoint => Ok(()),
            Self::Bridge => add_bridge(host, node),
            Self::Routed => add_default_routes(host, node),
            Self::Overlay => {
                add_bridge(host, node)?;
                overlay::add(host, node, plan)
            }
        }
    }

    /// Whether nodes reach each other's pods by plain routes.
    pub(super) fn has_node_routes(self) -> bool {
        self != Self::Overlay
    }

    pub(super) fn connect(self, ends: &PodEnds<'_>) -> Result<(), RigError> {
        let PodEnds { pod, host, interface, options, queues, .. } = ends;
        let peer = format!("type veth peer name eth0 {queues} netns {}", pod.name());
        host.ip(&format!("link add {interface} {options} {queues} {peer}"))?;
        match self {
            Self::PointToPoint => {}
            Self::Bridge | Self::Overlay => {
                host.ip(&format!("link set {interface} master {BRIDGE}"))?;
            }
            // Before it is up, so that its link-local address follows from it.
            Self::Routed => drop(host.ip(&format!("link set {interface} address {CALICO_MAC}"))?),
        }
        host.ip(&format!("link set {interface} up"))?;
        pod.ip("link set eth0 up")?;
        if self == Self::Routed {
            host.sysctl(&format!("net.ipv4.conf.{interface}.proxy_arp=1"))?;
            host.sysctl(&format!("net.ipv4.neigh.{interface}.proxy_delay=0"))?;
        }
        if self == Self::Overlay {
            host.ip(&format!("link set {interface} mtu {}", overlay::MTU_BYTES))?;
            pod.ip(&format!("link set eth0 mtu {}", overlay::MTU_BYTES))?;
        }
        self.give_ways(ends)
    }

    /// Gives both ends their addresses and routes, as far as they are missing: the node's first.
    pub(super) fn give_ways(self, ends: &PodEnds<'_>) -> Result<(), RigError> {
        families().iter().try_for_each(|family| match self {
            Self::PointToPoint => ends.address_node(*family).and(ends.route_to_pod(*family)),
            Self::Bridge | Self::Overlay => Ok(()),
            Self::Routed => ends.route_to_pod(*family),
        })?;
        families().iter().try_for_each(|family| match self {
            Self::PointToPoint => ends.address_point_to_point(*family),
            Self::Bridge | Self::Overlay => ends.address_bridged(*family),
            Self::Routed => ends.address_routed(*family),
        })
    }
}

fn add_bridge(host: &NetNs, node: Node) -> Result<(), RigError> {
    host.ip(&format!("link add {BRIDGE} type bridge"))?;
    host.ip(&format!("link set {BRIDGE} up"))?;
    for family in families() {
        let (gateway, _) = gateway(node, *family);
        host.ip(&format!("addr add {gateway}/{} dev {BRIDGE}", subnet_length(*family)))?;
    }
    Ok(())
}

/// The kernel answers for another's address only where it has a route to it; node2 has one.
fn add_default_routes(host: &NetNs, node: Node) -> Result<(), RigError> {
    if node == Node::Gateway {
        for family in families() {
            host.ip(&format!("route add default via {}", client_of(*family)))?;
        }
    }
    Ok(())
}

/// The node's address towards its pods, and the length of a single address.
fn gateway(node: Node, family: Family) -> (IpAddr, u8) {
    match family {
        Family::V4 => (node.pod_gateway().into(), 32),
        Family::V6 => (node.pod_gateway_v6().into(), 128),
    }
}

fn subnet_length(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

impl PodEnds<'_> {
    fn address(&self, family: Family) -> IpAddr {
        match family {
            Family::V4 => self.addresses[0],
            Family::V6 => self.addresses[1],
        }
    }

    fn address_node(&self, family: Family) -> Result<(), RigError> {
        let (gateway, length) = gateway(self.node, family);
        self.host.ip(&format!("addr replace {gateway}/{length} dev {}", self.interface)).map(drop)
    }

    fn route_to_pod(&self, family: Family) -> Result<(), RigError> {
        let (address, (_, length)) = (self.address(family), gateway(self.node, family));
        self.host.ip(&format!("route replace {address}/{length} dev {}", self.interface)).map(drop)
    }

    fn address_point_to_point(&self, family: Family) -> Result<(), RigError> {
        let (address, (gateway, length)) = (self.address(family), gateway(self.node, family));
        self.pod.ip(&format!("addr replace {address}/{length} dev eth0"))?;
        self.pod.ip(&format!("route replace {gateway} dev eth0"))?;
        self.pod.ip(&format!("route replace default via {gateway} dev eth0")).map(drop)
    }

    fn address_bridged(&self, family: Family) -> Result<(), RigError> {
        let (address, (gateway, _)) = (self.address(family), gateway(self.node, family));
        let length = subnet_length(family);
        self.pod.ip(&format!("addr replace {address}/{length} dev eth0"))?;
        self.pod.ip(&format!("route replace default via {gateway}")).map(drop)
    }

    fn address_routed(&self, family: Family) -> Result<(), RigError> {
        let (pod, address) = (self.pod, self.address(family));
        let (_, length) = gateway(self.node, family);
        pod.ip(&format!("addr replace {address}/{length} dev eth0"))?;
        let gateway = match family {
            Family::V4 => LINK_LOCAL_GATEWAY,
            Family::V6 => CALICO_GATEWAY_V6,
        };
        if family == Family::V4 {
            pod.ip(&format!("route replace {gateway} dev eth0"))?;
        }
        pod.ip(&format!("route replace default via {gateway} dev eth0")).map(drop)
    }
}
