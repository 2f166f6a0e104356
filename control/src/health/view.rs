//! What the answers depend on.

use super::freshness::Freshness;
use crate::compile::{BackendState, Reports, ServiceReport};
use crate::model::{ClusterState, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tidegate_dataplane::types::L4Port;

/// What the answers depend on, as the control thread last knew it.
#[derive(Debug, Clone, Default)]
pub struct HealthView {
    /// How far the packet path is behind.
    pub freshness: Freshness,
    /// Whether outer load balancers should send traffic here (semantics H10).
    pub is_eligible: bool,
    /// The Services with a health check port.
    pub services: Arc<ServiceChecks>,
}

/// The health checks of Services.
pub type ServiceChecks = BTreeMap<ObjectKey, ServiceCheck>;

/// A Service's health check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceCheck {
    /// `healthCheckNodePort`.
    pub port: L4Port,
    /// Distinct addresses of ready endpoints on this node, over all its ports (semantics H5).
    pub local_ready: usize,
}

/// Whether the Node `name` takes traffic (semantics H10): seen, not deleted, not marked by the
/// autoscaler. A folder of manifests need not hold a Node: there `is_node_required` is false.
pub fn is_eligible(cluster: &ClusterState, name: &str, is_node_required: bool) -> bool {
    match cluster.nodes.get(name) {
        Some(node) => node.leaving.is_none(),
        None => !is_node_required,
    }
}

/// The health checks that the Services ask for, with what the compiler found of their endpoints.
pub fn service_checks(cluster: &ClusterState, reports: &Reports) -> ServiceChecks {
    let asking = cluster.services.values().filter(|service| service.skipped.is_none());
    let asking = asking.filter_map(|service| Some((service, service.health_check_port?)));
    asking
        .map(|(service, port)| {
            let local_ready = local_ready(reports.of_service(&service.key));
            (service.key.clone(), ServiceCheck { port, local_ready })
        })
        .collect()
}

fn local_ready(reports: &[ServiceReport]) -> usize {
    let backends = reports.iter().flat_map(|report| &report.backends);
    let local = backends.filter(|b| b.is_local && b.state == BackendState::Ready);
    local.map(|backend| backend.address).collect::<BTreeSet<_>>().len()
}

/// How often each answer was given, for `/metrics`.
#[derive(Debug, Default)]
pub struct AnswerCounts {
    healthz: [AtomicU64; 2],
    livez: [AtomicU64; 2],
}

impl AnswerCounts {
    pub(super) fn count_healthz(&self, is_good: bool) {
        self.healthz[usize::from(is_good)].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_livez(&self, is_good: bool) {
        self.livez[usize::from(is_good)].fetch_add(1, Ordering::Relaxed);
    }

    /// Answers of `/healthz`: 503, then 200.
    pub fn healthz(&self) -> [u64; 2] {
        self.healthz.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Answers of `/livez`: 503, then 200.
    pub fn livez(&self) -> [u64; 2] {
        self.livez.each_ref().map(|count| count.load(Ordering::Relaxed))
    }
}
