//! The real tidegate between namespaces, told of its cluster by an API server that comes and goes.

use anyhow::{Context as _, Result, ensure};
use core::net::SocketAddr;
use serde_json::json;
use std::net::TcpStream;
use std::time::Duration;
use tidegate_control::admin::report::StatusReport;
use tidegate_control::demo::site::HTTP_CLUSTER;
use tidegate_tests::kube_lab::{KubeLab, WEB};
use tidegate_tests::lab::{FAR, Lab, NEAR, V4, V6, front};
use tidegate_tests::manifests::{granted, needed};
use tidegate_tests::objects::service;
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::Spread;

/// How long the server's return may take to be noticed: kube's back-off, and a busy machine.
const NOTICED_MAX: Duration = Duration::from_mins(1);

/// Rounds of requests at most: far more than the changes need.
const ROUNDS_MAX: u32 = 5000;

/// A Service that goes while the server is away, and one that comes.
const OLD: (&str, u16) = ("old", 30_082);
const NEW: (&str, u16) = ("new", 30_083);

#[test]
fn no_request_fails_while_the_api_server_is_killed_changed_and_restarted() -> Result<()> {
    let mut lab = KubeLab::start(Spread::Shuffled)?;
    lab.server.apply(service(OLD.0, OLD.1))?;
    lab.set_endpoints(OLD.0, &[NEAR])?;
    lab.set_endpoints(WEB, &[NEAR, FAR[0]])?;
    lab.lab.wait_for(FAR[1], false)?;
    wait_for_front(&lab.lab, OLD.1, true)?;

    let KubeLab { lab: inner, server, .. } = &mut lab;
    server.stop();
    server.delete(("services", "shop", OLD.0))?;
    server.delete(("endpointslices", "shop", "old-v4"))?;
    server.apply(service(NEW.0, NEW.1))?;
    let sooner = inner.under_load(&[V4], ROUNDS_MAX, || {
        let status = || inner.report::<StatusReport>("/api/v1/status");
        let is_told = || status().is_ok_and(|s| s.ready && s.source.error.is_some());
        wait_until("the server's absence is told", NOTICED_MAX, is_told)
    })?;
    ensure!(sooner.by_pod.len() == 2, "{:?}", sooner.by_pod);
    lab.set_endpoints(NEW.0, &[NEAR])?;
    lab.set_endpoints(WEB, &[NEAR, FAR[1]])?;
    lab.server.compact();
    lab.resume()?;
    let later = lab.lab.under_load(&[V4], ROUNDS_MAX, || {
        let is_well = || lab.status().is_ok_and(|s| s.ready && s.source.error.is_none());
        wait_until("the server's return is told", NOTICED_MAX, is_well)?;
        lab.lab.wait_for(FAR[1], true)?;
        lab.lab.wait_for(FAR[0], false)?;
        wait_for_front(&lab.lab, NEW.1, true)?;
        wait_for_front(&lab.lab, OLD.1, false)
    })?;
    ensure!(later.by_pod.contains_key(FAR[1]), "{:?}", later.by_pod);
    lab.lab.finish()
}

#[test]
fn a_restart_while_the_api_server_is_away_serves_from_disk() -> Result<()> {
    let mut lab = KubeLab::start(Spread::Shuffled)?;
    let status = lab.status()?;
    ensure!(status.source.kind == "kubernetes" && status.source.listing.is_some(), "{status:?}");
    lab.server.stop();
    lab.restart_daemon().context("a start without the API server")?;
    for family in [V4, V6] {
        let answers = lab.lab.http(front(family, HTTP_CLUSTER), 100)?;
        ensure!(answers.by_pod.len() == 3, "{:?}", answers.by_pod);
    }
    let status = lab.status()?;
    ensure!(status.source.kept_age_seconds.is_some(), "{:?}", status.source);
    let is_told = |text: &String| text.contains("serving from the state kept on disk");
    ensure!(status.warnings.iter().any(is_told), "{:?}", status.warnings);

    lab.server.apply(service(NEW.0, NEW.1))?;
    lab.set_endpoints(NEW.0, &[NEAR])?;
    lab.resume()?;
    let is_fresh = || lab.status().is_ok_and(|s| s.source.kept_age_seconds.is_none());
    wait_until("the server's own state serves", NOTICED_MAX, is_fresh)?;
    wait_for_front(&lab.lab, NEW.1, true)?;
    let (needed, granted) = (needed(&lab.server.requests()), granted()?);
    ensure!(needed.is_subset(&granted), "asked for {needed:?}, granted {granted:?}");
    lab.lab.finish()
}

#[test]
fn a3_a4_labels_take_a_front_away_and_give_it_back() -> Result<()> {
    let lab = KubeLab::start(Spread::OneQueue)?;
    for label in ["service.kubernetes.io/service-proxy-name", "service.kubernetes.io/headless"] {
        for (value, is_served) in [(json!("other"), false), (json!(null), true)] {
            let patch = json!({"metadata": {"labels": {label: value}}});
            lab.server.patch(("services", "shop", WEB), patch)?;
            wait_for_front(&lab.lab, HTTP_CLUSTER, is_served)?;
        }
    }
    lab.lab.http(front(V4, HTTP_CLUSTER), 100)?;
    lab.lab.finish()
}

/// Waits until a client can dial the node port, or is refused by the kernel, where nobody listens.
fn wait_for_front(lab: &Lab, port: u16, is_wanted: bool) -> Result<()> {
    let front: SocketAddr = front(V4, port);
    let dial = || TcpStream::connect_timeout(&front, Duration::from_secs(1)).is_ok();
    let is_so = || lab.rig().client().enter(dial).is_ok_and(|is_open| is_open == is_wanted);
    let word = if is_wanted { "serves" } else { "is left to the kernel" };
    wait_until(&format!("{front} {word}"), NOTICED_MAX, is_so)
}
