//! The path that led to an answer, stage by stage, for people.

use super::answer::{Answer, Explanation, Other, Outcome, Step};
use super::explainer::{Explainer, backend_of, end, outcome, service_name};
use super::question::{Question, Transport};
use super::trial::{self, Trial};
use crate::compile::{BackendReport, ServiceReport};
use tidegate_dataplane::flow_table::{Direction, FlowEntry};
use tidegate_dataplane::pipeline::balancing_hash;
use tidegate_dataplane::snapshot::{BackendSet, Front, FrontKind, NextHop, Picker, Selection};
use tidegate_dataplane::types::IpAddress;

/// Other endpoints that are listed; a Service may have thousands.
const OTHERS_MAX: usize = 50;

/// The stage whose work is steering: the XDP program.
const FILTER: &str = "xdp filter";

pub(super) fn explanation(
    explainer: &Explainer<'_>,
    question: &Question,
    trial: &Trial<'_>,
    answer: Answer,
) -> Explanation {
    let report = trial.front.and_then(|front| explainer.services.of(front.service.id));
    let chosen = answer.backend.as_deref();
    let pod = chosen.and_then(|backend| pod_of(report?, backend));
    let others = report.map(|report| others(report, trial, &answer)).unwrap_or_default();
    let others_left = others.len().saturating_sub(OTHERS_MAX);
    Explanation {
        pod,
        steps: steps(explainer, question, trial, report),
        next_step: trial.refusal().map(|(.., next)| next.to_owned()),
        others: others.into_iter().take(OTHERS_MAX).collect(),
        others_left,
        answer,
    }
}

fn steps(
    explainer: &Explainer<'_>,
    question: &Question,
    trial: &Trial<'_>,
    report: Option<&ServiceReport>,
) -> Vec<Step> {
    let Some(front) = trial.front else {
        return vec![Step::new(FILTER, "pass", unseen(explainer, question))];
    };
    let refusal = trial.refusal();
    let stage = refusal.map_or("", |(_, stage, _)| stage);
    let word = outcome(trial.verdict).word().to_lowercase();
    let verdict = refusal.map(|(name, stage, _)| Step::new(stage, word, name));
    let mut steps = vec![Step::new(FILTER, "match", matched(question, front))];
    if stage == "parse" || stage == "xdp" {
        steps.extend(verdict);
        return steps;
    }
    steps.push(Step::new("parse", "ok", parsed(question)));
    steps.push(service(explainer, question, front, report));
    steps.extend(guard(question, front));
    if let (Some(Selection::Forward { backends, .. }), Some(flow)) = (trial.selection, &trial.flow)
    {
        steps.push(Step::new("flow table", "miss", "new flow"));
        steps.push(choice(front, backends, flow));
        steps.extend(way(explainer, flow));
    }
    steps.extend(verdict);
    steps
}

/// Why the XDP program leaves the packet to the kernel.
fn unseen(explainer: &Explainer<'_>, question: &Question) -> String {
    let Question { transport, source, destination } = question;
    if explainer.is_own(question) {
        let address = source.ip();
        return format!("{address} is this node's own: its traffic passes no XDP hook");
    }
    if trial::front_of(question, explainer.snapshot).is_some() {
        return format!(
            "{destination}/{transport} is a cluster IP: served for pods of this node, which {} is \
             not",
            source.ip()
        );
    }
    if transport.forwarded().is_none() {
        return format!("{transport} is left to the kernel");
    }
    match explainer.service_of_node_port(question) {
        Some(report) => format!(
            "{destination}/{transport} is no front: {} is the node port of {}/{}, but {} is not \
             among the addresses that serve it",
            destination.port(),
            report.namespace,
            report.name,
            destination.ip()
        ),
        None => format!("{destination}/{transport} is no front of this node"),
    }
}

fn matched(question: &Question, front: &Front) -> String {
    let kind = match front.kind {
        FrontKind::NodePort => "a node port",
        FrontKind::LoadBalancer => "a LoadBalancer address",
        FrontKind::ExternalIp => "an external IP",
        FrontKind::ClusterIp => "a cluster IP",
    };
    format!("{}/{} is {kind} here", question.destination, question.transport)
}

fn parsed(question: &Question) -> String {
    let family = if question.source.is_ipv4() { "IPv4" } else { "IPv6" };
    match question.transport {
        Transport::Tcp => format!("{family} TCP SYN"),
        transport => format!("{family} {transport}"),
    }
}

fn service(
    explainer: &Explainer<'_>,
    question: &Question,
    front: &Front,
    report: Option<&ServiceReport>,
) -> Step {
    let policy = report.map(|report| match front.kind {
        FrontKind::ClusterIp => format!("internalTrafficPolicy {}", report.internal_policy.name()),
        _ => format!("externalTrafficPolicy {}", report.policy.name()),
    });
    let affinity = match front.service.affinity_timeout {
        Some(timeout) => format!("affinity ClientIP for {} s", timeout.as_secs()),
        None => "affinity None".to_owned(),
    };
    let is_pod = explainer.snapshot.pod_networks.contains(question.source.ip().into());
    let pod = is_pod.then(|| "the source is a pod of this node".to_owned());
    let detail: Vec<_> = policy.into_iter().chain([affinity]).chain(pod).collect();
    Step::new("service", service_name(&front.service), detail.join(", "))
}

