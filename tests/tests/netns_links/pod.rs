//! A pod's own cable.

use crate::{ONE_WORKER, Shape, TWO_WORKERS, flap, start};
use anyhow::{Context as _, Result};
use tidegate_control::demo::rig::Pod;
use tidegate_control::demo::site::{HTTP_LOCAL, UDP_LOCAL};
use tidegate_tests::lab::{Lab, NEAR};
use tidegate_tests::steady::{Steady, steadily};

/// No interface of the gateway has it.
const FREE_INDEX: u32 = 777;

fn changes(shape: Shape) -> Result<()> {
    let lab = start(shape)?;
    steadily(&lab, (HTTP_LOCAL, UDP_LOCAL), |steady| {
        let pod = lab.site().pod(NEAR).context("the local pod")?;
        flaps(&lab, pod, steady)?;
        names_and_addresses(&lab, pod, steady)?;
        replacements(&lab, pod, steady)
    })?;
    lab.finish()
}

fn flaps(lab: &Lab, pod: &Pod, steady: &Steady<'_>) -> Result<()> {
    let gateway = lab.rig().gateway();
    let end = pod.host_interface();
    steady.change("a pod's link was down at the node's end", || {
        flap(gateway, end)?;
        Ok(pod.give_ways(gateway, end)?)
    })?;
    steady.change("a pod's link was down at the pod's end", || {
        flap(pod.netns(), "eth0")?;
        Ok(pod.give_ways(gateway, end)?)
    })
}

fn names_and_addresses(lab: &Lab, pod: &Pod, steady: &Steady<'_>) -> Result<()> {
    let gateway = lab.rig().gateway();
    let end = pod.host_interface();
    steady.change("a pod's link has another name", || {
        gateway.ip(&format!("link set {end} name veth-new")).map(drop)?;
        Ok(())
    })?;
    steady.change("its own name again", || {
        gateway.ip(&format!("link set veth-new name {end}"))?;
        Ok(())
    })?;
    steady.change("the node's end has another link address", || {
        gateway.ip(&format!("link set {end} address 02:00:00:00:aa:01"))?;
        Ok(())
    })?;
    steady.change("the pod has another link address", || {
        pod.netns().ip("link set eth0 address 02:00:00:00:aa:02")?;
        Ok(())
    })
}

/// The pod's sockets outlive its cable.
fn replacements(lab: &Lab, pod: &Pod, steady: &Steady<'_>) -> Result<()> {
    let gateway = lab.rig().gateway();
    let end = pod.host_interface();
    steady.change("a pod's link is another one of the same name", || {
        gateway.ip(&format!("link del {end}"))?;
        Ok(pod.plug(gateway, &format!("{end} index {FREE_INDEX}"))?)
    })?;
    steady.change("a pod's link is another one of the same number", || {
        gateway.ip(&format!("link del {end}"))?;
        Ok(pod.plug(gateway, &format!("veth-other index {FREE_INDEX}"))?)
    })?;
    steady.change("a pod's link is another one of the same name and number", || {
        gateway.ip("link del veth-other")?;
        Ok(pod.plug(gateway, &format!("veth-other index {FREE_INDEX}"))?)
    })
}

#[test]
fn a_pods_link_may_flap_move_and_be_replaced() -> Result<()> {
    changes(ONE_WORKER)
}

#[test]
fn a_pods_link_may_flap_move_and_be_replaced_with_two_workers() -> Result<()> {
    changes(TWO_WORKERS)
}
