//! What people are told about a service port.

use super::compiled::{BackendReport, BackendState, SelectionKind, ServiceReport};
use super::next_hops::NextHops;
use super::port::{Decision, Decisions, PortPlan};
use crate::model::{Endpoint, Family, Service, TrafficPolicy};
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{Backend, FrontKey, NextHopState, Selection};

/// The report on `plan`; `fronts` are those that it owns, and all of them cluster IPs where
/// `is_internal`.
pub(super) fn report(
    plan: &PortPlan<'_>,
    (decisions, is_internal): (&Decisions, bool),
    fronts: Vec<FrontKey>,
    next_hops: &NextHops,
) -> ServiceReport {
    let Service { external_policy, internal_policy, .. } = *plan.service;
    let policy = if is_internal { internal_policy } else { external_policy };
    let pairs = plan.endpoints.iter().zip(&plan.backends);
    let backends: Vec<_> = pairs
        .filter_map(|(endpoint, backend)| {
            let decision = decisions.get(&Family::of(endpoint.address))?;
            Some(backend_report(policy, decision, (endpoint, backend), next_hops))
        })
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
        policy,
        internal_policy,
        fronts,
        selection: worst(decisions),
        ready_count: count(BackendState::Ready),
        draining_count: count(BackendState::Draining),
        backends,
        warnings: warnings(plan, decisions),
    }
}

/// Where the families differ, that of one which is not forwarded.
fn worst(decisions: &Decisions) -> SelectionKind {
    let kinds = decisions.values().map(|decision| kind(&decision.outside));
    kinds.max_by_key(|kind| *kind != SelectionKind::Forward).unwrap_or(SelectionKind::Reject)
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
    policy: TrafficPolicy,
    decision: &Decision,
    (endpoint, backend): (&Endpoint, &Backend),
    next_hops: &NextHops,
) -> BackendReport {
    let is_used = decision.used.contains(&(endpoint.address, endpoint.port));
    let obstacle = next_hops.reason(backend.address);
    // One that is used for want of a better still has its obstacle told.
    let obstacle = obstacle.map(|obstacle| Cow::Owned(obstacle.to_string()));
    let unused = || (!is_used).then(|| Cow::Borrowed(unused(decision, endpoint)));
    BackendReport {
        address: backend.address,
        port: backend.port,
        pod: endpoint.pod.clone(),
        slot: backend.slot,
        next_hop: backend.next_hop,
        state: state(endpoint),
        is_local: endpoint.is_local,
        is_used: is_used && next_hops.state(backend.address) == NextHopState::Resolved,
        reason: policy_reason(policy, endpoint).map(Cow::Borrowed).or(obstacle).or_else(unused),
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

fn policy_reason(policy: TrafficPolicy, endpoint: &Endpoint) -> Option<&'static str> {
    let is_elsewhere = policy == TrafficPolicy::Local && !endpoint.is_local;
    is_elsewhere.then_some("on another node, and the policy is Local")
}

/// Why new flows may not get an endpoint that has neither an obstacle nor the policy against it.
fn unused(decision: &Decision, endpoint: &Endpoint) -> &'static str {
    match state(endpoint) {
        BackendState::Ready if matches!(decision.outside, Selection::Pass(_)) => {
            "another endpoint is an address of this node: left to the kernel"
        }
        BackendState::Ready => "meant for another node or zone by its topology hints",
        BackendState::Draining => "terminating: keeps its flows, takes no new ones",
        BackendState::NotReady if endpoint.condition.is_terminating => {
            "terminating and no longer serving"
        }
        BackendState::NotReady => "not ready",
    }
}

fn warnings(plan: &PortPlan<'_>, decisions: &Decisions) -> Vec<String> {
    let mut warnings = plan.service.unsupported.clone();
    if plan.port.wants_node_port && plan.port.node_port.is_none() {
        warnings.push("no node port: all of 30000-32767 are taken".to_owned());
    }
    warnings.extend(plan.mismatch.as_ref().map(|names| mismatch(plan, names)));
    let told: BTreeSet<_> = decisions.values().filter_map(|d| d.warning.clone()).collect();
    warnings.extend(told);
    warnings.extend(unlike(decisions));
    warnings
}

fn mismatch(plan: &PortPlan<'_>, names: &[Arc<str>]) -> String {
    let (name, protocol) = (&plan.port.name, plan.port.protocol);
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let there = if names.is_empty() { "none with a name".to_owned() } else { names.join(", ") };
    format!("no {protocol} port of its EndpointSlices is called \"{name}\": there is {there}")
}

/// What one family meets where the other is forwarded.
fn unlike(decisions: &Decisions) -> impl Iterator<Item = String> {
    let is_served = |decision: &Decision| kind(&decision.outside) == SelectionKind::Forward;
    let is_any = decisions.values().any(is_served);
    let others = decisions.iter().filter(move |_| is_any);
    others.filter_map(|(family, decision)| {
        Some(format!("{family} meets {}", refusal(&decision.outside)?))
    })
}

/// What new flows meet that are not forwarded, and why.
pub(crate) fn refusal(selection: &Selection) -> Option<String> {
    match selection {
        Selection::Forward { .. } => None,
        Selection::Reject(reason) => Some(format!("REJECT {}", reason.name())),
        Selection::Drop(reason) => Some(format!("DROP {}", reason.name())),
        Selection::Pass(reason) => Some(format!("PASS {}", reason.name())),
    }
}