/// The source ranges, where the source lies within. Where not, that is the verdict.
fn guard(question: &Question, front: &Front) -> Option<Step> {
    let is_inside = match &front.source_ranges {
        None => return Some(Step::new("source range", "pass", "not asked at this front")),
        Some(ranges) => ranges.contains(question.source.ip().into()),
    };
    let detail = "within loadBalancerSourceRanges";
    is_inside.then(|| Step::new("source range", "pass", detail))
}

fn choice(front: &Front, backends: &BackendSet, flow: &FlowEntry) -> Step {
    let count = backends.backends().len();
    let Picker::Maglev(table) = backends.picker() else {
        let ends = backends.backends().iter().map(|b| end((b.address, b.port)));
        let named: Vec<_> = ends.take(OTHERS_MAX).collect();
        let more = if count > named.len() { ", and more" } else { "" };
        let detail = format!("one of {count} for each new flow: {}{more}", named.join(", "));
        return Step::new("random", "any", detail);
    };
    let chosen = backend_of(flow);
    let index = backends.backends().iter().position(|b| end((b.address, b.port)) == chosen);
    let entries = table.entries();
    let owned = entries.iter().filter(|entry| Some(usize::from(**entry)) == index).count();
    let hash = balancing_hash(&front.service, &flow.key(Direction::Forward));
    let place = format!("entry {} of {}", table.entry_of(hash), entries.len());
    let by = match front.service.affinity_timeout {
        Some(_) => "by the client's address, if it has no backend yet",
        None => "by the five-tuple",
    };
    let detail = format!("{place}, {by}; it owns {owned}");
    Step::new("maglev", chosen, detail)
}

/// From the chosen backend to the wire.
fn way(explainer: &Explainer<'_>, flow: &FlowEntry) -> Vec<Step> {
    let (forward, reply) = (flow.key(Direction::Forward), flow.key(Direction::Reply));
    let destination = end((reply.src, reply.src_port));
    let rewrite = if flow.is_masqueraded() {
        let (first, last) = (explainer.source_ports.first(), explainer.source_ports.last());
        let source = sources(explainer, flow, reply.dst);
        let ports = format!("a free port of {first}-{last}");
        Step::new("rewrite", "snat", format!("src {source}, {ports}; dst {destination}"))
    } else {
        let source = end((forward.src, forward.src_port));
        Step::new("rewrite", "dnat", format!("src {source} stays; dst {destination}"))
    };
    let hop = explainer.snapshot.next_hop(flow.next_hop);
    [Some(rewrite), hop.map(|hop| neighbour(explainer, hop))].into_iter().flatten().collect()
}

/// The addresses to masquerade with: a flow gets any of them.
fn sources(explainer: &Explainer<'_>, flow: &FlowEntry, address: IpAddress) -> String {
    let hop = explainer.snapshot.next_hop(flow.next_hop);
    let pool = hop.map(|hop| explainer.snapshot.snat_pool.towards(hop, address.is_v4()));
    match pool.unwrap_or_default() {
        [] | [_] => source(explainer, address),
        several => several.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or "),
    }
}

/// The address to masquerade with. It follows from routes, and files tell none.
fn source(explainer: &Explainer<'_>, address: IpAddress) -> String {
    if explainer.is_live {
        address.to_string()
    } else if explainer.is_nodes(address) {
        format!("{address} (assumed: files tell no routes)")
    } else {
        "an address of the node that no file tells".to_owned()
    }
}

fn neighbour(explainer: &Explainer<'_>, hop: &NextHop) -> Step {
    if !explainer.is_live {
        return Step::new("neighbor", "assumed", "from files every backend counts as reachable");
    }
    let interface = explainer.snapshot.interface(hop.egress).map(|interface| &*interface.name);
    let interface = interface.unwrap_or("no interface");
    Step::new("neighbor", hop.destination_mac.to_string(), format!("on {interface}"))
}

fn place(backend: &BackendReport) -> String {
    end((backend.address, backend.port))
}

fn pod_of(report: &ServiceReport, chosen: &str) -> Option<String> {
    let backend = report.backends.iter().find(|backend| place(backend) == chosen)?;
    Some(format!("{}/{}", report.namespace, backend.pod.as_deref()?))
}

fn others(report: &ServiceReport, trial: &Trial<'_>, answer: &Answer) -> Vec<Other> {
    let is_random = answer.verdict == Outcome::Forward && answer.backend.is_none();
    let why = |backend: &BackendReport, place: &str| {
        // A candidate's own report may speak of another policy's set than the one that was met.
        if answer.candidates.iter().any(|candidate| candidate == place) {
            return format!("{}; owns other entries of the table", backend.state.name());
        }
        match (&backend.reason, trial.refusal()) {
            (Some(reason), _) => reason.to_string(),
            (None, Some((reason, ..))) => format!("{}; {reason}", backend.state.name()),
            (None, None) => format!("{}, but not in the set of this flow", backend.state.name()),
        }
    };
    let other = |backend: &BackendReport| {
        let place = place(backend);
        let is_got = Some(&place) == answer.backend.as_ref()
            || (is_random && answer.candidates.contains(&place));
        (!is_got).then(|| Other { why: why(backend, &place), backend: place })
    };
    // Refused before its Service was looked at.
    if matches!(trial.refusal(), Some((_, "parse" | "xdp", _))) {
        return Vec::new();
    }
    let family = trial.front.map(|front| front.key.address.is_v4());
    let of_family = |backend: &&BackendReport| Some(backend.address.is_v4()) == family;
    report.backends.iter().filter(of_family).filter_map(other).collect()
}
