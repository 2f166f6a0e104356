//! An interface that cannot be had at run time: it is told, the others serve on, and it is taken
//! once it can be had.

use crate::{ONE_WORKER, PATIENCE, start_with};
use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::{Duration, Instant};
use tidegate_control::admin::report::StatusReport;
use tidegate_control::demo::rig::{NetNs, Node};
use tidegate_control::demo::site::{HTTP_LOCAL, UDP_LOCAL};
use tidegate_dataplane::engine::{AttachMode, Fallback};
use tidegate_dataplane::types::{IfIndex, MacAddress};
use tidegate_dataplane::xdp::hook::AttachedProgram;
use tidegate_dataplane::xdp::program::{Steering, SteeringConfig};
use tidegate_tests::lab::{FAMILIES, Lab, front};
use tidegate_tests::setting::wait_until;
use tidegate_tests::steady::steadily;

/// The pod whose interface cannot be had.
const GUEST: &str = "guest";

/// Native mode or none: by the generic hook every veth can be had.
const NATIVE: (&str, &str) = ("role: backend", "role: backend\n    attachMode: native");

/// So long that it was tried again, after the first waits of half a second and a second.
const TRIED_AGAIN: Duration = Duration::from_secs(2);

/// A lab, and the name of the pod's interface.
fn lab_with_guest() -> Result<(Lab, String)> {
    let mut lab = start_with(ONE_WORKER, &[NATIVE])?;
    lab.site_mut().add_pod(Node::Gateway, GUEST)?;
    let end = lab.site().pod(GUEST).context("the pod")?.host_interface().to_owned();
    Ok((lab, end))
}

/// The pod comes; its interface is refused in these words, once, and taken after `amend`.
fn refused_until(
    lab: &Lab,
    end: &str,
    words: &str,
    amend: impl FnOnce() -> Result<()>,
) -> Result<()> {
    steadily(lab, (HTTP_LOCAL, UDP_LOCAL), |_| {
        lab.site().publish_pod(GUEST)?;
        let begin = Instant::now();
        wait_until("it was tried again", PATIENCE, || {
            begin.elapsed() > TRIED_AGAIN && is_told(lab, end, words).is_ok_and(|told| told)
        })
        .with_context(|| format!("{:?}", lab.report::<StatusReport>("/api/v1/status")))?;
        amend()?;
        lab.wait_for(GUEST, true)
    })?;
    for family in FAMILIES {
        let answers = lab.udp(front(family, UDP_LOCAL), 100)?;
        ensure!(answers.by_pod.contains_key(GUEST), "{:?}", answers.by_pod);
    }
    let status: StatusReport = lab.report("/api/v1/status")?;
    ensure!(status.ready, "{:?}", status.checks);
    let log = fs::read_to_string(lab.site().files().log())?;
    let is_refusal = |line: &&str| {
        let words = ["cannot attach", "not attached"];
        words.iter().any(|words| line.contains(words)) && line.contains(end)
    };
    let told = log.lines().filter(is_refusal);
    ensure!(told.count() == 1, "not once:\n{log}");
    Ok(())
}

/// By status and metrics.
fn is_told(lab: &Lab, end: &str, words: &str) -> Result<bool> {
    let status: StatusReport = lab.report("/api/v1/status")?;
    let refused = status.interfaces.iter().find(|interface| interface.name == end);
    let error = refused.and_then(|interface| interface.error.as_ref());
    let is_checked = status.checks.iter().any(|check| !check.ok && check.detail.contains(words));
    let metrics = lab.site().daemon().context("tidegate")?.get("/metrics")?;
    let is_counted = metrics.lines().any(|line| {
        line.starts_with(&format!("tidegate_interface_info{{interface=\"{end}\""))
            && line.ends_with(" 0")
    });
    Ok(is_checked && is_counted && error.is_some_and(|error| error.contains(words)))
}

/// Somebody else's program, as far as the daemon can tell.
fn occupy(netns: &NetNs, end: &str) -> Result<AttachedProgram> {
    let link = netns.ip(&format!("-o link show {end}"))?;
    let index = IfIndex(link.split(':').next().unwrap_or_default().parse()?);
    let config = SteeringConfig {
        flows_max: 1,
        latency_sample: 0,
        fallback: Fallback::Kernel,
        stale_after: Duration::from_secs(1),
        road_mac: MacAddress([2, 0, 0, 0, 0, 1]),
    };
    Ok(netns.enter(|| Steering::load(&config)?.attach(index, AttachMode::Native))??)
}

#[test]
fn an_interface_of_another_program_is_taken_when_it_is_free() -> Result<()> {
    let (lab, end) = lab_with_guest()?;
    let other = occupy(lab.rig().gateway(), &end)?;
    refused_until(&lab, &end, "EBUSY", || {
        drop(other);
        Ok(())
    })?;
    lab.finish()
}

/// Not even asked for, since no frame of ours takes its packets; told all the same.
#[test]
fn an_interface_whose_packets_fit_no_frame_is_told_as_one_and_taken_when_they_do() -> Result<()> {
    let (lab, end) = lab_with_guest()?;
    let set_mtu = |mtu: u32| lab.rig().gateway().ip(&format!("link set {end} mtu {mtu}"));
    set_mtu(3000)?;
    refused_until(&lab, &end, "its MTU is 3000", || {
        set_mtu(1500)?;
        Ok(())
    })?;
    lab.finish()
}

#[test]
fn a_pod_whose_packets_are_too_large_is_taken_when_they_are_smaller() -> Result<()> {
    let (lab, end) = lab_with_guest()?;
    let pod = lab.site().pod(GUEST).context("the pod")?;
    pod.netns().ip("link set eth0 mtu 9000")?;
    refused_until(&lab, &end, "Peer MTU is too large", || {
        pod.netns().ip("link set eth0 mtu 1500")?;
        Ok(())
    })?;
    lab.finish()
}
