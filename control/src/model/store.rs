//! The cluster's state, searchable, and which Services a change of it concerns: so that work is as
//! large as the change and not as the cluster.

use super::change::{Change, ObjectName};
use super::node::Node;
use super::pod::Pod;
use super::selectors::Selectors;
use super::service::Service;
use super::slice::EndpointSlice;
use super::state::{ClusterState, Object};
use super::words::ObjectKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state as the node of one name sees it. Bounded by what the source tells.
#[derive(Debug)]
pub struct Store {
    pub(super) node_name: Arc<str>,
    pub(super) state: ClusterState,
    /// Service to slices.
    pub(super) slices: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    pub(super) selectors: Selectors,
    dirty: Dirty,
}

/// What changed since it was taken last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dirty {
    /// The Services that came, changed or went, or whose endpoints did.
    pub services: BTreeSet<ObjectKey>,
    /// This node's zone or its pods' networks changed: endpoints of any Service may mean something
    /// else now.
    pub is_all: bool,
    /// This node's object changed.
    pub is_node: bool,
}

impl Store {
    /// An empty store for the node of this name.
    pub fn new(node_name: &str) -> Self {
        Self {
            node_name: node_name.into(),
            state: ClusterState::default(),
            slices: BTreeMap::new(),
            selectors: Selectors::default(),
            dirty: Dirty::default(),
        }
    }

    /// Takes a whole state in place of the one that is held: what differs counts as changed, what
    /// is not in it is gone.
    pub fn replace(&mut self, next: &ClusterState) {
        for (name, node) in differences(&self.state.nodes, &next.nodes) {
            self.set_node(&name, node.as_ref());
        }
        for (key, service) in differences(&self.state.services, &next.services) {
            self.set_service(&key, service.as_ref());
        }
        for (key, slice) in differences(&self.state.slices, &next.slices) {
            self.set_slice(&key, slice.as_ref());
        }
        for (key, pod) in differences(&self.state.pods, &next.pods) {
            self.set_pod(&key, pod.as_ref());
        }
    }

    /// Makes one change. An object that is equal to the one held is no change (semantics J5).
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Upserted(Object::Service(service)) => {
                self.set_service(&service.key.clone(), Some(&Arc::new(service)));
            }
            Change::Upserted(Object::EndpointSlice(slice)) => {
                self.set_slice(&slice.key.clone(), Some(&Arc::new(slice)));
            }
            Change::Upserted(Object::Pod(pod)) => {
                self.set_pod(&pod.key.clone(), Some(&Arc::new(pod)));
            }
            Change::Upserted(Object::Node(node)) => {
                self.set_node(&Arc::clone(&node.name), Some(&Arc::new(node)));
            }
            Change::Removed(ObjectName::Service(key)) => self.set_service(&key, None),
            Change::Removed(ObjectName::EndpointSlice(key)) => self.set_slice(&key, None),
            Change::Removed(ObjectName::Pod(key)) => self.set_pod(&key, None),
            Change::Removed(ObjectName::Node(name)) => self.set_node(&name, None),
        }
    }

    /// Whether anything changed since [`Store::take_dirty`].
    pub fn is_dirty(&self) -> bool {
        self.dirty != Dirty::default()
    }

    /// What changed since the last call.
    pub fn take_dirty(&mut self) -> Dirty {
        core::mem::take(&mut self.dirty)
    }

    /// The state itself.
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// This node's object, where the source has it.
    pub fn own_node(&self) -> Option<&Node> {
        self.state.nodes.get(&self.node_name).map(|node| &**node)
    }

    fn set_service(&mut self, key: &ObjectKey, next: Option<&Arc<Service>>) {
        let Some(before) = exchange(&mut self.state.services, key, next) else { return };
        if first_label(before.as_ref()) != first_label(next) {
            before.iter().for_each(|before| self.selectors.remove_service(before));
            next.iter().for_each(|next| self.selectors.add_service(next, &self.state.pods));
        }
        self.dirty.services.insert(key.clone());
    }

    fn set_slice(&mut self, key: &ObjectKey, next: Option<&Arc<EndpointSlice>>) {
        let Some(before) = exchange(&mut self.state.slices, key, next) else { return };
        if let Some(service) = before.as_ref().and_then(|slice| slice.service.as_ref()) {
            let slices = self.slices.entry(service.clone()).or_default();
            slices.remove(key);
            if slices.is_empty() {
                self.slices.remove(service);
            }
            self.dirty.services.insert(service.clone());
        }
        if let Some(service) = next.and_then(|slice| slice.service.as_ref()) {
            self.slices.entry(service.clone()).or_default().insert(key.clone());
            self.dirty.services.insert(service.clone());
        }
    }

    fn set_pod(&mut self, key: &ObjectKey, next: Option<&Arc<Pod>>) {
        let Some(before) = exchange(&mut self.state.pods, key, next) else { return };
        for pod in [before.as_ref(), next].into_iter().flatten() {
            let selecting = self.selectors.services_of(pod);
            let selecting = selecting.filter(|service| {
                let service = self.state.services.get(*service);
                service.is_some_and(|service| pod.is_selected_by(&service.selector))
            });
            let without_slices = selecting.filter(|service| !self.slices.contains_key(*service));
            self.dirty.services.extend(without_slices.cloned());
        }
        if let Some(before) = &before {
            self.selectors.remove_pod(before);
        }
        if let Some(next) = next {
            self.selectors.add_pod(next);
        }
    }

    fn set_node(&mut self, name: &Arc<str>, next: Option<&Arc<Node>>) {
        let Some(before) = exchange(&mut self.state.nodes, name, next) else { return };
        if *name != self.node_name {
            return;
        }
        let sees = |node: Option<&Arc<Node>>| {
            node.map(|node| (node.zone.clone(), node.pod_networks.clone()))
        };
        self.dirty.is_node = true;
        self.dirty.is_all |= sees(before.as_ref()) != sees(next);
    }
}

/// What a Service is found by from its Pods.
fn first_label(service: Option<&Arc<Service>>) -> Option<(&String, &String)> {
    service.and_then(|service| service.selector.first_key_value())
}

/// Puts `next` in place of what is there; `None` if the two are equal.
#[expect(clippy::option_option, reason = "no change, and a change from nothing")]
fn exchange<K: Ord + Clone, V: PartialEq>(
    map: &mut BTreeMap<K, Arc<V>>,
    key: &K,
    next: Option<&Arc<V>>,
) -> Option<Option<Arc<V>>> {
    if map.get(key) == next {
        return None;
    }
    Some(match next {
        Some(next) => map.insert(key.clone(), Arc::clone(next)),
        None => map.remove(key),
    })
}

/// What must be set, or removed where there is none, to come from `old` to `new`.
pub(crate) fn differences<K: Ord + Clone, V: PartialEq>(
    old: &BTreeMap<K, Arc<V>>,
    new: &BTreeMap<K, Arc<V>>,
) -> Vec<(K, Option<Arc<V>>)> {
    let gone = old.keys().filter(|key| !new.contains_key(*key)).map(|key| (key.clone(), None));
    let differs = |(key, new): &(&K, &Arc<V>)| {
        // Objects that the source kept are shared: most are told apart without a look inside.
        old.get(*key).is_none_or(|old| !Arc::ptr_eq(old, new) && old != *new)
    };
    let set = new.iter().filter(differs).map(|(key, new)| (key.clone(), Some(Arc::clone(new))));
    gone.chain(set).collect()
}
