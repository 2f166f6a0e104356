//! Packets without a flow: whose they are, and which backend a new flow gets.

use crate::affinity::AffinityTable;
use crate::flow_table::{
    Direction, FlowId, FlowKind, FlowState, FlowTable, NewFlow, Proxy, SnatPort, SnatRequest,
};
use crate::packet::headers::tcp_flags;
use crate::pipeline::flow::{Ways, fits, forward, last_hop, low_half};
use crate::pipeline::gate::Gate;
use crate::pipeline::generated::Generated;
use crate::pipeline::packet::Packet;
use crate::pipeline::sticky::Sticky;
use crate::pipeline::tcp::mid_flow;
use crate::pipeline::tcp::syn_proxy::SynProxy;
use crate::snapshot::{
    Backend, BackendSet, Front, FrontKey, FrontState, NextHop, NextHopState, Selection,
    ServicePort, Snapshot,
};
use crate::stats::{FlowEnd, Traffic};
use crate::types::{FlowKey, IpAddress, L4Port, Protocol, Time};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};
use xxhash_rust::xxh3::xxh3_64;
use zerocopy::IntoBytes;

/// What new flows are made in.
pub(super) struct State<'p> {
    pub ways: Ways<'p>,
    pub affinity: &'p AffinityTable,
    pub gate: &'p mut Gate,
}

/// Where a new flow goes.
pub(super) struct Choice<'s> {
    pub front: &'s Front,
    /// `None` where no backend of the set has a usable next hop.
    pub backend: Option<&'s Backend>,
    /// Whether the front asks for an address of ours.
    pub masquerade: bool,
    pub kind: FlowKind,
    /// Of a handshake that its client had with us.
    pub proxy: Proxy,
}

/// Decides a packet that has no flow here.
pub(super) fn new_flow(
    state: &mut State<'_>,
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    if let Some(verdict) = owned_elsewhere(state.ways.flows, packet) {
        return verdict;
    }
    let headers = &packet.headers;
    let front = FrontKey::dialled(&headers.key);
    let Some(front) = snapshot.front(&front) else {
        return Verdict::Pass(PassReason::FrontGone);
    };
    if !snapshot.lets_in(front, packet.ingress) {
        return Verdict::Pass(PassReason::NoService);
    }
    let mut proxied = None;
    if headers.key.protocol == Protocol::Tcp && !tcp_flags::is_opening(headers.tcp_flags) {
        let counters = state.ways.flows.counters();
        let accept = |proxy: &SynProxy| proxy.accept(packet, counters, now);
        proxied = state.gate.proxy().and_then(accept);
        if proxied.is_none() {
            return mid_flow::decide(state, packet, front, snapshot, now);
        }
    }
    if front.state == FrontState::Draining {
        return Verdict::Pass(PassReason::DrainingFront);
    }
    packet.service = front.service.id;
    open(state, packet, (front, proxied), snapshot, now)
}

/// Decides the packet that opens a flow, or that completes its client's handshake with us.
fn open(
    state: &mut State<'_>,
    packet: &mut Packet<'_>,
    (front, proxied): (&Front, Option<Proxy>),
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    let key = packet.headers.key;
    match front.meets(key.src, &snapshot.pod_networks) {
        Selection::Forward { backends, masquerade } => {
            let flows = &mut *state.ways.flows;
            let sticky = Sticky::new(state.affinity, flows, &front.service, &key, now);
            let backend = pick(flows, backends, (&front.service, &key), sticky.as_ref());
            let is_syn = key.protocol == Protocol::Tcp && proxied.is_none();
            if is_syn && state.gate.is_proxying(flows) {
                return answer_syn(state, packet, backend, snapshot, now);
            }
            let choice = Choice {
                front,
                backend,
                masquerade: *masquerade,
                kind: proxied.map_or(FlowKind::Plain, |_| FlowKind::ProxyOpening),
                proxy: proxied.unwrap_or(Proxy::NONE),
            };
            let verdict = begin_and_forward(state, packet, &choice, snapshot, now);
            if let (Some(sticky), Some(backend), true) = (sticky, backend, packet.flow.is_some()) {
                sticky.remember(backend);
            }
            verdict
        }
        Selection::Reject(reason) => Verdict::Reject(*reason),
        Selection::Drop(reason) => Verdict::Drop(*reason),
        Selection::Pass(reason) => Verdict::Pass(*reason),
    }
}

/// Answers a SYN in its backend's place, if a packet could get there.
fn answer_syn(
    state: &mut State<'_>,
    packet: &mut Packet<'_>,
    backend: Option<&Backend>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    let way = |backend| next_hop(backend, snapshot).map_err(Verdict::Drop);
    let hop = usable(backend, &packet.headers.key).and_then(way);
    let Some(proxy) = state.gate.proxy() else { return Verdict::Drop(DropReason::TcpNotSyn) };
    match hop {
        Ok(hop) => proxy.answer(packet, hop, (snapshot, state.ways.flows.counters()), now),
        Err(verdict) => verdict,
    }
}

