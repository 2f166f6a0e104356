//! From a question to its answer.

use super::answer::{Answer, Explanation, Outcome};
use super::path;
use super::question::Question;
use super::trial::Trial;
use crate::compile::{Reports, ServiceReport};
use crate::netlink::NetworkState;
use std::net::SocketAddr;
use std::sync::Arc;
use tidegate_dataplane::flow_table::{Direction, FlowEntry};
use tidegate_dataplane::snapshot::{Backend, FrontKey, Picker, Selection, ServicePort, Snapshot};
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::types::{IpAddress, L4Port, PortRange};
use tidegate_dataplane::verdict::{PassReason, Verdict};

/// Answers questions about one snapshot.
#[derive(Debug)]
pub struct Explainer<'s> {
    pub(super) snapshot: &'s Snapshot,
    pub(super) services: &'s Reports,
    pub(super) source_ports: PortRange,
    /// Whether next hops are the kernel's, and not made up.
    pub(super) is_live: bool,
    network: &'s NetworkState,
    counters: Arc<WorkerCounters>,
}

impl<'s> Explainer<'s> {
    /// An explainer of `snapshot`, which was compiled with `services` as its report. `network` has
    /// this node's addresses; `source_ports` are those for masquerading.
    pub fn new(
        (snapshot, services): (&'s Snapshot, &'s Reports),
        network: &'s NetworkState,
        source_ports: PortRange,
        is_live: bool,
    ) -> Self {
        let counters = Arc::new(WorkerCounters::of_one_slot());
        Self { snapshot, services, source_ports, is_live, network, counters }
    }

    /// What the packet would meet.
    pub fn answer(&self, question: &Question) -> Answer {
        answer_of(&self.trial(question))
    }

    /// What the packet would meet, and how it comes to that.
    pub fn explain(&self, question: &Question) -> Explanation {
        let trial = self.trial(question);
        path::explanation(self, question, &trial, answer_of(&trial))
    }

    fn trial(&self, question: &Question) -> Trial<'s> {
        if self.is_own(question) {
            return Trial::unseen(PassReason::NoService);
        }
        let trial = Trial::run(question, self.snapshot, &self.counters, self.source_ports);
        let address: IpAddress = question.destination.ip().into();
        let is_off_address = trial.front.is_none()
            && self.is_nodes(address)
            && self.service_of_node_port(question).is_some_and(|report| {
                let is_node_port = |front: &&FrontKey| Some(front.port) == report.node_port;
                let mut fronts = report.fronts.iter().filter(is_node_port);
                fronts.any(|front| front.address.is_v4() == address.is_v4())
            });
        Trial { is_off_address, ..trial }
    }

    /// The service port whose node port has the question's number and protocol.
    pub(super) fn service_of_node_port(&self, question: &Question) -> Option<&ServiceReport> {
        let protocol = question.transport.forwarded()?;
        let port = Some(question.destination.port());
        let mut reports = self.services.iter();
        reports.find(|r| r.protocol == protocol && r.node_port.map(L4Port::number) == port)
    }

    /// Whether the node itself sends the packet: those pass no XDP hook (T12).
    pub(super) fn is_own(&self, question: &Question) -> bool {
        self.network.is_own(question.source.ip())
    }

    /// Whether `address` is one of the node's.
    pub(super) fn is_nodes(&self, address: IpAddress) -> bool {
        self.network.is_own(address.into())
    }
}

fn answer_of(trial: &Trial<'_>) -> Answer {
    let verdict = outcome(trial.verdict);
    let candidates = match (verdict, trial.selection) {
        (Outcome::Forward, Some(Selection::Forward { backends, .. })) => {
            sorted(backends.backends())
        }
        _ => Vec::new(),
    };
    Answer {
        verdict,
        reason: trial.refusal().map_or(Outcome::Forward.word(), |(name, ..)| name).to_owned(),
        service: trial.front.map(|front| service_name(&front.service)),
        candidates,
        backend: trial.flow.filter(|_| is_settled(trial)).map(|flow| backend_of(&flow)),
        masquerade: trial.flow.is_some_and(|flow| flow.is_masqueraded()),
    }
}

pub(super) fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Forward(_) => Outcome::Forward,
        Verdict::Reject(_) => Outcome::Reject,
        Verdict::Pass(_) => Outcome::Pass,
        Verdict::Drop(_)
        | Verdict::Pending
        | Verdict::Generated
        | Verdict::HandOff(_)
        | Verdict::Wait => Outcome::Drop,
    }
}

/// Whether the backend follows from the packet, and not from chance.
fn is_settled(trial: &Trial<'_>) -> bool {
    let selection = trial.selection;
    matches!(selection, Some(Selection::Forward { backends, .. })
        if matches!(backends.picker(), Picker::Maglev(_)))
}

fn sorted(backends: &[Backend]) -> Vec<String> {
    let mut texts: Vec<_> = backends.iter().map(|b| end((b.address, b.port))).collect();
    texts.sort();
    texts
}

/// The backend of a flow: where its replies come from.
pub(super) fn backend_of(flow: &FlowEntry) -> String {
    let reply = flow.key(Direction::Reply);
    end((reply.src, reply.src_port))
}

/// `namespace/name:port`, or `namespace/name` where the port has no name.
pub(super) fn service_name(service: &ServicePort) -> String {
    let ServicePort { namespace, name, port_name, .. } = service;
    match &**port_name {
        "" => format!("{namespace}/{name}"),
        port => format!("{namespace}/{name}:{port}"),
    }
}

/// `10.0.0.1:80`, `[2001:db8::1]:80`.
pub(crate) fn end((address, port): (IpAddress, L4Port)) -> String {
    SocketAddr::new(address.into(), port.number()).to_string()
}
