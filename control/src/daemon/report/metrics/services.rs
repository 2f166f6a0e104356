//! Service ports and their backends.

use crate::compile::{BackendState, ServiceReport};
use crate::daemon::tally::{Tally, backend_totals};
use crate::explain::end;
use crate::metrics::family::{Family, Label};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::types::ServiceId;

/// The reason of drops whose own found no room in a worker's table.
const OTHER_REASON: &str = "OTHER";

/// Where the counts are.
pub(super) struct Counted<'a> {
    tally: &'a Tally,
    workers: &'a [Arc<WorkerCounters>],
    moved_slots: &'a dyn Fn(ServiceId) -> u64,
    drops: BTreeMap<ServiceId, BTreeMap<&'static str, u64>>,
}

impl<'a> Counted<'a> {
    pub(super) fn new(
        tally: &'a Tally,
        workers: &'a [Arc<WorkerCounters>],
        moved_slots: &'a dyn Fn(ServiceId) -> u64,
    ) -> Self {
        let mut drops = BTreeMap::<_, BTreeMap<_, _>>::new();
        for (service, reason, packets) in workers.iter().flat_map(|w| w.service_drops.iter()) {
            *drops.entry(service).or_default().entry(reason.name()).or_default() += packets;
        }
        Self { tally, workers, moved_slots, drops }
    }

    /// What was dropped, `all`, by reason: those reasons that were met.
    fn dropped(&self, id: ServiceId, all: u64) -> Vec<(&'static str, u64)> {
        let met = self.drops.get(&id).into_iter().flatten();
        let mut told: Vec<_> = met.map(|(reason, packets)| (*reason, *packets)).collect();
        let known: u64 = told.iter().map(|(_, packets)| packets).sum();
        told.extend((all > known).then(|| (OTHER_REASON, all - known)));
        told
    }

    fn refused(&self, service: &ServiceReport) -> [u64; 2] {
        let counters = self.workers.iter().map(|worker| worker.service(service.id));
        counters.fold([0, 0], |[dropped, rejected], counters| {
            let (more_dropped, more_rejected) =
                (counters.dropped_packets.get(), counters.rejected_packets.get());
            [dropped + more_dropped, rejected + more_rejected]
        })
    }
}

