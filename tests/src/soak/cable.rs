//! A local pod's veth, taken away and laid again as the rig lays it.

use crate::lab::FAMILIES;
use anyhow::Result;
use tidegate_control::demo::rig::{NetNs, Node, Pod};
use tidegate_control::model::Family;

/// Removes the link, both its ends.
pub(super) fn unplug(gateway: &NetNs, pod: &Pod) -> Result<()> {
    gateway.ip(&format!("link del {}", pod.host_interface()))?;
    Ok(())
}

/// Lays another one of the same name, with the same addresses and routes.
pub(super) fn plug(gateway: &NetNs, pod: &Pod) -> Result<()> {
    let (host, inside) = (pod.host_interface(), pod.netns());
    let peer = format!("type veth peer name eth0 netns {}", inside.name());
    gateway.ip(&format!("link add {host} {peer}"))?;
    gateway.ip(&format!("link set {host} up"))?;
    inside.ip("link set eth0 up")?;
    for family in FAMILIES {
        let address = pod.address_of(family);
        let (router, length) = match family {
            Family::V4 => (Node::Gateway.pod_gateway().to_string(), 32),
            Family::V6 => (Node::Gateway.pod_gateway_v6().to_string(), 128),
        };
        inside.ip(&format!("addr add {address}/{length} dev eth0"))?;
        inside.ip(&format!("route add {router} dev eth0"))?;
        inside.ip(&format!("route add default via {router} dev eth0"))?;
        gateway.ip(&format!("addr add {router}/{length} dev {host}"))?;
        gateway.ip(&format!("route add {address}/{length} dev {host}"))?;
    }
    Ok(())
}
