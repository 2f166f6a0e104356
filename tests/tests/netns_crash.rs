//! When tidegate dies, others must not.

use anyhow::{Context as _, Result, ensure};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::HTTP_CLUSTER;
use tidegate_tests::bystander;
use tidegate_tests::lab::{FAMILIES, Family, Lab, V4, V6, configure, front};
use tidegate_tests::setting::wait_until;
use tidegate_tests::spread::{SPREADS, Spread};

#[test]
fn other_traffic_flows_on_after_kill_9() -> Result<()> {
    SPREADS.into_iter().try_for_each(|spread| check(spread).with_context(|| format!("{spread:?}")))
}

fn check(spread: Spread) -> Result<()> {
    let mut lab = Lab::spread(spread, &RigPlan::new("test"), &[])?;
    lab.http(front(V4, HTTP_CLUSTER), 100)?;
    lab.http(front(V6, HTTP_CLUSTER), 100)?;
    lab.site_mut().daemon_mut().context("tidegate")?.process().kill();

    let before = lab.bystander().lines();
    let goes_on = || lab.bystander().lines() > before + 10;
    wait_until("the bystander's session goes on", Duration::from_secs(5), goes_on)?;
    for family in FAMILIES {
        bystander::connect(lab.rig(), family).context("after the kill")?;
    }
    // The program went with the process: the front's packets are the kernel's, which has no such
    // port and no kube-proxy here.
    let is_refused = |family: Family| {
        let to = front(family, HTTP_CLUSTER);
        let dial = || TcpStream::connect_timeout(&to, Duration::from_secs(1));
        let dialled = lab.rig().client().enter(dial);
        dialled.is_ok_and(|d| d.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    };
    let refused = || FAMILIES.into_iter().all(is_refused);
    wait_until("the kernel answers on the front", Duration::from_secs(10), refused)?;

    let config = spread.config(configure(&[])?);
    lab.site_mut().start_daemon(&config).context("start after a kill")?;
    for family in FAMILIES {
        let answers = lab.http(front(family, HTTP_CLUSTER), 300)?;
        ensure!(answers.by_pod.len() == 3, "{:?}", answers.by_pod);
    }
    lab.finish()
}
