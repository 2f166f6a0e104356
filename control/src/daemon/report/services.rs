//! Services, backends and flows.

use crate::admin::report::{BackendReport, FlowReport, ServiceReport};
use crate::compile;
use crate::compile::{BackendState, SelectionKind};
use crate::daemon::control::Control;
use crate::daemon::meter::Series;
use crate::daemon::tally::{Place, TrafficTotals, backend_totals, refused_packets};
use crate::explain::end as endpoint;
use std::sync::Arc;
use std::time::Duration;
use tidegate_dataplane::engine::FlowRecord;
use tidegate_dataplane::snapshot::Snapshot;
use tidegate_dataplane::types::{BackendSlot, L4Port};

/// How long the control thread waits for the workers' flows; well below a heartbeat's time.
const FLOWS_PATIENCE: Duration = Duration::from_millis(500);

/// All service ports.
pub(crate) fn services(control: &Control) -> Vec<ServiceReport> {
    let snapshot = control.engine.snapshot();
    control.reports().iter().map(|service| report(control, &snapshot, service)).collect()
}

fn report(
    control: &Control,
    snapshot: &Snapshot,
    service: &compile::ServiceReport,
) -> ServiceReport {
    let workers = control.engine.counters();
    let totals = control.tally.service(service.id, workers);
    let rate = |series: Series| control.meter.rate(series);
    ServiceReport {
        namespace: service.namespace.to_string(),
        service: service.name.to_string(),
        port: service.port_name.to_string(),
        protocol: service.protocol.to_string(),
        node_port: service.node_port.map(L4Port::number),
        policy: service.policy.name().to_owned(),
        fronts: service.fronts.iter().map(|front| endpoint((front.address, front.port))).collect(),
        ready: service.ready_count,
        draining: service.draining_count,
        flows: totals.flows,
        packets: totals.packets,
        bytes: totals.bytes,
        packets_per_second: rate(Series::ServicePackets(service.id)),
        bits_per_second: rate(Series::ServiceBytes(service.id)) * 8.0,
        refused_packets: refused_packets(service.id, workers),
        refused_per_second: rate(Series::ServiceRefused(service.id)),
        refusal: refusal(snapshot, service),
        problems: problems(service),
    }
}

/// The reason that new flows meet where they are not forwarded.
fn refusal(snapshot: &Snapshot, service: &compile::ServiceReport) -> Option<String> {
    if service.selection == SelectionKind::Forward {
        return None;
    }
    let fronts = service.fronts.iter().filter_map(|key| snapshot.fronts.get(key));
    fronts.map(|front| &front.outside).find_map(compile::refusal)
}

fn problems(service: &compile::ServiceReport) -> Vec<String> {
    let unused = service.backends.iter().filter_map(|backend| {
        let reason = backend.reason.as_ref()?;
        Some(format!("{}: {reason}", endpoint((backend.address, backend.port))))
    });
    service.warnings.iter().cloned().chain(unused).collect()
}

/// All backends; those that left the cluster too while they have flows.
pub(crate) fn backends(control: &Control) -> Vec<BackendReport> {
    control.reports().iter().flat_map(|service| of_service(control, service)).collect()
}

fn of_service(control: &Control, service: &compile::ServiceReport) -> Vec<BackendReport> {
    let workers = control.engine.counters();
    let begun = control.tally.service(service.id, workers).new_flows;
    let row = |address: String, totals: TrafficTotals| BackendReport {
        namespace: service.namespace.to_string(),
        service: service.name.to_string(),
        port: service.port_name.to_string(),
        address,
        state: "removed".to_owned(),
        reason: None,
        flows: totals.flows,
        new_flows: totals.new_flows,
        packets: totals.packets,
        bytes: totals.bytes,
        share: share(totals.new_flows, begun),
    };
    let known = service.backends.iter().map(|backend| BackendReport {
        state: state(backend),
        reason: backend.reason.as_ref().map(ToString::to_string),
        ..row(endpoint((backend.address, backend.port)), backend_totals(backend.slot, workers))
    });
    let is_known = |slot: BackendSlot| service.backends.iter().any(|b| b.slot == slot);
    let gone = control.tally.backends(service.id).filter(|(slot, _)| !is_known(*slot));
    let gone = gone.filter_map(|(slot, Place { address, port, .. })| {
        let totals = backend_totals(slot, workers);
        (totals.flows > 0).then(|| row(endpoint((address, port)), totals))
    });
    known.chain(gone).collect()
}

fn state(backend: &compile::BackendReport) -> String {
    match backend.state {
        BackendState::Ready if !backend.is_used => "unused".to_owned(),
        state => state.name().to_owned(),
    }
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// Up to `limit` live flows.
pub(crate) fn flows(control: &Control, limit: usize) -> Vec<FlowReport> {
    let snapshot = control.engine.snapshot();
    let records = control.engine.flows(limit, FLOWS_PATIENCE);
    records.iter().map(|record| flow(&snapshot, record)).collect()
}

fn flow(snapshot: &Arc<Snapshot>, record: &FlowRecord) -> FlowReport {
    let service = snapshot.services.get(&record.service);
    let name = |name: Option<&Arc<str>>| name.map(ToString::to_string).unwrap_or_default();
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    FlowReport {
        namespace: name(service.map(|service| &service.namespace)),
        service: name(service.map(|service| &service.name)),
        protocol: record.protocol.to_string(),
        client: endpoint(record.client),
        front: endpoint((record.front.address, record.front.port)),
        backend: endpoint(record.backend),
        snat: record.snat.map(endpoint),
        state: record.state.to_owned(),
        worker: record.worker.0,
        idle_milliseconds: milliseconds(record.idle),
        expires_milliseconds: milliseconds(record.expires),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv6Addr;
    use tidegate_dataplane::types::IpAddress;

    #[test]
    fn endpoints_are_written_as_people_type_them() {
        let v4 = (IpAddress::v4([10, 0, 0, 1]), L4Port::new(80));
        assert_eq!(endpoint(v4), "10.0.0.1:80");
        assert_eq!(endpoint((Ipv6Addr::LOCALHOST.into(), L4Port::new(80))), "[::1]:80");
    }

    #[test]
    fn a_share_of_nothing_is_nothing() {
        assert!(share(0, 0).abs() < f64::EPSILON && (share(1, 4) - 0.25).abs() < f64::EPSILON);
    }
}
