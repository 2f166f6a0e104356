//! What the control side publishes and the pipeline reads: immutable, whole, replaced by one
//! pointer store (T10). Nothing in here is ever changed after it was published.

pub mod backend;
pub mod front;
pub mod maglev;
pub mod networks;
pub mod next_hop;

pub use backend::{Backend, BackendSet, Picker};
pub use front::{Front, FrontKey, FrontKind, FrontState, Selection, ServicePort};
pub use maglev::MaglevTable;
pub use networks::Networks;
pub use next_hop::{Interface, NextHop, NextHopState};

use crate::types::{InterfaceSlot, NextHopId, ServiceId};
use hashbrown::HashMap;
use std::sync::Arc;

/// Number of a snapshot; grows by one with every publication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Version(pub u64);

/// The compiled state of the cluster and of the node's network, as one value.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// This snapshot's number.
    pub version: Version,
    /// What clients dial, active and draining.
    pub fronts: HashMap<FrontKey, Arc<Front>>,
    /// The service ports behind the fronts, also those that only live flows still name.
    pub services: HashMap<ServiceId, Arc<ServicePort>>,
    /// Where backends are. Indexed by [`NextHopId`], which never changes its address.
    pub next_hops: Arc<Vec<NextHop>>,
    /// The attached interfaces. Indexed by [`InterfaceSlot`]; slot 0 is always `None`.
    pub interfaces: Arc<Vec<Option<Interface>>>,
    /// The node's own `spec.podCIDRs`: a source within is a pod (semantics E3). Empty where the
    /// node has none: then pods count as outside clients (E5).
    pub pod_networks: Arc<Networks>,
}

impl Snapshot {
    /// The next hop with this number.
    #[inline]
    pub fn next_hop(&self, id: NextHopId) -> Option<&NextHop> {
        self.next_hops.get(id.0 as usize)
    }

    /// The attached interface in this slot.
    #[inline]
    pub fn interface(&self, slot: InterfaceSlot) -> Option<&Interface> {
        self.interfaces.get(usize::from(slot.0))?.as_ref()
    }
}
