//! Which counters belong to which service port, also those of backends that left: they keep their
//! flows, and a service's totals must not shrink.

use crate::compile::ServiceReport;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tidegate_dataplane::stats::{Counter, WorkerCounters};
use tidegate_dataplane::types::{BackendSlot, IpAddress, L4Port, ServiceId};

/// A (service port, backend) pair's place in the counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The service port.
    pub service: ServiceId,
    /// The backend's address.
    pub address: IpAddress,
    /// The backend's port.
    pub port: L4Port,
}

/// The places, by slot. Bounded by the number of slots.
#[derive(Debug, Default)]
pub struct Tally {
    places: BTreeMap<BackendSlot, Place>,
    by_service: BTreeSet<(ServiceId, BackendSlot)>,
}

/// What was counted for a pair or a service port; all workers added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrafficTotals {
    /// Live flows.
    pub flows: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// Bytes both ways.
    pub bytes: u64,
    /// Packets of backends.
    pub reply_packets: u64,
    /// Bytes of backends.
    pub reply_bytes: u64,
}

impl TrafficTotals {
    fn plus(self, other: Self) -> Self {
        Self {
            flows: self.flows + other.flows,
            new_flows: self.new_flows + other.new_flows,
            packets: self.packets + other.packets,
            bytes: self.bytes + other.bytes,
            reply_packets: self.reply_packets + other.reply_packets,
            reply_bytes: self.reply_bytes + other.reply_bytes,
        }
    }
}

impl Tally {
    /// Learns the places of service ports that were compiled. A slot that got another user counts
    /// for that one.
    pub fn learn<'a>(&mut self, reports: impl IntoIterator<Item = &'a ServiceReport>) {
        for service in reports {
            for backend in &service.backends {
                let (address, port) = (backend.address, backend.port);
                let place = Place { service: service.id, address, port };
                let before = self.places.insert(backend.slot, place);
                if let Some(before) = before.filter(|before| before.service != service.id) {
                    self.by_service.remove(&(before.service, backend.slot));
                }
                self.by_service.insert((service.id, backend.slot));
            }
        }
    }

    /// The pairs of a service port, those of backends that left included.
    pub fn backends(&self, service: ServiceId) -> impl Iterator<Item = (BackendSlot, Place)> {
        self.slots(service).filter_map(|slot| Some((slot, *self.places.get(&slot)?)))
    }

    fn slots(&self, service: ServiceId) -> impl Iterator<Item = BackendSlot> {
        let ends = (service, BackendSlot(0))..=(service, BackendSlot(u32::MAX));
        self.by_service.range(ends).map(|(_, slot)| *slot)
    }

    /// What was counted for a service port.
    pub fn service(&self, service: ServiceId, workers: &[Arc<WorkerCounters>]) -> TrafficTotals {
        let slots = self.slots(service);
        let totals = slots.map(|slot| backend_totals(slot, workers));
        totals.fold(TrafficTotals::default(), TrafficTotals::plus)
    }
}

/// What was counted for a pair. Nothing for slot 0, which many share.
pub fn backend_totals(slot: BackendSlot, workers: &[Arc<WorkerCounters>]) -> TrafficTotals {
    if slot == BackendSlot::default() {
        return TrafficTotals::default();
    }
    let of_worker = |worker: &Arc<WorkerCounters>| {
        let counters = worker.backend(slot);
        let (reply_packets, reply_bytes) =
            (counters.reply_packets.get(), counters.reply_bytes.get());
        TrafficTotals {
            flows: counters.flows.get(),
            new_flows: counters.new_flows.get(),
            packets: counters.forward_packets.get() + reply_packets,
            bytes: counters.forward_bytes.get() + reply_bytes,
            reply_packets,
            reply_bytes,
        }
    };
    workers.iter().map(of_worker).fold(TrafficTotals::default(), TrafficTotals::plus)
}

/// Packets of a service port that were dropped or rejected; all workers added.
pub fn refused_packets(service: ServiceId, workers: &[Arc<WorkerCounters>]) -> u64 {
    let count = |counters: [&Counter; 2]| counters.map(Counter::get).iter().sum::<u64>();
    let of_worker = |worker: &Arc<WorkerCounters>| {
        let counters = worker.service(service);
        count([&counters.rejected_packets, &counters.dropped_packets])
    };
    workers.iter().map(of_worker).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::fixtures::{backend, service};

    fn workers() -> Vec<Arc<WorkerCounters>> {
        let workers: Vec<_> = (0..2).map(|_| Arc::new(WorkerCounters::default())).collect();
        for (worker, packets) in workers.iter().zip([10, 100]) {
            for slot in [0, 1, 2] {
                worker.backend(BackendSlot(slot)).forward_packets.add(packets);
                worker.backend(BackendSlot(slot)).reply_packets.add(1);
                worker.backend(BackendSlot(slot)).flows.add(2);
            }
            worker.service(ServiceId(1)).rejected_packets.add(3);
            worker.service(ServiceId(1)).dropped_packets.add(4);
        }
        workers
    }

    #[test]
    fn workers_and_directions_add_up() {
        let totals = backend_totals(BackendSlot(1), &workers());
        assert_eq!((totals.packets, totals.flows), (112, 4));
        assert_eq!(refused_packets(ServiceId(1), &workers()), 14);
        assert_eq!(backend_totals(BackendSlot(0), &workers()), TrafficTotals::default());
    }

    #[test]
    fn a_backend_that_left_still_counts_for_its_service() {
        let mut tally = Tally::default();
        tally.learn([&service(1, vec![backend(1, 1), backend(2, 2)])]);
        assert_eq!(tally.service(ServiceId(1), &workers()).packets, 224);
        tally.learn([&service(1, vec![backend(1, 1)])]);
        assert_eq!(tally.service(ServiceId(1), &workers()).packets, 224);
        let left = tally.backends(ServiceId(1)).last().unwrap();
        assert_eq!((left.0, left.1.address), (BackendSlot(2), IpAddress::v4([10, 0, 0, 2])));
    }

    #[test]
    fn a_slot_counts_for_its_last_user_alone() {
        let mut tally = Tally::default();
        tally.learn([&service(1, vec![backend(1, 1)])]);
        tally.learn([&service(2, vec![backend(1, 9)])]);
        assert_eq!(tally.service(ServiceId(1), &workers()).packets, 0);
        assert_eq!(tally.service(ServiceId(2), &workers()).packets, 112);
    }
}
