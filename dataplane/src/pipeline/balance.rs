//! Packets without a flow: whose they are, and which backend a new flow gets.

use crate::affinity::AffinityTable;
use crate::flow_table::{Direction, FlowState, FlowTable, NewFlow, SnatRequest};
use crate::packet::headers::tcp_flags;
use crate::pipeline::flow::{forward, last_hop, low_half};
use crate::pipeline::packet::Packet;
use crate::pipeline::sticky::Sticky;
use crate::snapshot::{
    Backend, BackendSet, Front, FrontKey, FrontState, NextHopState, Selection, ServicePort,
    Snapshot,
};
use crate::stats::Traffic;
use crate::types::{FlowKey, IpAddress, L4Port, Protocol, Time};
use crate::verdict::{DropReason, PassReason, Verdict};
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

/// Decides a packet that has no flow here.
pub(super) fn new_flow(
    (flows, affinity): (&mut FlowTable, &AffinityTable),
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    if let Some(verdict) = owned_elsewhere(flows, packet) {
        return verdict;
    }
    let key = &packet.headers.key;
    let front = FrontKey::dialled(key);
    let Some(front) = snapshot.front(&front) else {
        return Verdict::Pass(PassReason::FrontGone);
    };
    if !snapshot.lets_in(front, packet.ingress) {
        return Verdict::Pass(PassReason::NoService);
    }
    if let Some(reason) = refused(front, packet) {
        return Verdict::Pass(reason);
    }
    packet.service = front.service.id;
    match front.meets(key.src, &snapshot.pod_networks) {
        Selection::Forward { backends, masquerade } => {
            let sticky = Sticky::new(affinity, flows, &front.service, key, now);
            let chosen = pick(flows, backends, (&front.service, key), sticky.as_ref());
            match begin(flows, packet, front, (chosen, *masquerade), snapshot, now) {
                Ok(flow) => {
                    if let (Some(sticky), Some(backend)) = (sticky, chosen) {
                        sticky.remember(backend);
                    }
                    packet.traffic = Traffic::NewFlow;
                    forward(flows, (flow, Direction::Forward), packet, snapshot, now)
                }
                Err(verdict) => verdict,
            }
        }
        Selection::Reject(reason) => Verdict::Reject(*reason),
        Selection::Drop(reason) => Verdict::Drop(*reason),
        Selection::Pass(reason) => Verdict::Pass(*reason),
    }
}

/// The flow may live on another worker: the XDP program or the directory knows.
pub(super) fn owned_elsewhere(flows: &FlowTable, packet: &Packet<'_>) -> Option<Verdict> {
    let other = packet.owner.filter(|owner| *owner != flows.worker());
    if !packet.is_handed {
        let owner = other.or_else(|| flows.other_owner(packet.hash));
        if let Some(owner) = owner {
            return Some(Verdict::HandOff(owner));
        }
    }
    // A reply without a flow: it ended while the packet was under way. It must not reach the
    // client with the backend's address (semantics G8), nor the kernel, which would reset it.
    packet.owner.map(|_| Verdict::Drop(DropReason::FlowStateInvalid))
}

/// Whether a front does not take this packet as the first of a flow.
fn refused(front: &Front, packet: &Packet<'_>) -> Option<PassReason> {
    let is_tcp = packet.headers.key.protocol == Protocol::Tcp;
    if is_tcp && !tcp_flags::is_opening(packet.headers.tcp_flags) {
        return Some(PassReason::TcpNotSyn);
    }
    (front.state == FrontState::Draining).then_some(PassReason::DrainingFront)
}

/// Hash of what a backend is chosen by: the client's tuple on every node alike, so not keyed, and
/// without the front's address, which differs between nodes for a node port. With affinity the
/// source port is left out, so that a client without memory gets its backend again (T11).
pub fn balancing_hash(service: &ServicePort, key: &FlowKey) -> u64 {
    let source_port = match service.affinity_timeout {
        Some(_) => L4Port::default(),
        None => key.src_port,
    };
    let mut bytes = [0u8; 24];
    bytes[..16].copy_from_slice(key.src.as_bytes());
    bytes[16..18].copy_from_slice(&source_port.bytes());
    bytes[18..20].copy_from_slice(&key.dst_port.bytes());
    bytes[20] = key.protocol as u8;
    xxh3_64(&bytes)
}

