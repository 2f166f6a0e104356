//! What people are told about a service port.

use super::compiled::{BackendReport, BackendState, SelectionKind, ServiceReport};
use super::next_hops::NextHops;
use super::port::{Decision, PortPlan};
use crate::model::{Endpoint, Family, TrafficPolicy};
use tidegate_dataplane::snapshot::{Backend, FrontKey, NextHopState, Selection};

/// The report on `plan`; `fronts` are those that it owns.
pub(super) fn report(
    plan: &PortPlan<'_>,
    decision: &Decision,
    fronts: Vec<FrontKey>,
    next_hops: &NextHops,
) -> ServiceReport {
    let pairs = plan.endpoints.iter().zip(&plan.backends);
    let backends: Vec<_> = pairs
        .map(|(endpoint, backend)| backend_report(plan, decision, (endpoint, backend), next_hops))
        .collect();
    let count = |state| backends.iter().filter(|backend| backend.state == state).count();
    ServiceReport {
        id: plan.id,
        namespace: plan.service.key.namespace.clone(),
        name: plan.service.key.name.clone(),
        port_name: plan.port.name.clone(),
        protocol: plan.port.protocol,
        port: plan.port.port,
        node_port: plan.port.node_port,
        policy: plan.service.external_policy,
        fronts,
        selection: kind(&decision.outside),
        ready_count: count(BackendState::Ready),
        draining_count: count(BackendState::Draining),
        backends,
        warnings: warnings(plan, decision),
    }
}

fn kind(selection: &Selection) -> SelectionKind {
    match selection {
        Selection::Forward { .. } => SelectionKind::Forward,
        Selection::Reject(_) => SelectionKind::Reject,
        Selection::Drop(_) => SelectionKind::Drop,
        Selection::Pass(_) => SelectionKind::Pass,
    }
}

fn backend_report(
    plan: &PortPlan<'_>,
    decision: &Decision,
    (endpoint, backend): (&Endpoint, &Backend),
    next_hops: &NextHops,
) -> BackendReport {
    let is_used = decision.used.contains(&(endpoint.address, endpoint.port));
    let obstacle = next_hops.reason(backend.address);
    // One that is used for want of a better still has its obstacle told.
    let reason =
        if is_used { obstacle } else { obstacle.or_else(|| Some(unused(decision, endpoint))) };
    BackendReport {
        address: backend.address,
        port: backend.port,
        pod: endpoint.pod.clone(),
        slot: backend.slot,
        next_hop: backend.next_hop,
        state: state(endpoint),
        is_local: endpoint.is_local,
        is_used: is_used && next_hops.state(backend.address) == NextHopState::Resolved,
        reason: policy_reason(plan, endpoint).or(reason),
    }
}

fn state(endpoint: &Endpoint) -> BackendState {
    let condition = endpoint.condition;
    if condition.is_ready {
        BackendState::Ready
    } else if condition.is_serving && condition.is_terminating {
        BackendState::Draining
    } else {
        BackendState::NotReady
    }
}

fn policy_reason(plan: &PortPlan<'_>, endpoint: &Endpoint) -> Option<String> {
    let is_elsewhere = plan.service.external_policy == TrafficPolicy::Local && !endpoint.is_local;
    is_elsewhere.then(|| "on another node, and the policy is Local".to_owned())
}

/// Why new flows may not get an endpoint that has neither an obstacle nor the policy against it.
fn unused(decision: &Decision, endpoint: &Endpoint) -> String {
    let reason = match state(endpoint) {
        BackendState::Ready if matches!(decision.outside, Selection::Pass(_)) => {
            "another endpoint is an address of this node: left to the kernel"
        }
        BackendState::Ready => "meant for another node or zone by its topology hints",
        BackendState::Draining => "terminating: keeps its flows, takes no new ones",
        BackendState::NotReady if endpoint.condition.is_terminating => {
            "terminating and no longer serving"
        }
        BackendState::NotReady => "not ready",
    };
    reason.to_owned()
}

fn warnings(plan: &PortPlan<'_>, decision: &Decision) -> Vec<String> {
    let mut warnings = plan.service.unsupported.clone();
    if plan.service.families.contains(&Family::V6) {
        warnings.push("IPv6 is left to the kernel in this release".to_owned());
    }
    if plan.port.wants_node_port && plan.port.node_port.is_none() {
        warnings.push("no node port: all of 30000-32767 are taken".to_owned());
    }
    warnings.extend(decision.warning.clone());
    warnings
}
