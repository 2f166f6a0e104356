//! Pods behind every CNI plugin's plumbing: both directions and families, TCP with the pods'
//! offloads left on.

use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::time::Duration;
use tidegate_control::admin::report::{DropsReport, StatusReport};
use tidegate_control::demo::rig::{Node, Plumbing, RigPlan, client_of};
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER, UDP_LOCAL};
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, front, packets_of};
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
    if plumbing == Plumbing::Overlay {
        // GRO there would join the inner packets before the overlay's device has them.
        lab.rig().gateway().run("ethtool -K eth1 gro off")?;
    }
    check_interfaces(&lab, plumbing)?;
    for family in FAMILIES {
        check_answers(&lab, family)?;
        check_transfers(&lab, family).with_context(|| family.to_string())?;
    }
    check_offloads(&lab)?;
    lab.finish()
}

/// The node's end of a pod's veth is attached while the pod is in use, and no other.
fn check_interfaces(lab: &Lab, plumbing: Plumbing) -> Result<()> {
    let end = |name: &str| Some(lab.site().pod(name)?.host_interface().to_owned());
    let near = end(NEAR).context("a local pod")?;
    let attached = || -> Result<BTreeSet<String>> {
        let all = lab.interfaces()?.into_iter().filter(|interface| interface.attached);
        Ok(all.map(|interface| interface.name).collect())
    };
    let mut expected = BTreeSet::from(["eth0".to_owned(), "eth1".to_owned(), near]);
    if plumbing == Plumbing::Overlay {
        expected.extend(["flannel.1".to_owned(), "flannel-v6.1".to_owned()]);
    }
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
    let expected = (BYTES, load::pattern_digest(BYTES));
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

/// The demo's config, with the overlay's devices.
const OVERLAY: (&str, &str) =
    ("  - name: veth*", "  - name: flannel*\n    role: backend\n  - name: veth*");

/// As flannel with its backend `vxlan`.
#[test]
fn pods_behind_an_overlay_are_served() -> Result<()> {
    check(Plumbing::Overlay, &[OVERLAY])
}

/// The overlay's MTU is the way's: whoever sends more is told.
#[test]
fn clients_learn_of_the_mtu_of_an_overlay() -> Result<()> {
    let plan = RigPlan::new("test").plumbing(Plumbing::Overlay);
    let lab = Lab::start(&plan, &[OVERLAY])?;
    lab.rig().gateway().run("ethtool -K eth1 gro off")?;
    for (family, mtu) in [(Family::V4, 1450), (Family::V6, 1430)] {
        let (client, to) = (lab.rig().client(), front(family, UDP_CLUSTER));
        let route = || client.ip(&format!("route get {}", to.ip()));
        let is_known = || {
            let is_known = route().is_ok_and(|route| route.contains(&format!("mtu {mtu} ")));
            if !is_known {
                // A flow to the pod that is near teaches the MTU of its own link.
                let flag = if family == Family::V4 { "-4" } else { "-6" };
                client.ip(&format!("{flag} route flush cache")).ok();
                client.enter(|| send_large(to).ok()).ok();
            }
            is_known
        };
        wait_until("the client learns the overlay's MTU", PATIENCE, is_known)
            .with_context(|| format!("{family}: {:?}", route()))?;
        lab.udp(to, FLOWS)?;
    }
    lab.finish()
}

/// Sends as much as the client's own link takes.
fn send_large(to: SocketAddr) -> std::io::Result<()> {
    let socket = UdpSocket::bind((load::any_like(to), 0))?;
    socket.connect(to)?;
    socket.send(&[0; 1440]).map(drop)
}

/// Generic XDP comes before the kernel cuts a pod's segments, and has them whole: too large for a
/// frame. That is counted, and told with what to do.
#[test]
fn uncut_segments_are_counted_and_told() -> Result<()> {
    let generic = ("  - name: veth*", "  - name: veth*\n    attachMode: skb");
    let lab = Lab::start(&RigPlan::new("test"), &[generic])?;
    // More than one segment at once, few enough to arrive one by one when they are sent again.
    load::download(lab.rig().client(), front(Family::V4, HTTP_LOCAL), "/bytes/20000")?;
    let drops: DropsReport = lab.report("/api/v1/drops")?;
    ensure!(packets_of(&drops.dropped, "XSK_RX_DROPPED") > 0, "{:?}", drops.dropped);
    let status: StatusReport = lab.report("/api/v1/status")?;
    let is_told = |text: &String| text.starts_with("veth0: ") && text.contains("attachMode");
    ensure!(status.warnings.iter().any(is_told), "{:?}", status.warnings);
    lab.finish()
}
