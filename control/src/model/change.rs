//! What a source that knows single objects tells of them.

use super::state::{ClusterState, Object};
use super::words::ObjectKey;
use std::sync::Arc;

/// One object that came, changed or went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The object as it is now; it replaces one of the same kind and name.
    Upserted(Object),
    /// It is gone.
    Removed(ObjectName),
}

/// Which object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ObjectName {
    /// A Service.
    Service(ObjectKey),
    /// An `EndpointSlice`.
    EndpointSlice(ObjectKey),
    /// A Pod.
    Pod(ObjectKey),
    /// A Node.
    Node(Arc<str>),
}

impl ObjectName {
    /// Kind, and namespace and name, for people.
    pub fn title(&self) -> String {
        match self {
            Self::Service(key) => format!("Service {key}"),
            Self::EndpointSlice(key) => format!("EndpointSlice {key}"),
            Self::Pod(key) => format!("Pod {key}"),
            Self::Node(name) => format!("Node {name}"),
        }
    }
}

impl ClusterState {
    /// Makes one change. Node ports stay as the object has them: the API server gave them.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Upserted(object) => self.insert(object),
            Change::Removed(name) => self.remove(&name),
        }
    }

    fn remove(&mut self, name: &ObjectName) {
        match name {
            ObjectName::Service(key) => drop(self.services.remove(key)),
            ObjectName::EndpointSlice(key) => drop(self.slices.remove(key)),
            ObjectName::Pod(key) => drop(self.pods.remove(key)),
            ObjectName::Node(name) => drop(self.nodes.remove(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Node;

    fn node(name: &str) -> Object {
        let yaml = serde_json::json!({"metadata": {"name": name}});
        let object: k8s_openapi::api::core::v1::Node = serde_json::from_value(yaml).unwrap();
        Object::Node(Node::try_from(&object).unwrap())
    }

    #[test]
    fn a_change_concerns_its_object_alone() {
        let mut state = ClusterState::try_new([node("a"), node("b")]).unwrap();
        state.apply(Change::Removed(ObjectName::Node("a".into())));
        state.apply(Change::Upserted(node("c")));
        let names: Vec<&str> = state.nodes.keys().map(AsRef::as_ref).collect();
        assert_eq!(names, ["b", "c"]);
    }
}
