//! Interfaces, routes, addresses and neighbours that change under load: sessions go on, datagrams
//! pass again soon, and nothing is left behind. Each with one worker and with two.

mod churn;
mod client;
mod pod;
mod refusals;
mod way;

use anyhow::Result;
use std::time::Duration;
use tidegate_control::demo::rig::{NetNs, Pod, RigPlan, families};
use tidegate_control::model::Family;
use tidegate_tests::lab::Lab;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a link stays down: long enough that everybody notices, short enough for TCP.
const OUTAGE: Duration = Duration::from_millis(300);

/// Queues of the cables, and the line of the config that says how many workers there are.
type Shape = (u32, &'static str);

const ONE_WORKER: Shape = (1, "cpus: [1]");
const TWO_WORKERS: Shape = (2, "cpus: [0, 1]");

fn start(shape: Shape) -> Result<Lab> {
    start_with(shape, &[])
}

/// With more changes of the config.
fn start_with((queues, workers): Shape, changes: &[(&str, &str)]) -> Result<Lab> {
    let changes = [&[("cpus: auto", workers)], changes].concat();
    let lab = Lab::start(&RigPlan::new("test").queues(queues), &changes)?;
    let rig = lab.rig();
    let pods = rig.pods().iter().map(Pod::netns);
    for netns in [rig.client(), rig.gateway(), rig.node2()].into_iter().chain(pods) {
        announce_changes(netns)?;
    }
    Ok(lab)
}

/// Hosts tell their neighbours of a new link address, as network managers have it; and addresses
/// outlive a link that is down, as of IPv4 they do anyway.
fn announce_changes(netns: &NetNs) -> Result<()> {
    netns.sysctl("net.ipv4.conf.all.arp_notify=1")?;
    if families().contains(&Family::V6) {
        netns.sysctl("net.ipv6.conf.all.ndisc_notify=1")?;
        netns.sysctl("net.ipv6.conf.all.keep_addr_on_down=1")?;
    }
    Ok(())
}

/// Sets a link down for a while.
fn flap(netns: &NetNs, name: &str) -> Result<()> {
    netns.ip(&format!("link set {name} down"))?;
    std::thread::sleep(OUTAGE);
    netns.ip(&format!("link set {name} up"))?;
    Ok(())
}
