//! What the control side publishes and the pipeline reads: immutable, whole, replaced by one
//! pointer store (T10). Nothing in here is ever changed after it was published.

pub mod backend;
pub mod chunked;
pub mod front;
pub mod maglev;
pub mod networks;
pub mod next_hop;
pub mod sharded;
pub mod snat_pool;

pub use backend::{Backend, BackendSet, Picker};
pub use chunked::Chunked;
pub use front::{Front, FrontKey, FrontKind, FrontState, Selection, ServicePort};
pub use maglev::MaglevTable;
pub use networks::Networks;
pub use next_hop::{Interface, NextHop, NextHopState, Side};
pub use sharded::Sharded;
pub use snat_pool::SnatPool;

use crate::types::{InterfaceSlot, NextHopId, ServiceId};
use std::sync::Arc;

/// Number of a snapshot; grows by one with every publication.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Version(pub u64);

/// The compiled state of the cluster and of the node's network, as one value. A copy costs a few
/// pointers, and a change of a copy what it changes.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// This snapshot's number.
    pub version: Version,
    /// What clients dial.
    pub fronts: Sharded<FrontKey, Arc<Front>>,
    /// Fronts that are gone, or left to the kernel now, and have live TCP flows. The packet path's
    /// own: publication fills it.
    pub draining: Sharded<FrontKey, Arc<Front>>,
    /// The service ports behind the fronts, also those that only live flows still name.
    pub services: Sharded<ServiceId, Arc<ServicePort>>,
    /// Where backends are. Indexed by [`NextHopId`], which keeps its address while any flow names
    /// it.
    pub next_hops: Chunked<NextHop>,
    /// The attached interfaces. Indexed by [`InterfaceSlot`]; slot 0 is always `None`.
    pub interfaces: Arc<Vec<Option<Interface>>>,
    /// The node's own `spec.podCIDRs`: a source within is a pod (semantics E3). Empty where the
    /// node has none: then pods count as outside clients (E5).
    pub pod_networks: Arc<Networks>,
    /// The addresses to masquerade with, where the operator names some.
    pub snat_pool: Arc<SnatPool>,
}

impl Snapshot {
    /// The front that packets to `key` meet.
    #[inline]
    pub fn front(&self, key: &FrontKey) -> Option<&Arc<Front>> {
        let draining = if self.draining.is_empty() { None } else { self.draining.get(key) };
        draining.or_else(|| self.fronts.get(key))
    }

    /// Whether packets that came in by `ingress` may meet `front`: cluster IPs are for pods alone
    /// (T1; the XDP program asks the same).
    #[inline]
    pub fn lets_in(&self, front: &Front, ingress: InterfaceSlot) -> bool {
        front.kind != FrontKind::ClusterIp
            || self.interface(ingress).is_some_and(|interface| interface.side == Side::Pods)
    }

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