/// A service port by three labels. A port without a name is told by its number.
fn labels(service: &ServiceReport) -> [(&'static str, Label); 3] {
    let port = if service.port_name.is_empty() {
        service.port.to_string().into()
    } else {
        (&service.port_name).into()
    };
    [
        ("namespace", (&service.namespace).into()),
        ("service", (&service.name).into()),
        ("port", port),
    ]
}

fn with<const N: usize>(
    [a, b, c]: [(&'static str, Label); 3],
    more: [(&'static str, Label); N],
) -> Vec<(&'static str, Label)> {
    [a, b, c].into_iter().chain(more).collect()
}

/// Ten series for each service port, and one for each reason that its packets were dropped for.
pub(super) fn of_ports<'a>(
    reports: impl Iterator<Item = &'a ServiceReport>,
    counted: &Counted<'_>,
) -> Vec<Family> {
    let mut packets =
        Family::counter("tidegate_service_packets", "Packets forwarded for a service port.");
    let mut bytes =
        Family::counter("tidegate_service_bytes", "Bytes forwarded for a service port.");
    let mut flows = Family::counter("tidegate_service_new_flows", "Flows begun to a service port.");
    let mut dropped = Family::counter(
        "tidegate_service_dropped_packets",
        "Packets to a service port that were dropped, by reason.",
    );
    let mut moved = Family::counter(
        "tidegate_maglev_moved_slots",
        "Entries of a service port's Maglev tables that changed their backend.",
    );
    let mut rejected = Family::counter(
        "tidegate_service_rejected_packets",
        "Packets to a service port that were answered with an ICMP error.",
    );
    let mut backends =
        Family::gauge("tidegate_service_backends", "Endpoints of a service port by their state.");
    for service in reports {
        let own = labels(service);
        let totals = counted.tally.service(service.id, counted.workers);
        let directions = [
            ("in", totals.packets - totals.reply_packets, totals.bytes - totals.reply_bytes),
            ("out", totals.reply_packets, totals.reply_bytes),
        ];
        for (direction, packet_count, byte_count) in directions {
            let labels = with(own.clone(), [("direction", direction.into())]);
            packets.push_labelled(labels.clone(), packet_count);
            bytes.push_labelled(labels, byte_count);
        }
        flows.push(own.clone(), totals.new_flows);
        let [dropped_count, rejected_count] = counted.refused(service);
        for (reason, count) in counted.dropped(service.id, dropped_count) {
            dropped.push_labelled(with(own.clone(), [("reason", reason.into())]), count);
        }
        moved.push(own.clone(), (counted.moved_slots)(service.id));
        rejected.push(own.clone(), rejected_count);
        for (state, count) in states(service) {
            backends.push_labelled(with(own.clone(), [("state", state.into())]), count);
        }
    }
    vec![packets, bytes, flows, dropped, rejected, moved, backends]
}

fn states(service: &ServiceReport) -> [(&'static str, u64); 3] {
    let unready = service.backends.iter().filter(|b| b.state == BackendState::NotReady).count();
    [
        ("ready", service.ready_count as u64),
        ("draining", service.draining_count as u64),
        ("unready", unready as u64),
    ]
}

/// Two series for each backend; as many as there are pods, so only where they are asked for.
pub(super) fn of_backends<'a>(
    reports: impl Iterator<Item = &'a ServiceReport>,
    counted: &Counted<'_>,
) -> Vec<Family> {
    let mut packets =
        Family::counter("tidegate_backend_packets", "Packets forwarded to and from a backend.");
    let mut flows = Family::gauge("tidegate_backend_flows", "Live flows of a backend.");
    for service in reports {
        let own = labels(service);
        for backend in &service.backends {
            let address = end((backend.address, backend.port));
            let labels = with(own.clone(), [("backend", address.into())]);
            let totals = backend_totals(backend.slot, counted.workers);
            packets.push_labelled(labels.clone(), totals.packets);
            flows.push_labelled(labels, totals.flows);
        }
    }
    vec![packets, flows]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compile::{BackendReport, fixtures};
    use crate::metrics::exposition::{Form, write};
    use tidegate_dataplane::types::{BackendSlot, L4Port};
    use tidegate_dataplane::verdict::DropReason;

    fn service(id: u32, name: &str, port_name: &str) -> ServiceReport {
        let backend = BackendReport {
            port: L4Port::new(8080),
            state: BackendState::NotReady,
            ..fixtures::backend(id, 1)
        };
        ServiceReport {
            name: name.into(),
            port_name: port_name.into(),
            ready_count: 2,
            draining_count: 1,
            ..fixtures::service(id, vec![backend])
        }
    }

    fn text(families: Vec<Family>) -> String {
        String::from_utf8(write(families, Form::Classic, false).unwrap()).unwrap()
    }

    #[test]
    fn series_of_a_deleted_service_are_gone_and_a_port_without_name_is_its_number() {
        let workers = [Arc::new(WorkerCounters::default()), Arc::new(WorkerCounters::default())];
        for worker in &workers {
            worker.backend(BackendSlot(1)).forward_packets.add(3);
            worker.backend(BackendSlot(1)).reply_bytes.add(50);
            worker.service(ServiceId(1)).dropped_packets.add(3);
            worker.service_drops.add(ServiceId(1), DropReason::NeighFailed);
            worker.service_drops.add(ServiceId(1), DropReason::NeighFailed);
        }
        let mut tally = Tally::default();
        let mut reports = vec![service(1, "web", "http"), service(2, "dns", "")];
        tally.learn(reports.iter());
        let moved = |service: ServiceId| u64::from(service.0) * 7;
        let counted = Counted::new(&tally, &workers, &moved);
        let before = text(of_ports(reports.iter(), &counted));
        for (name, label, value) in [
            ("packets_total", ",direction=\"in\"", 6),
            ("bytes_total", ",direction=\"out\"", 100),
            ("dropped_packets_total", ",reason=\"NEIGH_FAILED\"", 4),
            ("dropped_packets_total", ",reason=\"OTHER\"", 2),
            ("backends", ",state=\"unready\"", 1),
        ] {
            let own = "namespace=\"shop\",service=\"web\",port=\"http\"";
            let line = format!("tidegate_service_{name}{{{own}{label}}} {value}");
            assert!(before.lines().any(|l| l == line), "{line} is missing in:\n{before}");
        }
        assert!(before.contains("service=\"dns\",port=\"80\""), "{before}");
        let line = "tidegate_maglev_moved_slots_total{namespace=\"shop\",service=\"web\",\
                    port=\"http\"} 7";
        assert!(before.lines().any(|l| l == line), "{before}");
        assert_eq!(before.matches("service=\"web\"").count(), 12, "{before}");
        reports.remove(0);
        let after = text(of_ports(reports.iter(), &counted));
        assert!(!after.contains("web") && after.contains("dns"), "{after}");
    }

    #[test]
    fn a_backend_is_told_by_its_address() {
        let workers = [Arc::new(WorkerCounters::default())];
        workers[0].backend(BackendSlot(1)).flows.add(4);
        let tally = Tally::default();
        let counted = Counted::new(&tally, &workers, &|_| 0);
        let told = text(of_backends([service(1, "web", "http")].iter(), &counted));
        let line = "port=\"http\",backend=\"10.0.0.1:8080\"} 4";
        assert!(told.contains(line), "{told}");
    }
}
