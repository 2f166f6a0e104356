//! What is new since the last look. Pure: what is goes in, what happened comes out.

use super::event::{Event, Reason, Subject};
use crate::compile::{Reports, SelectionKind, ServiceReport};
use crate::model::{ClusterState, ObjectKey};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Drops for want of room are told again after so long at the earliest: while they go on, and not
/// for each packet.
const FULL_AGAIN: Duration = Duration::from_mins(1);

/// What holds now.
#[derive(Debug)]
pub struct Facts<'a> {
    /// The objects.
    pub cluster: &'a ClusterState,
    /// What the compiler made of them.
    pub reports: &'a Reports,
    /// Interfaces whose packets come to us, with their modes; not those of pods.
    pub attached: BTreeMap<String, InterfaceFact>,
    /// Why the source's last word was refused.
    pub refused: Option<&'a str>,
}

/// How an interface is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceFact {
    /// Modes and queues, for people.
    pub modes: String,
    /// Why packets are copied, where zero-copy was wanted.
    pub zero_copy_refused: Option<String>,
}

/// What held at the last look.
#[derive(Debug, Default)]
pub struct Watcher {
    node: Arc<str>,
    /// Services all of whose ports had a backend.
    served: BTreeSet<ObjectKey>,
    /// Those that lost it, and were told.
    empty: BTreeSet<ObjectKey>,
    /// What else holds and was told, by subject and reason; an interface has its name in addition.
    told: BTreeMap<Condition, String>,
    full_drops: u64,
    full_told: Option<Instant>,
}

type Condition = (Subject, Reason, String);

impl Watcher {
    /// Nothing seen yet.
    pub fn new(node: &str) -> Self {
        Self { node: node.into(), ..Self::default() }
    }

    /// What is new.
    pub fn look(&mut self, facts: &Facts<'_>) -> Vec<Event> {
        let mut events = self.backends(facts);
        let mut holding = BTreeMap::new();
        unsupported(facts.cluster, &mut holding);
        not_served(facts, &mut holding);
        incorrect_family(facts.cluster, &mut holding);
        self.of_node(facts, &mut holding);
        for (condition, note) in &holding {
            if self.told.get(condition) != Some(note) {
                let (subject, reason, _) = condition;
                events.push(Event::new(subject.clone(), *reason, note.clone()));
            }
        }
        self.told = holding;
        events
    }

    /// A Service is told as empty only after it was served: a new one has its backends later than
    /// itself, and one that is scaled to zero is no news at each start.
    fn backends(&mut self, facts: &Facts<'_>) -> Vec<Event> {
        let (mut events, mut served, mut empty) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for key in facts.cluster.services.keys() {
            let ports = facts.reports.of_service(key);
            let without = ports.iter().filter(|port| port.ready_count + port.draining_count == 0);
            let without: Vec<_> = without.map(port_name).collect();
            let tell =
                |reason, note: String| Event::new(Subject::Service(key.clone()), reason, note);
            let was_empty = self.empty.contains(key);
            if ports.is_empty() {
                continue;
            }
            if without.is_empty() {
                served.insert(key.clone());
                if was_empty {
                    let note = "every port has a ready endpoint again".to_owned();
                    events.push(tell(Reason::BackendsRestored, note));
                }
            } else if was_empty || self.served.contains(key) {
                empty.insert(key.clone());
                if !was_empty {
                    let note = format!("no ready endpoint for {}", without.join(", "));
                    events.push(tell(Reason::NoReadyBackends, note));
                }
            }
        }
        (self.served, self.empty) = (served, empty);
        events
    }

    fn of_node(&self, facts: &Facts<'_>, holding: &mut BTreeMap<Condition, String>) {
        let node = || Subject::Node(Arc::clone(&self.node));
        for (name, fact) in &facts.attached {
            let key = (node(), Reason::XdpAttached, name.clone());
            holding.insert(key, format!("{name}: {}", fact.modes));
            if let Some(words) = &fact.zero_copy_refused {
                let key = (node(), Reason::CopyModeFallback, name.clone());
                holding.insert(key, format!("{name}: packets are copied: {words}"));
            }
        }
        if let Some(words) = facts.refused {
            let key = (node(), Reason::ConfigRefused, String::new());
            holding.insert(key, format!("{words}; the last good state serves on"));
        }
    }

    /// `drops` new flows were dropped for want of room since the start.
    pub fn flow_table(&mut self, drops: u64, now: Instant) -> Option<Event> {
        let more = drops.saturating_sub(self.full_drops);
        let is_told = self.full_told.is_some_and(|at| now.duration_since(at) < FULL_AGAIN);
        if more == 0 || is_told {
            return None;
        }
        (self.full_drops, self.full_told) = (drops, Some(now));
        let note = format!("{more} packets of new flows dropped; raise conntrack.maxFlows");
        Some(Event::new(Subject::Node(Arc::clone(&self.node)), Reason::FlowTableFull, note))
    }
}

/// `port http/TCP`, or its number where it has no name.
fn port_name(service: &ServiceReport) -> String {
    match service.port_name.as_ref() {
        "" => format!("port {}/{}", service.port, service.protocol),
        name => format!("port {name}/{}", service.protocol),
    }
}

fn unsupported(cluster: &ClusterState, holding: &mut BTreeMap<Condition, String>) {
    for service in cluster.services.values().filter(|service| service.skipped.is_none()) {
        if !service.unsupported.is_empty() {
            let subject = Subject::Service(service.key.clone());
            let key = (subject, Reason::UnsupportedField, String::new());
            holding.insert(key, service.unsupported.join("; "));
        }
    }
}

/// Ports that are left to the kernel, and what else the compiler has to say of them.
fn not_served(facts: &Facts<'_>, holding: &mut BTreeMap<Condition, String>) {
    for service in facts.reports.iter() {
        let left = service.selection == SelectionKind::Pass;
        if !left && service.warnings.is_empty() {
            continue;
        }
        let key = ObjectKey { namespace: service.namespace.clone(), name: service.name.clone() };
        let object = facts.cluster.services.get(&key);
        let is_told = |words: &&String| object.is_some_and(|o| o.unsupported.contains(*words));
        let others = service.warnings.iter().filter(|words| !is_told(words)).cloned();
        let left = left.then(|| "left to the kernel: LOCAL_BACKEND".to_owned());
        let words: Vec<_> = left.into_iter().chain(others).collect();
        if !words.is_empty() {
            let port = port_name(service);
            let note = format!("{port}: {}", words.join("; "));
            holding.insert((Subject::Service(key), Reason::PortNotServed, port), note);
        }
    }
}

fn incorrect_family(cluster: &ClusterState, holding: &mut BTreeMap<Condition, String>) {
    for slice in cluster.slices.values() {
        if let (Some(service), Some(address)) = (&slice.service, slice.wrong_family) {
            let subject = Subject::Service(service.clone());
            let name = slice.key.name.to_string();
            let note =
                format!("EndpointSlice {name}: {address} is not of its addressType: skipped");
            holding.insert((subject, Reason::KubeProxyIncorrectIpVersion, name), note);
        }
    }
}