/// Begins the flow if its first packet can go on and the gate lets it, and sends that along. Where
/// it cannot, all is left as it was.
pub(super) fn begin_and_forward(
    state: &mut State<'_>,
    packet: &mut Packet<'_>,
    choice: &Choice<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    if let Err(verdict) = check_way(packet, choice, snapshot, state.ways.generated) {
        return verdict;
    }
    if !state.gate.lets_begin(now) {
        return Verdict::Drop(DropReason::NewFlowsLimited);
    }
    match begin(state.ways.flows, packet, choice, snapshot, now) {
        Ok(flow) => {
            packet.traffic = Traffic::NewFlow;
            if let Some(entry) = state.ways.flows.entry_mut(flow) {
                entry.proxy = choice.proxy;
            }
            let verdict =
                forward(&mut state.ways, (flow, Direction::Forward), packet, snapshot, now);
            // A flow whose first packet does not leave after all never was, as in conntrack, which
            // confirms a flow when its first packet leaves.
            if matches!(verdict, Verdict::Drop(_)) && state.ways.flows.end(flow, FlowEnd::Refused) {
                packet.flow = None;
            }
            verdict
        }
        Err(verdict) => verdict,
    }
}

/// Whether a flow's first packet gets to its backend.
fn check_way(
    packet: &mut Packet<'_>,
    choice: &Choice<'_>,
    snapshot: &Snapshot,
    generated: &Generated,
) -> Result<(), Verdict> {
    let backend = usable(choice.backend, &packet.headers.key)?;
    let hop = next_hop(backend, snapshot).map_err(Verdict::Drop)?;
    if packet.headers.ttl <= 1 {
        return Err(Verdict::Reject(RejectReason::TtlExceeded));
    }
    let fits = fits(packet, hop.mtu_bytes, generated);
    if fits { Ok(()) } else { Err(Verdict::Reject(RejectReason::PktTooBig)) }
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
    choice: &Choice<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Result<FlowId, Verdict> {
    let key = packet.headers.key;
    let backend = usable(choice.backend, &key)?;
    let reply = reply_key(flows, &key, (backend, choice.masquerade), snapshot, now);
    let SnatPort { reply, instead_of } = reply.map_err(Verdict::Drop)?;
    let (client_interface, client_mac) = last_hop(packet);
    let state = match key.protocol {
        Protocol::Tcp => FlowState::SynSent,
        Protocol::Udp => FlowState::UdpNew,
    };
    flows.begin(&NewFlow {
        forward: key,
        reply,
        next_hop: backend.next_hop,
        service: choice.front.service.id,
        backend: backend.slot,
        client_interface,
        client_mac,
        state,
        kind: choice.kind,
        version: low_half(snapshot),
        now_ms: now.as_millis_wrapping(),
        instead_of,
    })
}

/// A backend of the packet's family.
fn usable<'s>(backend: Option<&'s Backend>, key: &FlowKey) -> Result<&'s Backend, Verdict> {
    let backend = backend.ok_or(Verdict::Drop(DropReason::ServiceBackendNotFound))?;
    if backend.address.is_v4() != key.src.is_v4() {
        return Err(Verdict::Drop(DropReason::FamilyMismatch));
    }
    Ok(backend)
}

/// Where packets to a backend go.
fn next_hop<'s>(backend: &Backend, snapshot: &'s Snapshot) -> Result<&'s NextHop, DropReason> {
    let hop = snapshot.next_hop(backend.next_hop).ok_or(DropReason::IpOutnoroutes)?;
    match hop.state {
        NextHopState::Resolved => Ok(hop),
        NextHopState::Unresolved => Err(DropReason::NeighFailed),
        NextHopState::NotAttached | NextHopState::NoRoute | NextHopState::Local => {
            Err(DropReason::IpOutnoroutes)
        }
    }
}

/// The tuple of the backend's packets if the client keeps its address and port: no masquerading
/// asks for others, and no live flow has it.
pub(super) fn kept_reply(
    flows: &FlowTable,
    key: &FlowKey,
    (backend, masquerade): (&Backend, bool),
) -> Option<FlowKey> {
    let to_backend = (backend.address, backend.port);
    let kept = FlowKey::new(key.protocol, to_backend, (key.src, key.src_port));
    (!masquerade && flows.find(&kept, flows.hash(&kept)).is_none()).then_some(kept)
}

/// The tuple of the backend's packets: to the client itself, or to an address and port of ours.
fn reply_key(
    flows: &mut FlowTable,
    key: &FlowKey,
    (backend, masquerade): (&Backend, bool),
    snapshot: &Snapshot,
    now: Time,
) -> Result<SnatPort, DropReason> {
    let destination = (backend.address, backend.port);
    let hop = next_hop(backend, snapshot)?;
    let masquerade = is_masqueraded(masquerade, key.src, backend);
    if let Some(reply) = kept_reply(flows, key, (backend, masquerade)) {
        return Ok(SnatPort { reply, instead_of: None });
    }
    // The same client port may dial two fronts of one pod: the second flow keeps the client's
    // address and gets another port, as conntrack does, or its replies could not be told apart.
    let own = core::slice::from_ref(&key.src);
    let pool = || snapshot.snat_pool.towards(hop, key.src.is_v4());
    let addresses = if masquerade { pool() } else { own };
    if addresses.is_empty() {
        return Err(DropReason::NoSnatAddress);
    }
    let request = SnatRequest { protocol: key.protocol, backend: destination, addresses, now };
    flows.find_snat(&request).ok_or(DropReason::SnatPortsExhausted)
}
