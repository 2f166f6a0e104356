//! One service port: its endpoints, and what a new flow to it meets.

use super::held::{HeldPort, serves};
use super::next_hops::NextHops;
use super::tables::Tables;
use crate::config::{Algorithm, LoadBalancer};
use crate::model::{
    Categories, Endpoint, Family, Service, ServicePortSpec, TrafficPolicy, categorize,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::snapshot::maglev::MaglevBackend;
use tidegate_dataplane::snapshot::{
    Backend, BackendSet, NextHopState, Picker, Selection, ServicePort,
};
use tidegate_dataplane::types::{L4Port, ServiceId};
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// A service port with its endpoints, before anything is decided.
pub(super) struct PortPlan<'a> {
    pub(super) id: ServiceId,
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePortSpec,
    /// Sorted by address and port: IPv4 comes before IPv6.
    pub(super) endpoints: Vec<Endpoint>,
    /// The snapshot's form of each endpoint, in the same order.
    pub(super) backends: Vec<Backend>,
    /// The ports that its slices have instead of it.
    pub(super) mismatch: Option<Vec<Arc<str>>>,
    /// It would like to own fronts. Where not, nobody reads a table of it, and none is built.
    is_dialled: bool,
}

/// What was decided for a service port: each family by its own endpoints (semantics B6).
pub(super) type Decisions = BTreeMap<Family, Decision>;

/// What was decided for a service port's fronts of one family.
pub(super) struct Decision {
    /// For clients outside the cluster.
    pub(super) outside: Selection,
    /// For the node's own pods.
    pub(super) pods: Selection,
    /// Addresses and ports that new flows from outside may get.
    pub(super) used: BTreeSet<(IpAddr, L4Port)>,
    /// What the operator should know.
    pub(super) warning: Option<String>,
}

