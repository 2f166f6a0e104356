//! Interfaces, workers and neighbours.

use crate::admin::report::{InterfaceReport, NeighborReport, QueueReport, WorkerReport};
use crate::daemon::accounting::{InterfaceTotals, Ledger};
use crate::daemon::attachments::Live;
use crate::daemon::control::Control;
use crate::daemon::meter::Series;
use rustix::time::{ClockId, clock_gettime};
use std::collections::BTreeMap;
use tidegate_dataplane::engine::{QueueBinding, QueueStatistics, WorkerPlacement};
use tidegate_dataplane::snapshot::{NextHop, NextHopState, Snapshot};
use tidegate_dataplane::stats::Counter;
use tidegate_dataplane::stats::counters::{FramePlace, LoopCounters};
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// The attached interfaces, those that refused, and those that are left out as they are.
pub(crate) fn interfaces(control: &Control, ledger: &Ledger) -> Vec<InterfaceReport> {
    let live = control.attachments.live().values().map(|live| {
        let totals = ledger.interfaces.get(&live.request.slot).cloned().unwrap_or_default();
        attached(control, live, &totals, &ledger.queues)
    });
    let refused = control.attachments.refused().iter().map(|(index, refused)| {
        waiting(control, *index, (refused.name.clone(), refused.error.to_string()))
    });
    let left_out = control.compiled.left_out.iter().map(|left_out| {
        let told = (left_out.name.to_string(), left_out.reason.clone());
        waiting(control, left_out.index, told)
    });
    let mut reports: Vec<_> = live.chain(refused).chain(left_out).collect();
    reports.sort_by(|a, b| a.name.cmp(&b.name));
    reports
}

fn attached(
    control: &Control,
    live: &Live,
    totals: &InterfaceTotals,
    statistics: &[QueueStatistics],
) -> InterfaceReport {
    let (request, granted) = (&live.request, &live.granted);
    let queue = |binding: &QueueBinding| {
        let is_it = |s: &&QueueStatistics| s.slot == request.slot && s.queue == binding.queue;
        queue_report(binding, statistics.iter().find(is_it))
    };
    let zero_copy_refused = granted.queues.iter().find_map(|q| q.zero_copy_refused.clone());
    InterfaceReport {
        name: request.name.clone(),
        index: request.index.0,
        mtu: mtu(control, request.index),
        attached: true,
        error: None,
        attach_mode: Some(live.attach_word().to_owned()),
        native_refused: granted.native_refused.clone(),
        copy_mode: live.copy_word().map(str::to_owned),
        zero_copy_refused,
        queues: granted.queues.iter().map(queue).collect(),
        received_packets: totals.received,
        received_bytes: totals.received_bytes,
        redirected_packets: totals.redirected,
        passed_packets: totals.steered_past.iter().sum(),
        transmitted_packets: totals.workers.transmitted,
        transmitted_bytes: totals.workers.transmitted_bytes,
        received_per_second: control.meter.rate(Series::Received(request.slot)),
        transmitted_per_second: control.meter.rate(Series::Transmitted(request.slot)),
    }
}

fn waiting(control: &Control, index: IfIndex, (name, error): (String, String)) -> InterfaceReport {
    InterfaceReport {
        name,
        index: index.0,
        mtu: mtu(control, index),
        attached: false,
        error: Some(error),
        attach_mode: None,
        native_refused: None,
        copy_mode: None,
        zero_copy_refused: None,
        queues: Vec::new(),
        received_packets: 0,
        received_bytes: 0,
        redirected_packets: 0,
        passed_packets: 0,
        transmitted_packets: 0,
        transmitted_bytes: 0,
        received_per_second: 0.0,
        transmitted_per_second: 0.0,
    }
}

fn mtu(control: &Control, index: IfIndex) -> u32 {
    control.mirror.state().links.get(&index).map_or(0, |link| link.mtu_bytes)
}

fn queue_report(binding: &QueueBinding, statistics: Option<&QueueStatistics>) -> QueueReport {
    let counters = statistics.cloned().unwrap_or_default();
    QueueReport {
        queue: binding.queue,
        worker: binding.worker.0,
        rx_dropped: counters.rx_dropped,
        rx_ring_full: counters.rx_ring_full,
        fill_ring_empty: counters.rx_fill_ring_empty_descs,
        invalid_descriptors: counters.rx_invalid_descs + counters.tx_invalid_descs,
    }
}

