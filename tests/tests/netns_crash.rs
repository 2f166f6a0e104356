//! When tidegate dies, others must not.

use anyhow::{Context as _, Result, ensure};
use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;
use tidegate_control::demo::rig::RigPlan;
use tidegate_control::demo::site::{CONFIG, HTTP_CLUSTER};
use tidegate_tests::bystander;
use tidegate_tests::lab::{Lab, front};
use tidegate_tests::setting::wait_until;

#[test]
fn other_traffic_flows_on_after_kill_9() -> Result<()> {
    let mut lab = Lab::start(&RigPlan::new("test"), &[])?;
    lab.http(HTTP_CLUSTER, 100)?;
    lab.site_mut().daemon_mut().context("tidegate")?.process().kill();

    let before = lab.bystander().lines();
    let goes_on = || lab.bystander().lines() > before + 10;
    wait_until("the bystander's session goes on", Duration::from_secs(5), goes_on)?;
    bystander::connect(lab.rig()).context("after the kill")?;
    // The program went with the process: the front's packets are the kernel's, which has no such
    // port and no kube-proxy here.
    let refused = || {
        let dial =
            || TcpStream::connect_timeout(&front(HTTP_CLUSTER).into(), Duration::from_secs(1));
        let dialled = lab.rig().client().enter(dial);
        dialled.is_ok_and(|d| d.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused))
    };
    wait_until("the kernel answers on the front", Duration::from_secs(10), refused)?;

    lab.site_mut().start_daemon(CONFIG).context("start after a kill")?;
    let answers = lab.http(HTTP_CLUSTER, 300)?;
    ensure!(answers.by_pod.len() == 3, "{:?}", answers.by_pod);
    lab.finish()
}
