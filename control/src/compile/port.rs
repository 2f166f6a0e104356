//! One service port: its endpoints, and what a new flow to it meets.

use super::ids::{Ids, PortKey};
use super::next_hops::NextHops;
use super::tables::Tables;
use crate::config::{Algorithm, LoadBalancer};
use crate::model::{Endpoint, Service, ServicePortSpec, TrafficPolicy, categorize};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::snapshot::maglev::MaglevBackend;
use tidegate_dataplane::snapshot::{
    Backend, BackendSet, NextHopState, Picker, Selection, ServicePort,
};
use tidegate_dataplane::types::{IpAddress, L4Port, ServiceId};
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// A service port with its endpoints, before anything is decided.
pub(super) struct PortPlan<'a> {
    pub(super) id: ServiceId,
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePortSpec,
    /// Sorted by address and port.
    pub(super) endpoints: Vec<Endpoint>,
    /// The snapshot's form of each endpoint, in the same order.
    pub(super) backends: Vec<Backend>,
}

/// What was decided for a service port.
pub(super) struct Decision {
    pub(super) selection: Selection,
    /// Addresses and ports that new flows may get.
    pub(super) used: BTreeSet<(IpAddr, L4Port)>,
    /// What the operator should know.
    pub(super) warning: Option<String>,
}

impl<'a> PortPlan<'a> {
    pub(super) fn new(
        service: &'a Service,
        port: &'a ServicePortSpec,
        endpoints: Vec<Endpoint>,
        (ids, next_hops): (&mut Ids, &mut NextHops),
    ) -> Self {
        let key = PortKey {
            service: service.key.clone(),
            port_name: Arc::clone(&port.name),
            protocol: port.protocol,
        };
        let id = ids.service(&key);
        let mut backend = |endpoint: &Endpoint| {
            let address = IpAddress::from(endpoint.address);
            Backend {
                address,
                port: endpoint.port,
                next_hop: next_hops.id(address),
                slot: ids.backend(id, address, endpoint.port),
            }
        };
        let backends = endpoints.iter().map(&mut backend).collect();
        Self { id, service, port, endpoints, backends }
    }

    /// The snapshot's service port.
    pub(super) fn service_port(&self) -> ServicePort {
        let serving = self.endpoints.iter().filter(|e| serves(e));
        ServicePort {
            id: self.id,
            namespace: Arc::clone(&self.service.key.namespace),
            name: Arc::clone(&self.service.key.name),
            port_name: Arc::clone(&self.port.name),
            protocol: self.port.protocol,
            serving: Arc::new(serving.map(|e| (e.address.into(), e.port)).collect()),
        }
    }

    /// Addresses that flows, old or new, may go to.
    pub(super) fn serving_addresses(&self) -> impl Iterator<Item = IpAddress> {
        self.endpoints.iter().filter(|e| serves(e)).map(|e| e.address.into())
    }

    /// What a new flow from outside meets (semantics C, D; T12).
    pub(super) fn decide(
        &self,
        next_hops: &NextHops,
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> Decision {
        let categories = categorize(&self.endpoints);
        let policy = self.service.external_policy;
        let set = match policy {
            TrafficPolicy::Cluster => categories.cluster,
            TrafficPolicy::Local => categories.local,
        };
        if set.is_empty() {
            let selection = if categories.is_any_usable {
                Selection::Drop(DropReason::NoLocalEndpoints)
            } else {
                Selection::Reject(RejectReason::NoEndpoints)
            };
            return Decision { selection, used: BTreeSet::new(), warning: None };
        }
        let state = |endpoint: &&Endpoint| next_hops.state(endpoint.address.into());
        if set.iter().any(|endpoint| state(endpoint) == NextHopState::Local) {
            let selection = Selection::Pass(PassReason::LocalBackend);
            return Decision { selection, used: BTreeSet::new(), warning: None };
        }
        // A backend takes new flows once packets can leave to it. If they can to none, all stay:
        // their packets are then counted by reason instead of being refused.
        let mut used = set.clone();
        used.retain(|endpoint| state(endpoint) == NextHopState::Resolved);
        let used = if used.is_empty() { set } else { used };
        let used = used.iter().map(|endpoint| (endpoint.address, endpoint.port)).collect();
        self.forward(used, policy == TrafficPolicy::Cluster, tables, config)
    }

    fn forward(
        &self,
        used: BTreeSet<(IpAddr, L4Port)>,
        masquerade: bool,
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> Decision {
        let is_used = |b: &&Backend| used.contains(&(b.address.into(), b.port));
        let backends: Box<[_]> = self.backends.iter().filter(is_used).cloned().collect();
        let (picker, warning) = self.picker(&backends, tables, config);
        let selection = match BackendSet::new_checked(backends, picker) {
            Some(set) => Selection::Forward { backends: Arc::new(set), masquerade },
            None => Selection::Reject(RejectReason::NoEndpoints),
        };
        Decision { selection, used, warning }
    }

    fn picker(
        &self,
        backends: &[Backend],
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> (Picker, Option<String>) {
        if config.algorithm == Algorithm::Random {
            return (Picker::Random, None);
        }
        let protocol = self.port.protocol;
        let identity =
            |b: &Backend| MaglevBackend { address: b.address, port: b.port, protocol, weight: 1 };
        let backends = backends.iter().map(identity).collect();
        let seed = config.maglev.seed().unwrap_or(0);
        match tables.table(backends, config.maglev.table_size, seed) {
            Ok(table) => (Picker::Maglev(table), None),
            Err(error) => (Picker::Random, Some(format!("balanced at random: cannot {error}"))),
        }
    }
}

fn serves(endpoint: &Endpoint) -> bool {
    endpoint.condition.is_ready || endpoint.condition.is_serving
}