impl<'a> PortPlan<'a> {
    pub(super) fn new(
        service: &'a Service,
        port: &'a ServicePortSpec,
        (endpoints, mismatch): (Vec<Endpoint>, Option<Vec<Arc<str>>>),
        held: &HeldPort,
    ) -> Self {
        let backends = held.backends.iter().map(|held| held.backend.clone()).collect();
        let is_dialled = !held.wishes.is_empty();
        Self { id: held.id, service, port, endpoints, backends, mismatch, is_dialled }
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
            affinity_timeout: self.service.affinity_timeout,
        }
    }

    /// What new flows meet, family by family.
    pub(super) fn decide(
        &self,
        next_hops: &NextHops,
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> Decisions {
        self.by_family(|endpoints| self.decide_for(endpoints, next_hops, (tables, config)))
    }

    /// What new flows to the cluster IPs meet, family by family: the internal policy's alone
    /// (semantics E7).
    pub(super) fn decide_internally(
        &self,
        next_hops: &NextHops,
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> Decisions {
        self.by_family(|endpoints| {
            self.decide_internally_for(endpoints, next_hops, (tables, config))
        })
    }

    fn by_family(&self, mut decide: impl FnMut(&[Endpoint]) -> Decision) -> Decisions {
        let families = self.service.families.iter();
        families.map(|family| (*family, decide(self.endpoints_of(*family)))).collect()
    }

    fn endpoints_of(&self, family: Family) -> &[Endpoint] {
        let first_v6 = self.endpoints.partition_point(|e| Family::of(e.address) == Family::V4);
        let (v4, v6) = self.endpoints.split_at(first_v6);
        match family {
            Family::V4 => v4,
            Family::V6 => v6,
        }
    }

    /// What new flows meet, from outside and from the node's own pods (semantics C-E; T12).
    fn decide_for(
        &self,
        endpoints: &[Endpoint],
        next_hops: &NextHops,
        (tables, config): (&mut Tables, &LoadBalancer),
    ) -> Decision {
        let Categories { cluster, local, .. } = categorize(endpoints);
        let mut select = |set: &[&Endpoint], masquerade| {
            self.select((set, masquerade), next_hops, tables, config)
        };
        let is_local = self.service.external_policy == TrafficPolicy::Local;
        let everywhere = select(&cluster, !is_local);
        if !is_local {
            return everywhere;
        }
        let here = unserved(&local, &cluster).unwrap_or_else(|| select(&local, false));
        here.with_pods(everywhere)
    }

    /// Masqueraded is only whoever is no pod of this node's (semantics F7).
    fn decide_internally_for(
        &self,
        endpoints: &[Endpoint],
        next_hops: &NextHops,
        (tables, config): (&mut Tables, &LoadBalancer),
    ) -> Decision {
        let Categories { cluster, local, .. } = categorize(endpoints);
        let decision = match self.service.internal_policy {
            TrafficPolicy::Cluster => self.select((&cluster, true), next_hops, tables, config),
            TrafficPolicy::Local => unserved(&local, &cluster)
                .unwrap_or_else(|| self.select((&local, true), next_hops, tables, config)),
        };
        decision.keeping_pods()
    }

    fn select(
        &self,
        (set, masquerade): (&[&Endpoint], bool),
        next_hops: &NextHops,
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> Decision {
        if set.iter().any(|e| state(next_hops, e) == NextHopState::Local) {
            return Decision::of(Selection::Pass(PassReason::LocalBackend));
        }
        self.forward(reachable(set, next_hops), masquerade, tables, config)
    }

    fn forward(
        &self,
        used: BTreeSet<(IpAddr, L4Port)>,
        masquerade: bool,
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> Decision {
        if used.is_empty() {
            return Decision::of(Selection::Reject(RejectReason::NoEndpoints));
        }
        let is_used = |b: &&Backend| used.contains(&(b.address.into(), b.port));
        let backends: Box<[_]> = self.backends.iter().filter(is_used).cloned().collect();
        let (picker, warning) = self.picker(&backends, tables, config);
        let selection = match BackendSet::new_checked(backends, picker) {
            Some(set) => Selection::Forward { backends: Arc::new(set), masquerade },
            None => Selection::Reject(RejectReason::NoEndpoints),
        };
        Decision { used, warning, ..Decision::of(selection) }
    }

    fn picker(
        &self,
        backends: &[Backend],
        tables: &mut Tables,
        config: &LoadBalancer,
    ) -> (Picker, Option<String>) {
        if !self.is_dialled || config.algorithm == Algorithm::Random {
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

impl Decision {
    /// The same for everybody.
    fn of(selection: Selection) -> Self {
        let (pods, used) = (selection.clone(), BTreeSet::new());
        Self { outside: selection, pods, used, warning: None }
    }

    /// The same, but pods keep their addresses.
    fn keeping_pods(mut self) -> Self {
        if let Selection::Forward { masquerade, .. } = &mut self.pods {
            *masquerade = false;
        }
        self
    }

    /// Another one for pods. A front that either leaves to the kernel is left to it as a whole:
    /// steering knows no sources (T12).
    fn with_pods(self, pods: Self) -> Self {
        let is_left = |decision: &Self| matches!(decision.outside, Selection::Pass(_));
        if is_left(&pods) || is_left(&self) {
            return if is_left(&self) { self } else { pods };
        }
        Self { pods: pods.outside, warning: self.warning.or(pods.warning), ..self }
    }
}

/// What policy Local meets where no endpoint of this node serves (semantics D1, D2).
fn unserved(local: &[&Endpoint], cluster: &[&Endpoint]) -> Option<Decision> {
    let selection = if cluster.is_empty() {
        Selection::Reject(RejectReason::NoEndpoints)
    } else {
        Selection::Drop(DropReason::NoLocalEndpoints)
    };
    local.is_empty().then(|| Decision::of(selection))
}

fn state(next_hops: &NextHops, endpoint: &Endpoint) -> NextHopState {
    next_hops.state(endpoint.address.into())
}

/// A backend takes new flows once packets can leave to it. If they can to none, all stay: their
/// packets are then counted by reason instead of being refused.
fn reachable(set: &[&Endpoint], next_hops: &NextHops) -> BTreeSet<(IpAddr, L4Port)> {
    let is_reachable = |e: &&&Endpoint| state(next_hops, e) == NextHopState::Resolved;
    let is_any = set.iter().any(|e| is_reachable(&e));
    let used = set.iter().filter(|e| !is_any || is_reachable(e));
    used.map(|endpoint| (endpoint.address, endpoint.port)).collect()
}
