//! What one compilation gives.

use crate::config::Role;
use crate::model::{ObjectKey, TrafficPolicy};
use crate::netlink::Link;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::engine::AttachRequest;
use tidegate_dataplane::snapshot::{FrontKey, Snapshot};
use tidegate_dataplane::types::{
    BackendSlot, IfIndex, InterfaceSlot, IpAddress, L4Port, NextHopId, Protocol, ServiceId,
};

/// The interfaces that are attached and bound now, by the slot of their [`AttachRequest`].
pub type Attached = BTreeMap<InterfaceSlot, IfIndex>;

/// What one compilation gives, beside the reports that the compiler keeps.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// To be published. Its version is set by the packet path.
    pub snapshot: Snapshot,
    /// The fronts that came, changed or went since the compilation before, published or not.
    pub changed_fronts: Vec<FrontKey>,
    /// The Services whose reports came, changed or went, likewise.
    pub changed_services: Vec<ObjectKey>,
    /// The interfaces that may be attached now, by slot; what is attached and not in here is to be
    /// detached. After either, compile anew.
    pub wanted: Arc<[WantedInterface]>,
    /// Those that would be in there, were it not for what each says.
    pub left_out: Arc<[LeftOut]>,
    /// Neighbours to ask the kernel for, each once.
    pub probes: Arc<[(IfIndex, IpAddr)]>,
    /// What the operator should know and no service tells: interfaces that are missing or cannot
    /// be attached, a node without addresses.
    pub warnings: Vec<String>,
}

impl Compiled {
    /// This one, after `before` was not published: what changed then is still to be published.
    #[must_use]
    pub fn after(mut self, before: Self) -> Self {
        self.changed_fronts.extend(before.changed_fronts);
        self.changed_services.extend(before.changed_services);
        self
    }
}

/// An interface that is asked for and must not be attached as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The kernel's number.
    pub index: IfIndex,
    /// The kernel's name.
    pub name: Box<str>,
    /// Why, and what to type.
    pub reason: String,
}

/// An interface to be attached.
#[derive(Debug, Clone)]
pub struct WantedInterface {
    /// What to ask the packet path for.
    pub request: AttachRequest,
    /// Who is behind it.
    pub role: Role,
    /// Start-up fails if it cannot be attached: it is named exactly, not by a glob.
    pub is_required: bool,
    /// It is to be attached. Where not, it is attached, and no new flow needs that.
    pub is_needed: bool,
    /// Its link as it is now: a change of it may let in what was refused before.
    pub link: Link,
}

/// What became of one port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceReport {
    /// Its number in counters and flows.
    pub id: ServiceId,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The port's name; may be empty.
    pub port_name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// `port`.
    pub port: L4Port,
    /// `nodePort`, given or chosen.
    pub node_port: Option<L4Port>,
    /// `externalTrafficPolicy`; `internalTrafficPolicy` where all its fronts are cluster IPs.
    pub policy: TrafficPolicy,
    /// `internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// What clients dial.
    pub fronts: Vec<FrontKey>,
    /// What a new flow meets; where its families differ, what one that is not forwarded does.
    pub selection: SelectionKind,
    /// All its endpoints, sorted by address and port.
    pub backends: Vec<BackendReport>,
    /// Endpoints that are ready.
    pub ready_count: usize,
    /// Endpoints that still serve while they terminate.
    pub draining_count: usize,
    /// What it asks for and does not get.
    pub warnings: Vec<String>,
}

/// What a new flow meets, without the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SelectionKind {
    /// A backend.
    Forward,
    /// An ICMP error.
    Reject,
    /// Nothing.
    Drop,
    /// The kernel.
    Pass,
}

/// One endpoint of a service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendReport {
    /// Its address.
    pub address: IpAddress,
    /// Its port.
    pub port: L4Port,
    /// The pod behind it, where known.
    pub pod: Option<Arc<str>>,
    /// Its counters.
    pub slot: BackendSlot,
    /// Its entry of the next-hop table.
    pub next_hop: NextHopId,
    /// Ready, draining or not ready.
    pub state: BackendState,
    /// Whether it runs on this node.
    pub is_local: bool,
    /// Whether new flows may get it.
    pub is_used: bool,
    /// Why not; `None` where they may.
    pub reason: Option<Cow<'static, str>>,
}

/// What an endpoint's conditions say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// Takes new flows.
    Ready,
    /// Terminating and still serving: keeps its flows.
    Draining,
    /// Neither.
    NotReady,
}

impl BackendState {
    /// The word for tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::NotReady => "not ready",
        }
    }
}
