//! The rig itself, proven with the kernel's own NAT: what fails here is not tidegate's fault.

use anyhow::Result;
use core::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use tidegate_control::demo::rig::{
    Arms, KernelNat, NatRule, Node, Pod, RigPlan, Topology, Unserved, client_of, gateway_of,
};
use tidegate_control::model::Family;
use tidegate_dataplane::types::Protocol;
use tidegate_tests::load;
use tidegate_tests::setting::{POD_HTTP, POD_UDP, binary, take_turn};

fn build(plan: &RigPlan) -> Result<Topology> {
    let mut rig = plan.build()?;
    for (node, name) in [(Node::Gateway, "near"), (Node::Node2, "far")] {
        rig.add_pod(node, name)?.start_servers(
            &binary()?,
            (POD_HTTP, POD_UDP),
            Stdio::inherit(),
        )?;
    }
    Ok(rig)
}

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

fn rules(rig: &Topology) -> Vec<NatRule> {
    let ends = |pods: &[Pod], port| {
        let of = |pod: &Pod| FAMILIES.map(|family| SocketAddr::new(pod.address_of(family), port));
        pods.iter().flat_map(of).collect()
    };
    let rule = |protocol, node_port, is_masqueraded, backends| NatRule {
        protocol,
        node_port,
        is_masqueraded,
        backends,
        unserved: Unserved::Reject,
        is_sticky: false,
    };
    vec![
        rule(Protocol::Tcp, 30080, true, ends(rig.pods(), POD_HTTP)),
        rule(Protocol::Udp, 30090, true, ends(rig.pods(), POD_UDP)),
        rule(Protocol::Tcp, 30081, false, ends(&rig.pods()[..1], POD_HTTP)),
    ]
}

fn check(rig: &Topology, nat: KernelNat, family: Family) -> Result<()> {
    nat.install(rig.gateway(), &rules(rig))?;
    let port = |number| SocketAddr::new(gateway_of(family), number);
    for answers in [
        load::http(rig.client(), port(30080), 200, 8)?,
        load::udp(rig.client(), port(30090), 200, 8)?,
    ] {
        answers.ensure_all(200)?;
        assert_eq!(answers.by_pod.len(), 2, "{answers:?}");
        assert!(answers.peers.iter().all(|peer| rig.is_gateway(*peer)), "{answers:?}");
    }
    let answers = load::http(rig.client(), port(30081), 100, 8)?;
    answers.ensure_all(100)?;
    assert_eq!(answers.by_pod.keys().collect::<Vec<_>>(), ["near"]);
    assert_eq!(answers.peers.into_iter().collect::<Vec<_>>(), [client_of(family)]);
    Ok(())
}

#[test]
fn kernel_nat_serves_every_shape_of_the_rig() -> Result<()> {
    let _turn = take_turn()?;
    for (arms, queues) in [(Arms::Two, 1), (Arms::One, 2)] {
        let rig = build(&RigPlan::new("test").arms(arms).queues(queues))?;
        for family in FAMILIES {
            check(&rig, KernelNat::Nftables, family)?;
        }
        rig.gateway().run("nft delete table ip tidegate-nat")?;
        check(&rig, KernelNat::Iptables, Family::V4)?;
    }
    Ok(())
}

#[test]
fn every_pod_is_reached_over_ipv6_in_every_shape_of_the_rig() -> Result<()> {
    let _turn = take_turn()?;
    for arms in [Arms::Two, Arms::One] {
        let rig = build(&RigPlan::new("test").arms(arms))?;
        for pod in rig.pods() {
            let to = |port| SocketAddr::new(pod.address_of(Family::V6), port);
            let answers = load::http(rig.client(), to(POD_HTTP), 5, 1)?;
            assert_eq!(answers.ensure_all(5)?.peers, [client_of(Family::V6)].into());
            load::udp(rig.client(), to(POD_UDP), 5, 1)?.ensure_all(5)?;
        }
    }
    Ok(())
}

#[test]
fn the_rig_leaves_nothing_behind() -> Result<()> {
    let _turn = take_turn()?;
    let rig = build(&RigPlan::new("test"))?;
    let name = rig.client().name().to_owned();
    assert!(Path::new("/run/netns").join(&name).exists());
    let prefix = name.trim_end_matches("client").to_owned();
    drop(rig);
    let left = tidegate_control::demo::rig::run("ip netns list")?;
    assert!(!left.contains(&prefix), "{left}");
    Ok(())
}

#[test]
fn a_queue_count_is_obeyed() -> Result<()> {
    let _turn = take_turn()?;
    let rig = RigPlan::new("test").queues(2).build()?;
    for interface in ["eth0", "eth1"] {
        let links = rig.gateway().run(&format!("ethtool -l {interface}"))?;
        let current = links.rsplit("Current").next().unwrap_or_default().to_owned();
        assert!(current.contains("RX:\t\t2") && current.contains("TX:\t\t2"), "{links}");
    }
    Ok(())
}
