//! Pods that come, are asked, and go: nothing of them is left behind.

use crate::{PATIENCE, TWO_WORKERS, start_with};
use anyhow::{Context as _, Result, ensure};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;
use tidegate_control::admin::report::{List, NeighborReport, StatusReport, WorkerReport};
use tidegate_control::demo::rig::Node;
use tidegate_control::demo::site::{HTTP_LOCAL, UDP_LOCAL};
use tidegate_tests::lab::{FAMILIES, Lab, front};
use tidegate_tests::load::Session;
use tidegate_tests::setting::{resident_kib, wait_until};
use tidegate_tests::steady::steadily;

/// How many times, unless the variable says otherwise.
const CYCLES: u32 = 60;
const CYCLES_VARIABLE: &str = "TIDEGATE_LINK_CYCLES";

/// Before what is there at the beginning is counted: pools and tables have been used once.
const WARM_UP: u32 = 5;

/// Requests of each kind and family to a pod in one cycle.
const REQUESTS: u32 = 8;

/// The pod that comes and goes.
const GUEST: &str = "guest";

/// Flows that end soon: the last of them would be waited for two minutes.
const SHORT_LIVES: (&str, &str) =
    ("latency:", "conntrack: {udpTimeout: 1s, udpStreamTimeout: 1s}\nlatency:");

/// The kernel's number of a BPF hash table (`enum bpf_map_type`).
const HASH_TABLE: &str = "1";

/// What must be the same before and after.
#[derive(Debug, PartialEq, Eq)]
struct Census {
    descriptors: usize,
    threads: usize,
    /// Entries of the hash tables that the XDP program reads, by name.
    entries: BTreeMap<String, usize>,
    /// Of each worker, all.
    frames: Vec<u64>,
    /// Of all workers, on their way: neither free nor waiting to be received into.
    frames_away: u64,
    interfaces: BTreeSet<String>,
    fronts: usize,
    flows: u64,
}

#[test]
fn nothing_is_left_of_pods_that_came_and_went() -> Result<()> {
    let cycles = std::env::var(CYCLES_VARIABLE).ok().map(|text| text.parse()).transpose()?;
    let cycles = cycles.unwrap_or(CYCLES);
    let mut lab = start_with(TWO_WORKERS, &[SHORT_LIVES])?;
    let pid = lab.site_mut().daemon_mut().context("tidegate")?.process().id();
    lab.site_mut().add_pod(Node::Gateway, GUEST)?;
    unplug(&lab)?;
    // The flows that go on all the time are those of the other pod.
    let turn = |count: u32| {
        steadily(&lab, (HTTP_LOCAL, UDP_LOCAL), |_| {
            (0..count).try_for_each(|n| cycle(&lab).with_context(|| format!("cycle {n}")))
        })
    };
    turn(WARM_UP)?;
    let (before, hops) = (settled(&lab, pid)?, next_hops(&lab)?);
    let (begin, resident_before) = (Instant::now(), resident_kib(pid)?);
    turn(cycles)?;
    let took = begin.elapsed();
    let is_same = || census(&lab, pid).is_ok_and(|now| now == before);
    let settled = wait_until("all is as it was", PATIENCE, is_same);
    eprintln!(
        "{cycles} cycles in {took:.0?}; resident {resident_before} KiB, then {} KiB; {before:?}",
        resident_kib(pid)?
    );
    settled.with_context(|| format!("before: {before:#?}\nafter: {:#?}", census(&lab, pid)))?;
    // A number rests before another address gets it; so the table grows, and then no more.
    let grown = next_hops(&lab)?.saturating_sub(hops);
    ensure!(grown <= 1024, "{grown} more next hops");
    lab.finish()
}

/// A pod comes, serves, and goes with its cable.
fn cycle(lab: &Lab) -> Result<()> {
    let pod = lab.site().pod(GUEST).context("the pod")?;
    pod.plug(lab.rig().gateway(), pod.host_interface())?;
    lab.site().publish_pod(GUEST)?;
    lab.wait_for(GUEST, true)?;
    for family in FAMILIES {
        lab.udp(front(family, UDP_LOCAL), REQUESTS)?;
        for _ in 0..REQUESTS {
            let mut session = Session::open(lab.rig().client(), front(family, HTTP_LOCAL))?;
            session.ask()?;
            session.reset()?;
        }
    }
    lab.site().withdraw_pod(GUEST)?;
    lab.wait_for(GUEST, false)?;
    unplug(lab)
}

fn unplug(lab: &Lab) -> Result<()> {
    let pod = lab.site().pod(GUEST).context("the pod")?;
    lab.rig().gateway().ip(&format!("link del {}", pod.host_interface()))?;
    Ok(())
}

/// The census once all flows have ended and the vanished interface is detached: eth0, eth1 and the
/// other pod's are left.
fn settled(lab: &Lab, pid: u32) -> Result<Census> {
    let is_settled =
        |census: &Census| (census.flows, census.frames_away, census.interfaces.len()) == (0, 0, 3);
    let settled = || census(lab, pid).is_ok_and(|census| is_settled(&census));
    wait_until("all flows have ended", PATIENCE, settled)?;
    census(lab, pid)
}

fn census(lab: &Lab, pid: u32) -> Result<Census> {
    let status: StatusReport = lab.report("/api/v1/status")?;
    let workers = lab.report::<List<WorkerReport>>("/api/v1/workers")?.items;
    let away = |worker: &WorkerReport| {
        let away = ["held", "handed", "tx"].map(|place| worker.frames.get(place).copied());
        away.into_iter().flatten().sum::<u64>()
    };
    Ok(Census {
        descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        threads: fs::read_dir(format!("/proc/{pid}/task"))?.count(),
        entries: entries(lab, pid)?,
        frames: workers.iter().map(|worker| worker.frames_total).collect(),
        frames_away: workers.iter().map(away).sum(),
        interfaces: status.interfaces.into_iter().map(|interface| interface.name).collect(),
        fronts: status.source.fronts,
        flows: status.flows,
    })
}

/// How many entries the daemon's hash tables in the kernel have.
fn entries(lab: &Lab, pid: u32) -> Result<BTreeMap<String, usize>> {
    let bpftool = |words: &str| -> Result<serde_json::Value> {
        Ok(serde_json::from_str(&lab.rig().gateway().run(&format!("bpftool -j map {words}"))?)?)
    };
    let mut entries = BTreeMap::new();
    for id in hash_tables(pid)? {
        let name = bpftool(&format!("show id {id}"))?["name"].as_str().map(str::to_owned);
        let dump = bpftool(&format!("dump id {id}"))?;
        entries.insert(name.context("a name")?, dump.as_array().context("a list")?.len());
    }
    ensure!(entries.contains_key("queues") && entries.contains_key("flows"), "{entries:?}");
    Ok(entries)
}

fn hash_tables(pid: u32) -> Result<BTreeSet<String>> {
    let mut ids = BTreeSet::new();
    for file in fs::read_dir(format!("/proc/{pid}/fdinfo"))? {
        // One that was closed meanwhile.
        let Ok(text) = fs::read_to_string(file?.path()) else { continue };
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        if field("map_type:").as_deref() == Some(HASH_TABLE) {
            ids.extend(field("map_id:"));
        }
    }
    Ok(ids)
}

fn next_hops(lab: &Lab) -> Result<usize> {
    Ok(lab.report::<List<NeighborReport>>("/api/v1/neighbors")?.items.len())
}
