//! The cluster's state as one value.

use super::change::ObjectName;
use super::node::Node;
use super::node_ports;
use super::pod::Pod;
use super::service::Service;
use super::slice::EndpointSlice;
use super::words::ObjectKey;
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::types::{L4Port, Protocol};

/// What the source knows: Services, slices, Pods and Nodes by key. Objects are shared, so a copy
/// is cheap.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// The Services. Every port that wants a node port has one ([`ClusterState::try_new`]).
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// The slices.
    pub slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// The Pods.
    pub pods: BTreeMap<ObjectKey, Arc<Pod>>,
    /// The Nodes, by name.
    pub nodes: BTreeMap<Arc<str>, Arc<Node>>,
}

/// One object of any kind that tidegate reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Object {
    /// A Service.
    Service(Service),
    /// An `EndpointSlice`.
    EndpointSlice(EndpointSlice),
    /// A Pod.
    Pod(Pod),
    /// A Node.
    Node(Node),
}

impl Object {
    /// Which object it is.
    pub fn name(&self) -> ObjectName {
        match self {
            Self::Service(service) => ObjectName::Service(service.key.clone()),
            Self::EndpointSlice(slice) => ObjectName::EndpointSlice(slice.key.clone()),
            Self::Pod(pod) => ObjectName::Pod(pod.key.clone()),
            Self::Node(node) => ObjectName::Node(Arc::clone(&node.name)),
        }
    }

    /// Kind, and namespace and name, for people.
    pub fn title(&self) -> String {
        self.name().title()
    }
}

/// Two Services ask for one node port; the API server would have refused the later one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node port {port}/{protocol} is claimed by Service {first} and by Service {second}")]
pub struct NodePortClash {
    /// The node port.
    pub port: L4Port,
    /// Its protocol.
    pub protocol: Protocol,
    /// The first by name.
    pub first: ObjectKey,
    /// The other.
    pub second: ObjectKey,
}

impl ClusterState {
    /// The state made of `objects`; a later object replaces an earlier one of the same key.
    /// Service ports that want a node port and name none get one, as the API server would give it.
    ///
    /// # Errors
    /// Two Services claim one node port.
    pub fn try_new(objects: impl IntoIterator<Item = Object>) -> Result<Self, NodePortClash> {
        let mut state = Self::default();
        for object in objects {
            state.insert(object);
        }
        node_ports::assign(&mut state.services)?;
        Ok(state)
    }

    pub(super) fn insert(&mut self, object: Object) {
        match object {
            Object::Service(service) => {
                self.services.insert(service.key.clone(), Arc::new(service));
            }
            Object::EndpointSlice(slice) => {
                self.slices.insert(slice.key.clone(), Arc::new(slice));
            }
            Object::Pod(pod) => {
                self.pods.insert(pod.key.clone(), Arc::new(pod));
            }
            Object::Node(node) => {
                self.nodes.insert(Arc::clone(&node.name), Arc::new(node));
            }
        }
    }
}
