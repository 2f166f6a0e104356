//! Fronts: the addresses that clients dial, and the service ports behind them.

use crate::snapshot::backend::BackendSet;
use crate::snapshot::networks::Networks;
use crate::types::{FlowKey, IpAddress, L4Port, Protocol, ServiceId};
use crate::verdict::{DropReason, PassReason, RejectReason};
use core::time::Duration;
use hashbrown::HashSet;
use std::sync::Arc;

/// What makes a front: no two services own the same one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct FrontKey {
    /// The address that clients dial.
    pub address: IpAddress,
    /// The port that clients dial.
    pub port: L4Port,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl FrontKey {
    /// The front that a packet of this tuple dials.
    #[inline]
    pub const fn dialled(key: &FlowKey) -> Self {
        Self { address: key.dst, port: key.dst_port, protocol: key.protocol }
    }
}

/// Which field of the Service made the front.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrontKind {
    /// A node address and `nodePort`.
    NodePort,
    /// `status.loadBalancer.ingress`.
    LoadBalancer,
    /// `spec.externalIPs`.
    ExternalIp,
    /// `spec.clusterIPs`; only with `clusterIP: serve`.
    ClusterIp,
}

/// Whether a front takes new flows (T1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrontState {
    /// Takes new flows.
    Active,
    /// Removed from the cluster, kept for its live TCP flows; new flows pass to the kernel.
    Draining,
}

/// A pair (address, port, protocol) that a service owns, with what a new flow to it meets.
#[derive(Debug, Clone)]
pub struct Front {
    /// The pair.
    pub key: FrontKey,
    /// Where it comes from.
    pub kind: FrontKind,
    /// Active or draining.
    pub state: FrontState,
    /// The service port that owns it.
    pub service: Arc<ServicePort>,
    /// Whom a VIP lets in; `None` lets in everybody (semantics F1, F4).
    pub source_ranges: Option<Arc<Networks>>,
    /// What a new flow of a client outside the cluster meets.
    pub outside: Selection,
    /// What a new flow of one of the node's own pods meets (semantics E1, E3).
    pub pods: Selection,
}

/// What a source outside the ranges meets.
static DENIED: Selection = Selection::Drop(DropReason::DeniedByLbSrcRangeCheck);

impl Front {
    /// What a new flow from `source` meets, where `pods` are the node's own pods. Ranges are asked
    /// first, of pods too: outside them even a front without endpoints is silent (semantics F1,
    /// F2; F5 as kube-proxy's nftables mode has it).
    #[inline]
    pub fn meets(&self, source: IpAddress, pods: &Networks) -> &Selection {
        if self.source_ranges.as_ref().is_some_and(|ranges| !ranges.contains(source)) {
            return &DENIED;
        }
        if pods.contains(source) { &self.pods } else { &self.outside }
    }
}

/// What a new flow meets: decided by control once per change, not per packet.
#[derive(Debug, Clone)]
pub enum Selection {
    /// Balance over the set.
    Forward {
        /// The backends that may be chosen. Never empty.
        backends: Arc<BackendSet>,
        /// Replace the client's address (policy Cluster, semantics E1) or keep it (Local, E2).
        masquerade: bool,
    },
    /// Answer with an ICMP error (semantics D1).
    Reject(RejectReason),
    /// Drop in silence (semantics D2).
    Drop(DropReason),
    /// Leave to the kernel (T12).
    Pass(PassReason),
}

/// One port of a Service: what fronts share, and what flows are checked against.
#[derive(Debug, Clone)]
pub struct ServicePort {
    /// Number in counters and flows. Counters of their own up to
    /// [`crate::types::SERVICE_SLOTS_MAX`].
    pub id: ServiceId,
    /// `metadata.namespace`.
    pub namespace: Arc<str>,
    /// `metadata.name`.
    pub name: Arc<str>,
    /// The port's name; empty where the Service names none.
    pub port_name: Arc<str>,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Every backend that still serves, whatever the policy: a UDP flow to one outside this set
    /// is balanced anew (semantics G2), a TCP flow never is (G1).
    pub serving: Arc<HashSet<(IpAddress, L4Port)>>,
    /// `sessionAffinity: ClientIP`: how long a client's last new flow holds it to its backend
    /// (semantics F13). `None`: no affinity.
    pub affinity_timeout: Option<Duration>,
}
