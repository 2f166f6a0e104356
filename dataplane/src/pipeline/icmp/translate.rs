//! Errors of others about our flows (semantics G10, T1): translated as conntrack does
//! (`nf_nat_icmp_reply_translation`), so that the host they go to knows what they quote.

use crate::flow_table::{Direction, FlowEntry, FlowTable};
use crate::packet::checksum::{self, Sum, address_sum, difference, port_sum};
use crate::packet::headers::{ETHERNET_BYTES, IPV4_BYTES_MIN, IPV6_BYTES};
use crate::pipeline::balance::owned_elsewhere;
use crate::pipeline::flow::link;
use crate::pipeline::fragment::cut;
use crate::pipeline::generated::Generated;
use crate::pipeline::packet::{Headers, Packet, PacketKind, Quote};
use crate::pipeline::rewrite::{checksum_offset, never_none, rewrite_ethernet};
use crate::pipeline::tcp::translate::{add, distance};
use crate::snapshot::Snapshot;
use crate::types::{FlowKey, IpAddress, Protocol};
use crate::verdict::{DropReason, PassReason, Verdict};

/// Quoted L4 bytes that may change: up to the end of TCP's checksum.
const L4_CHANGED_BYTES: usize = 18;

/// Sends an error on to the other side of the flow whose packet it quotes. The flow does not live
/// longer by it, and its state stays: anybody can send an error (RFC 5927).
#[inline(never)]
pub(in crate::pipeline) fn translate(
    (flows, generated): (&FlowTable, &mut Generated),
    packet: &mut Packet<'_>,
    snapshot: &Snapshot,
) -> Verdict {
    let PacketKind::Error(quote) = packet.headers.kind else {
        return Verdict::Drop(DropReason::FlowStateInvalid);
    };
    let key = &packet.headers.key;
    let Some((id, direction)) = flows.find_at(packet.hint, key, packet.hash) else {
        let elsewhere = owned_elsewhere(flows, packet);
        return elsewhere.unwrap_or(Verdict::Pass(PassReason::FrontGone));
    };
    let Some(entry) = flows.entry(id) else {
        return Verdict::Drop(DropReason::FlowStateInvalid);
    };
    packet.service = entry.service;
    packet.flow = Some(id);
    let link = match link(entry, direction, snapshot) {
        Ok(link) => link,
        Err(reason) => return Verdict::Drop(reason),
    };
    // No error is answered with an error (RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e)).
    if packet.headers.ttl <= 1 {
        return Verdict::Drop(DropReason::TtlExceeded);
    }
    let is_too_big = packet.headers.ip_bytes > link.mtu_bytes;
    if is_too_big && !cut::may_be_cut(packet, link.mtu_bytes, generated) {
        return Verdict::Drop(DropReason::PktTooBig);
    }
    packet.tag = link.tag;
    let headers = packet.headers;
    let frame = packet.bytes_mut();
    rewrite_ethernet(frame, &link);
    let quoted = rewrite_quote(frame, &headers, quote, entry, direction);
    rewrite_outside(frame, &headers, (entry, direction), quoted);
    if is_too_big {
        cut::cut(packet, &link, generated, flows.counters());
    }
    Verdict::Forward(link.egress)
}

/// Makes the quoted packet what its sender sent. Returns what that adds to the ICMP checksum.
fn rewrite_quote(
    frame: &mut [u8],
    headers: &Headers,
    quote: Quote,
    entry: &FlowEntry,
    direction: Direction,
) -> u16 {
    // It left us with the answer's tuple turned round, and came to us with this one.
    let (left, came) = (entry.key(direction).reversed(), entry.outgoing(direction).reversed());
    let end = usize::from(headers.l4_offset + headers.l4_bytes);
    let l4_offset = usize::from(quote.l4_offset);
    let changed_end = end.min(l4_offset + L4_CHANGED_BYTES);
    let Some(region) = frame.get_mut(usize::from(quote.ip_offset)..changed_end) else { return 0 };
    let before = Sum::default().add_bytes(region);
    let header_bytes = l4_offset - usize::from(quote.ip_offset);
    let Some((ip, l4)) = region.split_at_mut_checked(header_bytes) else { return 0 };
    let addresses = difference(address_sum(&came), address_sum(&left));
    set_addresses(ip, (came.src, came.dst));
    if came.src.is_v4() {
        update(ip, 10, Sum::default().add_folded(addresses));
    }
    if direction == Direction::Forward {
        // A backend looks for the sequence number in what it has sent (RFC 5927 section 4.1).
        add(l4, 4, distance(entry));
    }
    rewrite_quoted_l4(l4, &came, addresses, difference(port_sum(&came), port_sum(&left)));
    difference(Sum::default().add_bytes(region), before)
}

