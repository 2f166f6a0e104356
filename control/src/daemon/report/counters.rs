//! What is read from the packet path's counters.

use crate::daemon::accounting::{InterfaceTotals, Ledger};
use crate::daemon::control::Control;
use crate::daemon::meter::Series;
use crate::daemon::tally::refused_packets;
use tidegate_dataplane::engine::Engine;
use tidegate_dataplane::types::{InterfaceSlot, ServiceId};
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// Readings until the sum closes. The XDP program counts while we read, so one reading may be torn
/// by a packet; what is lost or counted twice stays so in every reading.
const READINGS_MAX: usize = 4;

/// Service ports are sampled in so many parts.
pub(crate) const SERVICE_PARTS: u32 = 10;

/// Reads all counters.
pub(crate) fn ledger(control: &Control) -> Ledger {
    let mut ledger = read(control);
    for _ in 1..READINGS_MAX {
        if ledger.sum().unaccounted == 0 {
            break;
        }
        ledger = read(control);
    }
    ledger
}

fn read(control: &Control) -> Ledger {
    let engine = &control.engine;
    let mut ledger = Ledger { frames_total: frames_total(engine), ..Ledger::default() };
    // Load-bearing: against the packets' way, so that a packet that moves on while we read is in
    // flight and never counted twice.
    for worker in engine.counters() {
        for slot in control.attachments.names().keys() {
            ledger.add_worker(*slot, worker.interface(*slot));
        }
    }
    let queues = engine.queue_statistics();
    queues.iter().for_each(|statistics| ledger.add_queue(statistics));
    ledger.queues = queues;
    engine.steering_counters().iter().for_each(|counters| ledger.add_steering(counters));
    ledger
}

fn frames_total(engine: &Engine) -> u64 {
    engine.counters().iter().map(|worker| worker.work.frames_total.get()).sum()
}

/// The series of every tenth service port, from `part` on, below [`SERVICE_PARTS`]: all of ten
/// thousand at a time would hold up a change for tens of milliseconds.
pub(crate) fn service_series(control: &Control, part: u32) -> Vec<(Series, u64)> {
    let workers = control.engine.counters();
    let mut values = Vec::new();
    let is_part = |id: ServiceId| id.0 % SERVICE_PARTS == part;
    for id in control.reports().ids().filter(|id| is_part(*id)) {
        let totals = control.tally.service(id, workers);
        values.push((Series::ServicePackets(id), totals.packets));
        values.push((Series::ServiceBytes(id), totals.bytes));
        values.push((Series::ServiceRefused(id), refused_packets(id, workers)));
    }
    values
}

/// All series but those of service ports that rates are wanted of.
pub(crate) fn series(control: &Control) -> Vec<(Series, u64)> {
    let workers = control.engine.counters();
    let mut values = Vec::new();
    for placement in control.engine.placements() {
        if let Some(worker) = workers.get(usize::from(placement.worker.0)) {
            values.push((Series::Busy(placement.worker), worker.work.busy_ns.get()));
        }
    }
    for (slot, totals) in &ledger(control).interfaces {
        interface_series(*slot, totals, &mut values);
    }
    values
}

fn interface_series(
    slot: InterfaceSlot,
    totals: &InterfaceTotals,
    values: &mut Vec<(Series, u64)>,
) {
    values.push((Series::Received(slot), totals.received));
    values.push((Series::Transmitted(slot), totals.workers.transmitted));
    let drops = DropReason::ALL.iter();
    values.extend(drops.map(|r| (Series::Dropped(slot, *r), totals.dropped_by(*r))));
    let rejects = RejectReason::ALL.iter();
    values.extend(rejects.map(|r| (Series::Rejected(slot, *r), totals.rejected_by(*r))));
    let passes = PassReason::ALL.iter();
    values.extend(passes.map(|r| (Series::Passed(slot, *r), totals.passed_by(*r))));
}