/// Whether a new flow leaves with an address of ours: where its front asks for it (`masquerade`),
/// and always where a pod is its own backend (hairpin, semantics F8): it would not send its answer
/// to us.
#[inline]
pub fn is_masqueraded(masquerade: bool, source: IpAddress, backend: &Backend) -> bool {
    masquerade || source == backend.address
}

fn pick<'s>(
    flows: &mut FlowTable,
    backends: &'s BackendSet,
    (service, key): (&ServicePort, &FlowKey),
    sticky: Option<&Sticky<'_>>,
) -> Option<&'s Backend> {
    let known = sticky.and_then(|sticky| sticky.recall(backends));
    known.or_else(|| backends.pick(balancing_hash(service, key), flows.random()))
}

/// Begins a flow to the chosen backend, if a packet can get there.
fn begin(
    flows: &mut FlowTable,
    packet: &Packet<'_>,
    front: &Front,
    (backend, masquerade): (Option<&Backend>, bool),
    snapshot: &Snapshot,
    now: Time,
) -> Result<crate::flow_table::FlowId, Verdict> {
    let backend = backend.ok_or(Verdict::Drop(DropReason::ServiceBackendNotFound))?;
    let key = packet.headers.key;
    if backend.address.is_v4() != key.src.is_v4() {
        return Err(Verdict::Drop(DropReason::FamilyMismatch));
    }
    let reply = reply_key(flows, &key, (backend, masquerade), snapshot, now);
    let reply = reply.map_err(Verdict::Drop)?;
    let (client_interface, client_mac) = last_hop(packet);
    let state = match key.protocol {
        Protocol::Tcp => FlowState::SynSent,
        Protocol::Udp => FlowState::UdpNew,
    };
    flows.begin(&NewFlow {
        forward: key,
        reply,
        next_hop: backend.next_hop,
        service: front.service.id,
        backend: backend.slot,
        client_interface,
        client_mac,
        state,
        version: low_half(snapshot),
        now_ms: now.as_millis_wrapping(),
    })
}

/// The tuple of the backend's packets: to the client itself, or to an address and port of ours.
fn reply_key(
    flows: &mut FlowTable,
    key: &FlowKey,
    (backend, masquerade): (&Backend, bool),
    snapshot: &Snapshot,
    now: Time,
) -> Result<FlowKey, DropReason> {
    let destination = (backend.address, backend.port);
    let hop = snapshot.next_hop(backend.next_hop).ok_or(DropReason::IpOutnoroutes)?;
    match hop.state {
        NextHopState::Resolved => {}
        NextHopState::Unresolved => return Err(DropReason::NeighFailed),
        NextHopState::NotAttached | NextHopState::NoRoute | NextHopState::Local => {
            return Err(DropReason::IpOutnoroutes);
        }
    }
    let masquerade = is_masqueraded(masquerade, key.src, backend);
    let kept = FlowKey::new(key.protocol, destination, (key.src, key.src_port));
    if !masquerade && flows.find(&kept, flows.hash(&kept)).is_none() {
        return Ok(kept);
    }
    // The same client port may dial two fronts of one pod: the second flow keeps the client's
    // address and gets another port, as conntrack does, or its replies could not be told apart.
    let own = core::slice::from_ref(&key.src);
    let pool = || snapshot.snat_pool.towards(hop, key.src.is_v4());
    let addresses = if masquerade { pool() } else { own };
    if addresses.is_empty() {
        return Err(DropReason::NoSnatAddress);
    }
    let request = SnatRequest {
        protocol: key.protocol,
        backend: destination,
        addresses,
        now_ms: now.as_millis_wrapping(),
    };
    flows.find_snat(&request).ok_or(DropReason::SnatPortsExhausted)
}
