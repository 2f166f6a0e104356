//! Fixed reports for tests.

use super::{BackendReport, BackendState, SelectionKind, ServiceReport};
use crate::model::TrafficPolicy;
use tidegate_dataplane::types::{BackendSlot, IpAddress, L4Port, NextHopId, Protocol, ServiceId};

/// A backend that is ready and used, at 10.0.0.`last_byte`.
pub(crate) fn backend(slot: u32, last_byte: u8) -> BackendReport {
    BackendReport {
        address: IpAddress::v4([10, 0, 0, last_byte]),
        port: L4Port::new(80),
        pod: None,
        slot: BackendSlot(slot),
        next_hop: NextHopId(0),
        state: BackendState::Ready,
        is_local: false,
        is_used: true,
        reason: None,
    }
}

/// A port of the Service `shop/web` without fronts.
pub(crate) fn service(id: u32, backends: Vec<BackendReport>) -> ServiceReport {
    ServiceReport {
        id: ServiceId(id),
        namespace: "shop".into(),
        name: "web".into(),
        port_name: "".into(),
        protocol: Protocol::Tcp,
        port: L4Port::new(80),
        node_port: None,
        policy: TrafficPolicy::Cluster,
        internal_policy: TrafficPolicy::Cluster,
        fronts: vec![],
        selection: SelectionKind::Forward,
        backends,
        ready_count: 0,
        draining_count: 0,
        warnings: vec![],
    }
}
