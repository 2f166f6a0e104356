//! Pods behind every CNI plugin's plumbing: both directions and families, TCP with the pods'
//! offloads left on.

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::time::Duration;
use tidegate_control::demo::pattern_chunks;
use tidegate_control::demo::rig::{Node, Plumbing, RigPlan, client_of};
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER, UDP_LOCAL};
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, front};
use tidegate_tests::load;
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::{SPREADS, Spread};

const FLOWS: u32 = 100;

/// Hundreds of segments: many windows, and many GSO frames where they are not cut.
const BYTES: u64 = 5 << 20;

/// Uploads until each of three pods had one; that one has none has a chance below 1e-8.
const UPLOADS_MAX: u32 = 50;

const PATIENCE: Duration = Duration::from_secs(30);

/// A pod without a Service, on the gateway.
const IDLE: &str = "idle";

fn check(plumbing: Plumbing, changes: &[(&str, &str)]) -> Result<()> {
    let check = |spread| check_in(spread, plumbing, changes).with_context(|| format!("{spread:?}"));
    SPREADS.into_iter().try_for_each(check)
}

fn check_in(spread: Spread, plumbing: Plumbing, changes: &[(&str, &str)]) -> Result<()> {
    let mut lab = Lab::spread(spread, &RigPlan::new("test").plumbing(plumbing), changes)?;
    lab.site_mut().add_pod(Node::Gateway, IDLE)?;
    check_interfaces(&lab)?;
    for family in FAMILIES {
        check_answers(&lab, family)?;
        check_transfers(&lab, family).with_context(|| family.to_string())?;
    }
    check_offloads(&lab)?;
    lab.finish()
}

/// The node's end of a pod's veth is attached while the pod is in use, and no other.
fn check_interfaces(lab: &Lab) -> Result<()> {
    let end = |name: &str| Some(lab.site().pod(name)?.host_interface().to_owned());
    let near = end(NEAR).context("a local pod")?;
    let attached = || -> Result<BTreeSet<String>> {
        let all = lab.interfaces()?.into_iter().filter(|interface| interface.attached);
        Ok(all.map(|interface| interface.name).collect())
    };
    let expected = BTreeSet::from(["eth0".to_owned(), "eth1".to_owned(), near]);
    let is_so = || attached().is_ok_and(|attached| attached == expected);
    wait_until("the right interfaces are attached", PATIENCE, is_so)
        .with_context(|| format!("{:?}, expected {expected:?}", attached()))
}

fn check_answers(lab: &Lab, family: Family) -> Result<()> {
    let to = |port| front(family, port);
    for answers in [lab.http(to(HTTP_CLUSTER), FLOWS)?, lab.udp(to(UDP_CLUSTER), FLOWS)?] {
        ensure!(answers.by_pod.keys().eq([FAR[0], FAR[1], NEAR]), "from {:?}", answers.by_pod);
        let is_masqueraded = answers.peers.iter().all(|peer| lab.rig().is_gateway(*peer));
        ensure!(is_masqueraded, "the pods saw {:?}", answers.peers);
    }
    for answers in [lab.http(to(HTTP_LOCAL), FLOWS)?, lab.udp(to(UDP_LOCAL), FLOWS)?] {
        ensure!(answers.by_pod.keys().eq([NEAR]), "from {:?}", answers.by_pod);
        ensure!(answers.peers.iter().eq([&client_of(family)]), "saw {:?}", answers.peers);
    }
    Ok(())
}

/// Downloads and uploads, by pods that are near and far.
fn check_transfers(lab: &Lab, family: Family) -> Result<()> {
    let client = lab.rig().client();
    let mut expected = Sha256::new();
    pattern_chunks(BYTES).for_each(|chunk| expected.update(chunk));
    let expected = (BYTES, format!("{:x}", expected.finalize()));
    for port in [HTTP_LOCAL, HTTP_CLUSTER, HTTP_CLUSTER, HTTP_CLUSTER] {
        let got = load::download(client, front(family, port), &format!("/bytes/{BYTES}"))?;
        ensure!(got == expected, "port {port}: {got:?}, expected {expected:?}");
    }
    let mut pods = BTreeSet::new();
    for _ in 0..UPLOADS_MAX {
        pods.insert(load::upload(client, front(family, HTTP_CLUSTER), BYTES)?);
        if pods.len() == 3 {
            break;
        }
    }
    ensure!(pods.len() == 3, "uploads reached {pods:?}");
    ensure!(load::upload(client, front(family, HTTP_LOCAL), BYTES)? == NEAR);
    Ok(())
}

/// No frame larger than the MTU can come: the kernel has turned segmentation by the device off for
/// the pod that is in use, and that alone.
fn check_offloads(lab: &Lab) -> Result<()> {
    for (name, segmentation) in [(NEAR, "off"), (IDLE, "on")] {
        let features = lab.site().pod(name).context("a pod")?.netns().run("ethtool -k eth0")?;
        for feature in [
            "tx-checksumming: on",
            "generic-segmentation-offload: on",
            &format!("tcp-segmentation-offload: {segmentation}"),
        ] {
            ensure!(features.contains(feature), "{name}, {feature}: {features}");
        }
    }
    Ok(())
}

/// As the plugin `ptp`; other nodes by plain routes (flannel's `host-gw`).
#[test]
fn pods_behind_veths_with_addresses_are_served() -> Result<()> {
    check(Plumbing::PointToPoint, &[])
}

/// As the plugin `bridge`, and with it flannel and k3s.
#[test]
fn pods_behind_the_ports_of_a_bridge_are_served() -> Result<()> {
    check(Plumbing::Bridge, &[])
}

/// As Calico without an overlay.
#[test]
fn pods_behind_routed_veths_without_addresses_are_served() -> Result<()> {
    check(Plumbing::Routed, &[("name: veth*", "name: cali*")])
}
