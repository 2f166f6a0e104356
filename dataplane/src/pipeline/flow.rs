//! Packets of flows that live already.

use crate::flow_table::{Direction, FlowEntry, FlowId, FlowKind, FlowTable};
use crate::packet::headers::tcp_flags;
use crate::packet::vlan::VlanTag;
use crate::pipeline::fragment::cut;
use crate::pipeline::generated::Generated;
use crate::pipeline::packet::Packet;
use crate::pipeline::rewrite::{Link, LinkEnds, rewrite};
use crate::pipeline::tcp::{numbers, translate};
use crate::snapshot::{NextHopState, Snapshot};
use crate::stats::{FlowEnd, Traffic};
use crate::types::{InterfaceSlot, MacAddress, Protocol, Time};
use crate::verdict::{DropReason, RejectReason, Verdict};

/// What packets of live flows change.
pub(super) struct Ways<'p> {
    pub flows: &'p mut FlowTable,
    pub generated: &'p mut Generated,
}

/// Forwards a packet of a live flow; `None` if it has none, or its flow begins anew with it.
#[inline]
pub(super) fn known(
    ways: &mut Ways<'_>,
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Option<Verdict> {
    let flows = &mut *ways.flows;
    let (id, direction) = flows.find_at(packet.hint, &packet.headers.key, packet.hash)?;
    if direction == Direction::Forward && begins_anew(flows, id, packet, snapshot) {
        return flows
            .end(id, FlowEnd::Replaced)
            .then_some(())
            .map_or(Some(Verdict::Drop(DropReason::FlowTableFull)), |()| None);
    }
    Some(forward(ways, (id, direction), packet, snapshot, now))
}

/// Whether a client's packet must not reach the flow's backend any more: its tuple was closed and
/// opens again (kubernetes#81775), or its UDP backend stopped serving (semantics G2, G4).
#[inline]
fn begins_anew(
    flows: &mut FlowTable,
    id: FlowId,
    packet: &Packet<'_>,
    snapshot: &Snapshot,
) -> bool {
    let Some(entry) = flows.entry_mut(id) else { return false };
    match entry.protocol {
        Protocol::Tcp => {
            tcp_flags::is_opening(packet.headers.tcp_flags)
                && (entry.state.is_reopened_by_syn() || translate::is_another_syn(entry, packet))
        }
        Protocol::Udp => {
            let version = low_half(snapshot);
            if entry.version() == version {
                return false;
            }
            entry.confirm(version);
            !is_serving(entry, snapshot)
        }
    }
}

/// The part of a snapshot's number that flows remember.
#[expect(clippy::cast_possible_truncation, reason = "compared for equality only")]
pub(super) const fn low_half(snapshot: &Snapshot) -> u32 {
    snapshot.version.0 as u32
}

fn is_serving(entry: &FlowEntry, snapshot: &Snapshot) -> bool {
    let Some(service) = snapshot.services.get(&entry.service) else { return true };
    let reply = entry.key(Direction::Reply);
    service.serving.is_empty() || service.serving.contains(&(reply.src, reply.src_port))
}

/// Sends a packet on along its flow. The packet is whole and unchanged unless the verdict is
/// `Forward`; `Reject` is still to be answered.
#[inline]
pub(super) fn forward(
    ways: &mut Ways<'_>,
    (id, direction): (FlowId, Direction),
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
    now: Time,
) -> Verdict {
    let flows = &mut *ways.flows;
    let Some(entry) = flows.entry_mut(id) else {
        return Verdict::Drop(DropReason::FlowStateInvalid);
    };
    packet.service = entry.service;
    packet.flow = Some(id);
    if packet.headers.ttl <= 1 {
        return Verdict::Reject(RejectReason::TtlExceeded);
    }
    let link = match link(entry, direction, snapshot) {
        Ok(link) => link,
        Err(reason) => return Verdict::Drop(reason),
    };
    if !fits(packet, link.mtu_bytes, ways.generated) {
        return Verdict::Reject(RejectReason::PktTooBig);
    }
    match direction {
        Direction::Forward => remember_last_hop(entry, packet),
        Direction::Reply => packet.traffic = Traffic::Reply,
    }
    let was = entry.state;
    let is_believed = numbers::note(entry, direction, packet);
    if entry.kind != FlowKind::Plain
        && let Err(reason) = translate::beyond_addresses(
            (entry, direction),
            packet,
            (snapshot, &mut *ways.generated),
        )
    {
        return Verdict::Drop(reason);
    }
    let flags = packet.headers.tcp_flags;
    track(entry, direction, if is_believed { flags } else { 0 }, now);
    rewrite(packet, entry, direction, &link);
    packet.tag = link.tag;
    let (backend, is_settled) = (entry.backend, was != entry.state);
    if is_settled {
        flows.settle(id);
    }
    if !is_believed {
        flows.doubt(id);
    }
    count(flows, backend, direction, packet.len);
    // The SYN proxy may have made a smaller one of it.
    if packet.headers.ip_bytes > link.mtu_bytes {
        cut::cut(packet, &link, ways.generated, flows.counters());
    }
    Verdict::Forward(link.egress)
}

/// Whether a link takes a packet, be it in pieces. One that it does not take remembers why.
#[inline]
pub(super) fn fits(packet: &mut Packet<'_>, mtu_bytes: u16, generated: &Generated) -> bool {
    let is_too_big = packet.headers.ip_bytes > mtu_bytes;
    if is_too_big && !cut::may_be_cut(packet, mtu_bytes, generated) {
        packet.too_big_for = mtu_bytes;
        return false;
    }
    true
}

/// The link that packets of this direction leave by.
#[inline]
pub(super) fn link(
    entry: &FlowEntry,
    direction: Direction,
    snapshot: &Snapshot,
) -> Result<Link, DropReason> {
    if direction == Direction::Reply {
        return link_to_client(entry, snapshot).ok_or(DropReason::DevReady);
    }
    let hop = snapshot.next_hop(entry.next_hop).ok_or(DropReason::IpOutnoroutes)?;
    match hop.state {
        NextHopState::Resolved => Ok(Link {
            egress: hop.egress,
            ends: LinkEnds::new(hop.destination_mac, hop.source_mac),
            mtu_bytes: hop.mtu_bytes,
            tag: VlanTag::NONE,
        }),
        NextHopState::Unresolved => Err(DropReason::NeighFailed),
        NextHopState::NotAttached | NextHopState::NoRoute | NextHopState::Local => {
            Err(DropReason::IpOutnoroutes)
        }
    }
}

/// Auto last hop (T5): the way that the client's packets came.
#[inline]
fn link_to_client(entry: &FlowEntry, snapshot: &Snapshot) -> Option<Link> {
    let interface = snapshot.interface(entry.client_interface)?;
    Some(Link {
        egress: entry.client_interface,
        ends: LinkEnds::new(entry.client_mac, interface.mac),
        mtu_bytes: interface.mtu_bytes,
        tag: entry.client_tag,
    })
}

/// The client's router may have failed over: replies follow its latest packet.
#[inline]
fn remember_last_hop(entry: &mut FlowEntry, packet: &Packet<'_>) {
    let (interface, mac) = last_hop(packet);
    if entry.client_mac != mac
        || entry.client_interface != interface
        || entry.client_tag != packet.tag
    {
        entry.client_mac = mac;
        entry.client_interface = interface;
        entry.client_tag = packet.tag;
    }
}

/// Where a packet came from, on the link.
#[inline]
pub(super) fn last_hop(packet: &Packet<'_>) -> (InterfaceSlot, MacAddress) {
    let source = packet.buffer.get(6..12).and_then(|mac| mac.first_chunk::<6>().copied());
    (packet.ingress, MacAddress(source.unwrap_or_default()))
}

#[inline]
fn track(entry: &mut FlowEntry, direction: Direction, tcp_flags: u8, now: Time) {
    entry.last_seen_ms = now.as_millis_wrapping();
    entry.state = match entry.protocol {
        Protocol::Tcp => entry.state.after_tcp(direction, tcp_flags),
        Protocol::Udp => entry.state.after_udp(direction),
    };
}

#[inline]
fn count(
    flows: &FlowTable,
    backend: crate::types::BackendSlot,
    direction: Direction,
    frame_bytes: usize,
) {
    let counters = flows.counters().backend(backend);
    let (packets, bytes) = match direction {
        Direction::Forward => (&counters.forward_packets, &counters.forward_bytes),
        Direction::Reply => (&counters.reply_packets, &counters.reply_bytes),
    };
    packets.add(1);
    bytes.add(frame_bytes as u64);
}
