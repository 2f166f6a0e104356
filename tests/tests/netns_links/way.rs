//! The way to pods on another node.

use crate::{ONE_WORKER, PATIENCE, Shape, TWO_WORKERS, flap, start};
use anyhow::{Result, ensure};
use core::net::IpAddr;
use tidegate_control::demo::rig::{NetNs, Node};
use tidegate_control::demo::site::{HTTP_CLUSTER, UDP_CLUSTER};
use tidegate_tests::lab::{FAMILIES, Lab, NEAR, front};
use tidegate_tests::setting::wait_until;
use tidegate_tests::steady::{Steady, steadily};

/// A second cable between gateway and node2: network, the gateway's end, the other node's.
const SECOND: [(&str, &str); 2] =
    [("10.0.7.1/24", "10.0.7.2/24"), ("2001:db8:7::1/64", "2001:db8:7::2/64")];

fn changes(shape: Shape) -> Result<()> {
    let lab = start(shape)?;
    lab.site().withdraw_pod(NEAR)?;
    lab.wait_for(NEAR, false)?;
    steadily(&lab, (HTTP_CLUSTER, UDP_CLUSTER), |steady| {
        let (gateway, node2) = (lab.rig().gateway(), lab.rig().node2());
        steady.change("the link to the other node was down", || {
            flap(gateway, "eth1")?;
            give_ways(&lab)
        })?;
        steady.change("it had no carrier", || {
            flap(node2, "eth0")?;
            give_ways(&lab)
        })?;
        steady.change("it has another link address", || {
            gateway.ip("link set eth1 address 02:00:00:00:bb:01")?;
            Ok(())
        })?;
        steady.change("the other node has another link address", || {
            node2.ip("link set eth0 address 02:00:00:00:bb:02")?;
            Ok(())
        })?;
        steady.change("the route leads by another link", || move_route(&lab))?;
        new_source(&lab, steady)
    })?;
    lab.finish()
}

/// What goes with a link that is down.
fn give_ways(lab: &Lab) -> Result<()> {
    let (gateway, node2) = (lab.rig().gateway(), lab.rig().node2());
    let plan = lab.rig().plan();
    node2.ip(&format!("route replace default via {}", plan.gateway_inside()))?;
    node2.ip(&format!("route replace default via {}", plan.gateway_inside_v6()))?;
    route(gateway, &plan.node2().to_string(), &plan.node2_v6().to_string())
}

fn route(gateway: &NetNs, v4: &str, v6: &str) -> Result<()> {
    gateway.ip(&format!("route replace {} via {v4}", Node::Node2.pod_network()))?;
    gateway.ip(&format!("route replace {} via {v6}", Node::Node2.pod_network_v6()))?;
    Ok(())
}

/// Flows keep the address that they were given, which the other node still finds.
fn move_route(lab: &Lab) -> Result<()> {
    let (gateway, node2) = (lab.rig().gateway(), lab.rig().node2());
    let peer = format!("type veth peer name eth1 netns {}", node2.name());
    gateway.ip(&format!("link add eth2 {peer}"))?;
    gateway.ip("link set eth2 up")?;
    node2.ip("link set eth1 up")?;
    for (near, far) in SECOND {
        gateway.ip(&format!("addr add {near} dev eth2"))?;
        node2.ip(&format!("addr add {far} dev eth1"))?;
    }
    route(gateway, "10.0.7.2", "2001:db8:7::2")
}

/// New flows are masqueraded to the address that the outgoing link has now.
fn new_source(lab: &Lab, steady: &Steady<'_>) -> Result<()> {
    let [v4, v6] = ["10.0.7.9", "2001:db8:7::9"];
    steady.change("the outgoing link has another address", || {
        let gateway = lab.rig().gateway();
        gateway.ip("addr del 10.0.7.1/24 dev eth2")?;
        gateway.ip(&format!("addr add {v4}/24 dev eth2"))?;
        gateway.ip("addr del 2001:db8:7::1/64 dev eth2")?;
        gateway.ip(&format!("addr add {v6}/64 dev eth2"))?;
        // They went with the address.
        route(gateway, "10.0.7.2", "2001:db8:7::2")
    })?;
    for (family, expected) in FAMILIES.into_iter().zip([v4, v6]) {
        let expected: IpAddr = expected.parse()?;
        let is_new = || {
            let answers = lab.udp(front(family, UDP_CLUSTER), 20);
            answers.is_ok_and(|answers| answers.peers.iter().eq([&expected]))
        };
        wait_until("new flows come from the new address", PATIENCE, is_new)?;
        let answers = lab.http(front(family, HTTP_CLUSTER), 20)?;
        ensure!(answers.peers.iter().eq([&expected]), "the pods saw {:?}", answers.peers);
    }
    Ok(())
}

#[test]
fn the_way_to_another_node_may_flap_and_move() -> Result<()> {
    changes(ONE_WORKER)
}

#[test]
fn the_way_to_another_node_may_flap_and_move_with_two_workers() -> Result<()> {
    changes(TWO_WORKERS)
}
