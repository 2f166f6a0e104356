//! Which Services may select a Pod, and which Pods a Service may select: by the first label of each
//! selector. Only labels that a selector begins with are held, and not all that Pods bear.

use super::pod::Pod;
use super::service::Service;
use super::words::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A label in a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Label {
    namespace: Arc<str>,
    name: String,
    value: String,
}

/// Who begins its selector with a label, and who bears it.
#[derive(Debug, Default)]
struct Bearers {
    services: BTreeSet<ObjectKey>,
    pods: BTreeSet<ObjectKey>,
}

/// All labels that a Service's selector begins with.
#[derive(Debug, Default)]
pub(super) struct Selectors(BTreeMap<Label, Bearers>);

impl Selectors {
    /// Adds a Service; `pods` are all Pods, of which its namespace's are looked at where its label
    /// is new.
    pub(super) fn add_service(&mut self, service: &Service, pods: &BTreeMap<ObjectKey, Arc<Pod>>) {
        let Some(label) = first_label(service) else { return };
        let bearers = self.0.entry(label).or_insert_with_key(|label| {
            let first = ObjectKey { namespace: Arc::clone(&label.namespace), name: "".into() };
            let pods = pods.range(first..).take_while(|(key, _)| key.namespace == label.namespace);
            let bears = |pod: &Pod| pod.labels.get(&label.name) == Some(&label.value);
            let pods = pods.filter(|(_, pod)| bears(pod)).map(|(key, _)| key.clone());
            Bearers { services: BTreeSet::new(), pods: pods.collect() }
        });
        bearers.services.insert(service.key.clone());
    }

    pub(super) fn remove_service(&mut self, service: &Service) {
        let Some(label) = first_label(service) else { return };
        let Some(bearers) = self.0.get_mut(&label) else { return };
        bearers.services.remove(&service.key);
        if bearers.services.is_empty() {
            self.0.remove(&label);
        }
    }

    pub(super) fn add_pod(&mut self, pod: &Pod) {
        for label in labels(pod) {
            if let Some(bearers) = self.0.get_mut(&label) {
                bearers.pods.insert(pod.key.clone());
            }
        }
    }

    pub(super) fn remove_pod(&mut self, pod: &Pod) {
        for label in labels(pod) {
            if let Some(bearers) = self.0.get_mut(&label) {
                bearers.pods.remove(&pod.key);
            }
        }
    }

    /// The Services whose selector begins with a label of `pod`.
    pub(super) fn services_of(&self, pod: &Pod) -> impl Iterator<Item = &ObjectKey> {
        labels(pod).filter_map(|label| self.0.get(&label)).flat_map(|bearers| &bearers.services)
    }

    /// The Pods that bear the first label of a Service's selector.
    pub(super) fn pods_of(&self, service: &Service) -> impl Iterator<Item = &ObjectKey> {
        let bearers = first_label(service).and_then(|label| self.0.get(&label));
        bearers.into_iter().flat_map(|bearers| &bearers.pods)
    }
}

/// An empty selector selects nothing.
fn first_label(service: &Service) -> Option<Label> {
    let (name, value) = service.selector.first_key_value()?;
    let namespace = Arc::clone(&service.key.namespace);
    Some(Label { namespace, name: name.clone(), value: value.clone() })
}

fn labels(pod: &Pod) -> impl Iterator<Item = Label> {
    pod.labels.iter().map(|(name, value)| Label {
        namespace: Arc::clone(&pod.key.namespace),
        name: name.clone(),
        value: value.clone(),
    })
}
