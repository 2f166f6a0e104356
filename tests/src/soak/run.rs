//! The run: traffic on one thread, changes on another, and the account at the end.

use super::changes::Changes;
use super::journal::{Event, Journal};
use super::resources::Resources;
use super::stage::{COMER, IDLE};
use super::traffic::{self, Tally};
use crate::lab::Lab;
use crate::setting::wait_until;
use anyhow::{Context as _, Result, ensure};
use core::fmt::Write as _;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tidegate_control::demo::rig::{Node, RigPlan};

/// How often something changes.
const CHANGE_EVERY: Duration = Duration::from_secs(1);

/// How long the daemon may take to close what it has open more, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Failures that are shown whole; the rest are only counted.
const SHOWN: usize = 5;

/// One datagram in so many may be asked for again: a full socket buffer on a busy machine.
const AGAIN_SHARE: u64 = 1_000;

/// Two workers. The flow table is as large as the run fills it: what memory is touched for the
/// first time is touched in the warm-up.
const CONFIG: [(&str, &str); 2] = [
    ("cpus: auto", "cpus: [0, 1]"),
    ("adminSocket:", "conntrack: {maxFlows: 65536}\nadminSocket:"),
];

/// What shall be done.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// For how long.
    pub length: Duration,
    /// The same seed makes the same changes.
    pub seed: u64,
    /// Whether other tests in namespaces wait meanwhile.
    pub takes_turn: bool,
}

/// Runs it. Returns what was done, as text.
///
/// # Errors
/// A request failed that kube-proxy would have served, a flow moved that had no reason to, memory
/// or file descriptors grew, or packets are not accounted for. The error tells what happened around
/// it.
pub fn run(plan: &Plan) -> Result<String> {
    let mut lab = start(plan)?;
    let pid = lab.site_mut().daemon_mut().context("tidegate")?.process().id();
    let (tally, (events, told)) = (Arc::<Tally>::default(), channel());
    let mut resources = Resources::new(pid);
    let mut changes = Changes::new(&lab, plan.seed);
    changes.begin()?;
    let before = resources.descriptors()?;
    let client = lab.rig().client();
    let changed = std::thread::scope(|scope| {
        let asking = scope.spawn(|| traffic::go_on(client, &tally, &events));
        let changed = change(plan.length, &mut changes, &mut resources);
        tally.end();
        let asked = asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        changed.and(asked)
    });
    let (excused, verdict) = judge(&changes.journal, &told, &tally);
    // As it was when something failed: what follows makes more packets.
    let diagnosis = lab.diagnosis();
    let changed = changed.and_then(|()| changes.restore());
    let is_same = || resources.descriptors().is_ok_and(|now| are_no_more(&now, &before));
    let closed = wait_until("the file descriptors are no more than before", PATIENCE, is_same);
    let closed =
        closed.with_context(|| format!("before {before:?}, now {:?}", resources.descriptors()));
    let flat = resources.ensure_flat();
    let report = report(&tally, &changes.journal, &excused, flat.as_ref().ok())?;
    let checks = [changed, verdict, closed, flat.map(drop), lab.finish()];
    let faults = checks.into_iter().filter_map(Result::err).map(|error| format!("{error:#}"));
    let faults: Vec<_> = faults.collect();
    ensure!(faults.is_empty(), "{}\n{report}", faults.join("\n") + "\n" + &diagnosis);
    Ok(report)
}

fn start(plan: &Plan) -> Result<Lab> {
    let rig = RigPlan::new("soak").queues(2);
    let start = if plan.takes_turn { Lab::start } else { Lab::start_beside };
    let mut lab = start(&rig, &CONFIG)?;
    for pod in [COMER, IDLE] {
        lab.site_mut().add_pod(Node::Gateway, pod)?;
    }
    Ok(lab)
}

/// One change after the other.
fn change(length: Duration, changes: &mut Changes<'_>, resources: &mut Resources) -> Result<()> {
    let began = Instant::now();
    while began.elapsed() < length {
        let next = Instant::now() + CHANGE_EVERY;
        resources.sample()?;
        changes.make().with_context(|| format!("after {:?}", began.elapsed()))?;
        changes.note_stalls()?;
        // The pace of the run, not a wait for something.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

fn are_no_more(now: &BTreeMap<String, u32>, before: &BTreeMap<String, u32>) -> bool {
    now.iter().all(|(kind, count)| before.get(kind).is_some_and(|before| count <= before))
}

/// What went wrong, and was nobody's fault.
#[derive(Debug, Default)]
struct Excused {
    /// Connections whose pod lost its link.
    lost: u64,
    /// First datagrams to a new pod.
    first: u64,
    /// Other datagrams that were sent again.
    again: u64,
}

/// What was nobody's fault, and an error where something was somebody's.
fn judge(journal: &Journal, told: &Receiver<Event>, tally: &Tally) -> (Excused, Result<()>) {
    let (mut excused, mut faults) = (Excused::default(), Vec::new());
    for event in told.try_iter() {
        match event {
            Event::Failed(failure) if journal.is_excused(&failure) => excused.lost += 1,
            Event::Failed(failure) => faults.push(journal.describe(&failure)),
            Event::Again(again) if journal.met_a_new_pod(&again) => excused.first += 1,
            Event::Again(again) => {
                excused.again += 1;
                eprintln!("sent again: {}", journal.describe(&again));
            }
            Event::Moved(moved) if journal.is_due(&moved) => {}
            Event::Moved(moved) => faults.push(journal.describe_move(&moved)),
        }
    }
    let verdict = ensure_none(&faults, excused.again, tally.datagrams());
    (excused, verdict)
}

fn ensure_none(faults: &[String], again: u64, datagrams: u64) -> Result<()> {
    let (count, shown) = (faults.len(), faults.iter().take(SHOWN));
    let text = shown.fold(String::new(), |text, fault| format!("{text}\n{fault}"));
    ensure!(count == 0, "{count} failures that kube-proxy would not have had:{text}");
    let max = 1 + datagrams / AGAIN_SHARE;
    ensure!(again <= max, "{again} of {datagrams} datagrams were sent again");
    Ok(())
}

fn report(
    tally: &Tally,
    journal: &Journal,
    excused: &Excused,
    memory: Option<&[u64; 2]>,
) -> Result<String> {
    let mut text = String::new();
    for (name, count) in tally.lines() {
        writeln!(text, "{count:8}  {name}")?;
        ensure!(count > 0, "nobody got {name}");
    }
    writeln!(text, "{:8}  changes", journal.changes())?;
    let Excused { lost, first, again } = excused;
    writeln!(text, "{lost:8}  connections lost with the link of their pod")?;
    writeln!(text, "{first:8}  first datagrams to a new pod, sent again")?;
    writeln!(text, "{again:8}  other datagrams sent again")?;
    writeln!(text, "{:8}  answers later than a lost segment makes them", tally.slow())?;
    writeln!(text, "{:8}  ms without heartbeat of a worker at longest", journal.longest_gap())?;
    if let Some([warm, last]) = memory {
        writeln!(text, "{warm:8}  KiB of memory after the warm-up, {last} at the end")?;
    }
    Ok(text)
}
