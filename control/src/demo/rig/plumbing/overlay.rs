//! The way to other nodes' pods by VXLAN, as flannel makes it: one device per family, whose
//! neighbours and forwarding entries are written by hand.

use crate::demo::rig::plan::families;
use crate::demo::rig::{NetNs, Node, RigError, RigPlan};
use crate::model::Family;
use core::net::IpAddr;

/// Less than the underlay by the outer headers of IPv6, the larger ones (RFC 7348 section 5), and
/// so the MTU of all pods where the cluster has both families, as flannel sets it.
pub(super) const MTU_BYTES: u32 = 1430;

/// Flannel's port: Linux's own, older than RFC 7348's.
const PORT: u16 = 8472;

/// What differs between the families.
#[derive(Debug)]
struct Words {
    device: &'static str,
    mtu_bytes: u32,
    length: u8,
}

impl Words {
    const fn of(family: Family) -> Self {
        match family {
            Family::V4 => Self { device: "flannel.1", mtu_bytes: 1450, length: 32 },
            Family::V6 => Self { device: "flannel-v6.1", mtu_bytes: MTU_BYTES, length: 128 },
        }
    }
}

/// Adds a node's devices, and its way to the other node's pods.
pub(super) fn add(host: &NetNs, node: Node, plan: &RigPlan) -> Result<(), RigError> {
    families().iter().try_for_each(|family| add_family(host, node, plan, *family))
}

fn add_family(host: &NetNs, node: Node, plan: &RigPlan, family: Family) -> Result<(), RigError> {
    let (other, underlay) = match node {
        Node::Gateway => (Node::Node2, "eth1"),
        Node::Node2 => (Node::Gateway, "eth0"),
    };
    let Words { device, mtu_bytes, length } = Words::of(family);
    let (local, remote) = (outer(node, plan, family), outer(other, plan, family));
    let (own, via) = (node.overlay_address(family), other.overlay_address(family));
    let kind = format!("type vxlan id 1 dev {underlay} local {local} dstport {PORT} nolearning");
    host.ip(&format!("link add {device} address {} mtu {mtu_bytes} {kind}", mac(node)))?;
    host.ip(&format!("link set {device} up"))?;
    host.ip(&format!("addr add {own}/{length} dev {device}"))?;
    host.ip(&format!("neigh add {via} lladdr {} nud permanent dev {device}", mac(other)))?;
    host.run(&format!("bridge fdb append {} dev {device} dst {remote}", mac(other)))?;
    let network = match family {
        Family::V4 => other.pod_network(),
        Family::V6 => other.pod_network_v6(),
    };
    host.ip(&format!("route add {network} via {via} dev {device} onlink")).map(drop)
}

/// The link address of a node's VXLAN devices; each family has a device, and so a segment, of its
/// own.
fn mac(node: Node) -> &'static str {
    match node {
        Node::Gateway => "02:42:00:00:00:01",
        Node::Node2 => "02:42:00:00:00:02",
    }
}

/// The address of the outer packets.
fn outer(node: Node, plan: &RigPlan, family: Family) -> IpAddr {
    match (node, family) {
        (Node::Gateway, Family::V4) => plan.gateway_inside().into(),
        (Node::Gateway, Family::V6) => plan.gateway_inside_v6().into(),
        (Node::Node2, Family::V4) => plan.node2().into(),
        (Node::Node2, Family::V6) => plan.node2_v6().into(),
    }
}
