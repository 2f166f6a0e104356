//! Many connections, a long download, and a cluster that changes under load.

use anyhow::{Context as _, Result, ensure};
use std::time::Duration;
use tidegate_control::demo::site::{HTTP_CLUSTER, HTTP_LOCAL};
use tidegate_tests::lab::{FAMILIES, FAR, Family, Lab, NEAR, V4, V6, front};
use tidegate_tests::load::{self, Session};
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::in_each_spread;

const CONNECTIONS: u32 = 10_000;

const DOWNLOAD_BYTES: u64 = 100_000_000;

/// Changes of the manifests.
const CHANGES: u32 = 50;

/// Rounds of requests at most: far more than the changes need.
const ROUNDS_MAX: u32 = 1000;

#[test]
fn ten_thousand_connections_of_http_over_ipv4() -> Result<()> {
    ten_thousand_connections(V4)
}

#[test]
fn ten_thousand_connections_of_http_over_ipv6() -> Result<()> {
    ten_thousand_connections(V6)
}

fn ten_thousand_connections(family: Family) -> Result<()> {
    in_each_spread(&[], |lab| {
        let answers = lab.http(front(family, HTTP_CLUSTER), CONNECTIONS)?;
        // Maglev gives each of three pods a third; a tenth of it would be a broken table.
        let least = answers.by_pod.values().min().copied().unwrap_or(0);
        ensure!(answers.by_pod.len() == 3 && least > CONNECTIONS / 30, "{:?}", answers.by_pod);
        Ok(())
    })
}

#[test]
fn a_download_arrives_whole_from_a_pod_with_its_offloads_on() -> Result<()> {
    in_each_spread(&[], a_download_arrives_whole)
}

fn a_download_arrives_whole(lab: &Lab) -> Result<()> {
    let pod = lab.site().pod(NEAR).context("the local pod")?;
    let features = pod.netns().run("ethtool -k eth0")?;
    ensure!(features.contains("tx-checksumming: on"), "{features}");
    let expected = load::pattern_digest(DOWNLOAD_BYTES);
    let path = format!("/bytes/{DOWNLOAD_BYTES}");
    for from in FAMILIES.into_iter().flat_map(|f| [front(f, HTTP_LOCAL), front(f, HTTP_CLUSTER)]) {
        let (len, digest) = load::download(lab.rig().client(), from, &path)?;
        ensure!(len == DOWNLOAD_BYTES, "{len} bytes from {from}");
        ensure!(digest == expected, "digest {digest} from {from}, expected {expected}");
    }
    Ok(())
}

#[test]
fn no_request_fails_while_the_manifests_change_fifty_times() -> Result<()> {
    in_each_spread(&[], no_request_fails_while_the_manifests_change)
}

fn no_request_fails_while_the_manifests_change(lab: &Lab) -> Result<()> {
    let mut sessions = sessions_to(lab, V4, FAR[1])?;
    sessions.extend(sessions_to(lab, V6, FAR[1])?);
    let work = || (0..CHANGES).try_for_each(|number| change(lab, number));
    let answers = lab.under_load(&FAMILIES, ROUNDS_MAX, work)?;
    ensure!(answers.by_pod.contains_key(FAR[1]), "{:?}", answers.by_pod);
    for session in &mut sessions {
        let pod = session.ask().context("an established connection")?;
        ensure!(pod == FAR[1], "an established connection moved to {pod}");
    }
    Ok(())
}

/// Connections to one pod that stay open.
fn sessions_to(lab: &Lab, family: Family, pod: &str) -> Result<Vec<Session>> {
    let mut sessions = Vec::new();
    let more = || {
        let mut session = Session::open(lab.rig().client(), front(family, HTTP_CLUSTER)).ok();
        if session.as_mut().is_some_and(|s| s.ask().is_ok_and(|name| name == pod)) {
            sessions.extend(session);
        }
        sessions.len() >= 3
    };
    wait_until("three sessions with one pod", Duration::from_secs(10), more)?;
    Ok(sessions)
}

/// Takes a pod out, or puts it back, and waits until tidegate has followed.
fn change(lab: &Lab, number: u32) -> Result<()> {
    let comes = number % 2 == 1;
    if comes {
        lab.site().publish_pod(FAR[1])?;
    } else {
        lab.site().withdraw_pod(FAR[1])?;
    }
    lab.wait_for(FAR[1], comes).with_context(|| format!("change {number}"))
}