/// The workers.
pub(crate) fn workers(control: &Control) -> Vec<WorkerReport> {
    let placements = control.engine.placements();
    placements.iter().filter_map(|placement| worker(control, placement)).collect()
}

/// The longest time without heartbeat of a worker, the one that lasts included.
pub(super) fn heartbeat_gap_ns(counters: &LoopCounters) -> u64 {
    counters.heartbeat_gap_ns(monotonic_ns().saturating_sub(counters.heartbeat_ns.get()))
}

fn worker(control: &Control, placement: &WorkerPlacement) -> Option<WorkerReport> {
    let id = placement.worker;
    let counters = &control.engine.counters().get(usize::from(id.0))?.work;
    let place = |place: &FramePlace| {
        let frames = counters.frames.get(*place as usize).map_or(0, Counter::get);
        (place.name().to_owned(), frames)
    };
    Some(WorkerReport {
        worker: id.0,
        cpu: placement.cpu,
        sleep: sleep_word(placement).to_owned(),
        io_uring_refused: placement.io_uring_refused.clone(),
        busy: (control.meter.rate(Series::Busy(id)) / 1e9).min(1.0),
        heartbeat_milliseconds: monotonic_ns().saturating_sub(counters.heartbeat_ns.get())
            / 1_000_000,
        heartbeat_gap_milliseconds: heartbeat_gap_ns(counters) / 1_000_000,
        polls_work: counters.polls_work.get(),
        polls_empty: counters.polls_empty.get(),
        sleeps: counters.sleeps.get(),
        flows: counters.flows.get(),
        snat_ports: counters.snat_ports_used.get(),
        handed_packets: counters.handed_packets.get(),
        taken_packets: counters.taken_packets.get(),
        generated_packets: counters.generated_packets.get(),
        kicks: counters.kicks.get(),
        frames_total: counters.frames_total.get(),
        frames: FramePlace::ALL.iter().map(place).collect(),
        snapshot_version: counters.snapshot_version.get(),
    })
}

fn sleep_word(placement: &WorkerPlacement) -> &'static str {
    if placement.io_uring_refused.is_some() { "poll" } else { "io_uring" }
}

/// The clock that heartbeats are stamped with.
pub(super) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    let part = |value: i64| u64::try_from(value).unwrap_or_default();
    part(now.tv_sec) * 1_000_000_000 + part(now.tv_nsec)
}

/// The published next hops.
pub(crate) fn neighbors(control: &Control) -> Vec<NeighborReport> {
    let snapshot = control.engine.snapshot();
    let hop = |hop: &NextHop| NeighborReport {
        address: hop.address.to_string(),
        state: state_word(hop.state).to_owned(),
        interface: snapshot.interface(hop.egress).map(|interface| interface.name.to_string()),
        mac: (hop.destination_mac != MacAddress::default())
            .then(|| hop.destination_mac.to_string()),
        snat_address: hop.snat_address.map(|address| address.to_string()),
    };
    taken(&snapshot).map(hop).collect()
}

/// How many next hops are in each state that any is in.
pub(super) fn neighbor_counts(snapshot: &Snapshot) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for hop in taken(snapshot) {
        *counts.entry(state_word(hop.state)).or_default() += 1;
    }
    counts
}

/// The entries that backends have; those that are free hold nothing.
fn taken(snapshot: &Snapshot) -> impl Iterator<Item = &NextHop> {
    snapshot.next_hops.iter().filter(|hop| **hop != NextHop::default())
}

fn state_word(state: NextHopState) -> &'static str {
    match state {
        NextHopState::Resolved => "resolved",
        NextHopState::Unresolved => "unresolved",
        NextHopState::NotAttached => "not-attached",
        NextHopState::NoRoute => "no-route",
        NextHopState::Local => "local",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::types::IpAddress;

    #[test]
    fn a_free_entry_is_no_neighbour() {
        let mut snapshot = Snapshot::default();
        snapshot.next_hops.set(0, NextHop::default());
        let address = IpAddress::v4([192, 0, 2, 9]);
        snapshot.next_hops.set(1, NextHop { address, ..NextHop::default() });
        assert_eq!(neighbor_counts(&snapshot).into_values().sum::<u64>(), 1);
    }

    #[test]
    fn the_clock_is_the_one_that_only_grows() {
        let before = monotonic_ns();
        assert!(before > 0 && monotonic_ns() >= before);
    }
}
