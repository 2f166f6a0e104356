//! Where the receive side of the gateway's veth runs: in the sender's softirq, as the kernel has
//! it, or in a thread of its own, as if a NIC's interrupt went to that CPU.

use super::priority::NICENESS;
use super::rig::Rig;
use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, setpriority_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use std::collections::BTreeSet;
use std::fs;
use tidegate_control::demo::rig::NetNs;

/// On whose CPU the gateway's first veth receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Placement {
    /// The generator's.
    Sender,
    /// The forwarder's.
    Forwarder,
}

/// Has the gateway's outer interface receive in kernel threads on `cpu`. It needs a NAPI: an XDP
/// program or GRO.
pub(crate) fn receive_on(rig: &Rig, cpu: usize) -> Result<()> {
    let before = napi_threads()?;
    write(rig.gateway(), "echo 1 > /sys/class/net/eth0/threaded")?;
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    let after = napi_threads()?;
    let new: Vec<_> = after.difference(&before).filter_map(|pid| Pid::from_raw(*pid)).collect();
    ensure!(!new.is_empty(), "no thread receives for the gateway's eth0");
    for thread in new {
        sched_setaffinity(Some(thread), &cpus).context("pin a receiving thread")?;
        setpriority_process(Some(thread), NICENESS).context("favour a receiving thread")?;
    }
    Ok(())
}

/// Runs a shell line inside; `/sys` shows the namespace's own interfaces there.
fn write(netns: &NetNs, line: &str) -> Result<()> {
    let status = netns.command("sh").args(["-c", line]).status().context("run sh")?;
    ensure!(status.success(), "`{line}` failed: {status}");
    Ok(())
}

/// The kernel's threads for interfaces called `eth0`, of any namespace.
fn napi_threads() -> Result<BTreeSet<i32>> {
    let entries = fs::read_dir("/proc").context("list processes")?;
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let is_napi = |pid: &i32| {
        // A process may have ended since it was listed.
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        name.starts_with("napi/eth0-")
    };
    Ok(pids.filter(is_napi).collect())
}