/// Ports, and the checksum if it is quoted.
fn rewrite_quoted_l4(l4: &mut [u8], came: &FlowKey, addresses: u16, ports: u16) {
    if let Some(place) = l4.first_chunk_mut::<4>() {
        place[..2].copy_from_slice(&came.src_port.bytes());
        place[2..].copy_from_slice(&came.dst_port.bytes());
    }
    let at = checksum_offset(came.protocol);
    let field = l4.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>());
    let Some(field) = field else { return };
    let is_none = came.protocol == Protocol::Udp && *field == [0, 0];
    if !is_none {
        let changes = Sum::default().add_folded(addresses).add_folded(ports);
        let updated = checksum::updated(*field, changes);
        *field = if came.protocol == Protocol::Udp { never_none(updated, *field) } else { updated };
    }
}

/// Outer addresses, TTL, and the checksums of both headers. Whoever sent the error, where the flow
/// hides its sender's side it comes from the address that stands for it, as conntrack does: a
/// router's own may be unknown to the other side, and be filtered there.
fn rewrite_outside(
    frame: &mut [u8],
    headers: &Headers,
    (entry, direction): (&FlowEntry, Direction),
    quoted: u16,
) {
    let (before, after) = (entry.key(direction), entry.outgoing(direction));
    let start = usize::from(headers.l4_offset);
    let Some((head, message)) = frame.split_at_mut_checked(start) else { return };
    let Some(ip) = head.get_mut(ETHERNET_BYTES..) else { return };
    let source = if before.src == after.src { source_of(ip, &after) } else { Some(after.src) };
    let Some(source) = source else { return };
    let outer = if after.src.is_v4() {
        rewrite_ipv4(ip, (source, after.dst));
        0
    } else {
        rewrite_ipv6(ip, (source, after.dst))
    };
    update(message, 2, Sum::default().add_folded(quoted).add_folded(outer));
}

fn source_of(ip: &[u8], family_of: &FlowKey) -> Option<IpAddress> {
    if family_of.src.is_v4() {
        return ip.get(12..)?.first_chunk().map(|bytes| IpAddress::v4(*bytes));
    }
    ip.get(8..)?.first_chunk().map(|bytes| IpAddress::from_bytes(*bytes))
}

fn rewrite_ipv4(ip: &mut [u8], ends: (IpAddress, IpAddress)) {
    let Some(header) = ip.first_chunk_mut::<IPV4_BYTES_MIN>() else { return };
    let before = Sum::default().add_bytes(header);
    header[8] = header[8].saturating_sub(1);
    set_addresses(header, ends);
    let changes = difference(Sum::default().add_bytes(header), before);
    update(header, 10, Sum::default().add_folded(changes));
}

/// Returns what the addresses add to the ICMP checksum.
fn rewrite_ipv6(ip: &mut [u8], ends: (IpAddress, IpAddress)) -> u16 {
    let Some(header) = ip.first_chunk_mut::<IPV6_BYTES>() else { return 0 };
    header[7] = header[7].saturating_sub(1);
    let before = Sum::default().add_bytes(header);
    set_addresses(header, ends);
    difference(Sum::default().add_bytes(header), before)
}

fn set_addresses(ip: &mut [u8], (source, destination): (IpAddress, IpAddress)) {
    if source.is_v4() {
        if let Some(header) = ip.first_chunk_mut::<IPV4_BYTES_MIN>() {
            header[12..16].copy_from_slice(&source.v4_bytes());
            header[16..].copy_from_slice(&destination.v4_bytes());
        }
    } else if let Some(header) = ip.first_chunk_mut::<IPV6_BYTES>() {
        header[8..24].copy_from_slice(source.bytes());
        header[24..].copy_from_slice(destination.bytes());
    }
}

/// Updates the checksum field at `at`.
fn update(bytes: &mut [u8], at: usize, changes: Sum) {
    if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *field = checksum::updated(*field, changes);
    }
}
