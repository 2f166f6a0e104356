//! The cluster as both sources tell it: small types of our own, parsed once, that cannot be wrong.

mod categorize;
mod change;
mod endpoint;
mod endpoints;
mod error;
mod face;
mod node;
mod node_ports;
mod pod;
mod selectors;
mod service;
mod slice;
mod state;
mod store;
mod words;

pub use categorize::{Categories, categorize};
pub use change::{Change, ObjectName};
pub use endpoint::{Condition, Endpoint, Hint, Hints};
pub use error::ObjectError;
pub use face::{FacePort, ServiceFace};
pub use node::{Leaving, Node, NodeAddressKind};
pub use pod::{ContainerPort, Pod};
pub use service::{Service, ServicePortSpec, TargetPort, TrafficPolicy};
pub use slice::{EndpointSlice, SliceEndpoint, SlicePort};
pub use state::{ClusterState, NodePortClash, Object};
pub(crate) use store::differences;
pub use store::{Dirty, Store};
pub use words::{Family, ObjectKey};
