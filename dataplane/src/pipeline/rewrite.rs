//! NAT in place: addresses, ports, TTL, checksums, and the Ethernet header of the next link.

use crate::flow_table::{Direction, FlowEntry, TranslationV4};
use crate::packet::checksum::{self, Sum};
use crate::packet::headers::{ETHERNET_BYTES, IPV6_BYTES};
use crate::packet::vlan::{self, VlanTag};
use crate::pipeline::packet::{Headers, Packet, PacketKind};
use crate::pipeline::parse::parse;
use crate::types::{FlowKey, InterfaceSlot, IpAddress, L4Port, MacAddress, Protocol};

/// Where a packet leaves, and with which link addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Link {
    /// The interface.
    pub egress: InterfaceSlot,
    /// Ethernet destination and source.
    pub ends: LinkEnds,
    /// Largest IP packet in bytes.
    pub mtu_bytes: u16,
    /// The VLAN tag of the frames there.
    pub tag: VlanTag,
}

/// The first twelve bytes of a frame. Two numbers, since they stay in registers: two arrays would
/// be put together in memory, and waited for there.
#[derive(Debug, Clone, Copy)]
pub(super) struct LinkEnds(u64, u32);

impl LinkEnds {
    /// Those of frames from `source` to `destination`.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "four of six bytes")]
    pub(super) fn new(destination: MacAddress, source: MacAddress) -> Self {
        let number = |MacAddress([a, b, c, d, e, f])| u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        let (to, from) = (number(destination), number(source));
        Self(to | from << 48, (from >> 16) as u32)
    }
}

/// Turns a packet of this direction into what the other side must see.
#[inline]
pub(super) fn rewrite(
    packet: &mut Packet<'_>,
    entry: &FlowEntry,
    direction: Direction,
    link: &Link,
) {
    let (addresses, ports) = match direction {
        Direction::Forward => (entry.address_difference, entry.port_difference),
        Direction::Reply => {
            (checksum::negated(entry.address_difference), checksum::negated(entry.port_difference))
        }
    };
    let headers = &packet.headers;
    let frame = packet.buffer.get_mut(..packet.len).unwrap_or_default();
    rewrite_ethernet(frame, link);
    if entry.is_v4() {
        let outgoing = entry.translation_v4(direction);
        rewrite_ipv4(frame, &outgoing, addresses);
        let new_ports = [outgoing.source_port, outgoing.destination_port];
        let tuple = || tuple_v4(headers.key.protocol, &outgoing);
        rewrite_l4(frame, headers, new_ports, [addresses, ports], tuple);
    } else {
        rewrite_v6(frame, headers, &entry.outgoing(direction), [addresses, ports]);
    }
}

fn tuple_v4(protocol: Protocol, outgoing: &TranslationV4) -> FlowKey {
    FlowKey::new(
        protocol,
        (IpAddress::v4(outgoing.source), outgoing.source_port),
        (IpAddress::v4(outgoing.destination), outgoing.destination_port),
    )
}

/// Apart, so that the IPv4 path stays short in the instruction cache.
#[inline(never)]
fn rewrite_v6(frame: &mut [u8], headers: &Headers, outgoing: &FlowKey, differences: [u16; 2]) {
    rewrite_ipv6(frame, outgoing);
    let new_ports = [outgoing.src_port, outgoing.dst_port];
    rewrite_l4(frame, headers, new_ports, differences, || *outgoing);
}

#[inline(always)]
pub(super) fn rewrite_ethernet(frame: &mut [u8], link: &Link) {
    let Some(header) = frame.first_chunk_mut::<12>() else { return };
    header[..8].copy_from_slice(&link.ends.0.to_le_bytes());
    header[8..].copy_from_slice(&link.ends.1.to_le_bytes());
}

/// Turns the Ethernet header round: an answer goes where its packet came from.
pub(super) fn turn_ethernet(frame: &mut [u8]) -> Option<()> {
    let macs = frame.first_chunk_mut::<12>()?;
    macs.rotate_left(6);
    Some(())
}

/// Addresses, TTL and header checksum. The parser has seen the whole header.
#[inline(always)]
fn rewrite_ipv4(frame: &mut [u8], outgoing: &TranslationV4, addresses: u16) {
    let header = frame.get_mut(ETHERNET_BYTES..).and_then(|ip| ip.first_chunk_mut::<20>());
    let Some(header) = header else { return };
    let before = [header[8], header[9]];
    header[8] = header[8].saturating_sub(1);
    let after = [header[8], header[9]];
    // RFC 1624 equation 3, for the TTL's word and the addresses at once.
    let changes = Sum::default()
        .add_folded(!u16::from_ne_bytes(before))
        .add_word(after)
        .add_folded(addresses);
    let sum = checksum::updated([header[10], header[11]], changes);
    header[10..12].copy_from_slice(&sum);
    header[12..16].copy_from_slice(&outgoing.source);
    header[16..20].copy_from_slice(&outgoing.destination);
}

/// Addresses and hop limit. The parser has seen the whole header.
#[inline(always)]
fn rewrite_ipv6(frame: &mut [u8], outgoing: &FlowKey) {
    let header = frame.get_mut(ETHERNET_BYTES..).and_then(|ip| ip.first_chunk_mut::<IPV6_BYTES>());
    let Some(header) = header else { return };
    header[7] = header[7].saturating_sub(1);
    header[8..24].copy_from_slice(outgoing.src.bytes());
    header[24..40].copy_from_slice(outgoing.dst.bytes());
}

/// Finishes the checksum of a packet whose stack left it to the hardware, before it goes back to
/// the kernel, which verifies it. Anything else is left as it is.
pub fn finish_checksum(frame: &mut [u8]) {
    let frame = vlan::behind(frame);
    let Ok(headers) = parse(frame) else { return };
    // What stacks leave to the hardware is TCP's and UDP's checksum alone.
    if !matches!(headers.kind, PacketKind::Whole) {
        return;
    }
    let start = usize::from(headers.l4_offset);
    let Some(l4) = frame.get_mut(start..start + usize::from(headers.l4_bytes)) else { return };
    let at = checksum_offset(headers.key.protocol);
    let stored = l4.get(at..).and_then(|f| f.first_chunk::<2>().copied()).unwrap_or_default();
    if !is_partial(&headers, stored) {
        return;
    }
    let field = complete(l4, &headers.key, at);
    if let Some(place) = l4.get_mut(at..at + 2) {
        place.copy_from_slice(&field);
    }
}

pub(super) const fn checksum_offset(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 16,
        Protocol::Udp => 6,
    }
}

/// Ports and checksum; of a later fragment nothing. A first fragment's checksum covers the whole
/// datagram, so it can only be updated; stacks finish it before they fragment. `outgoing` is asked
/// for only where the whole checksum is made anew.
#[inline(always)]
fn rewrite_l4(
    frame: &mut [u8],
    headers: &Headers,
    [source_port, destination_port]: [L4Port; 2],
    [addresses, ports]: [u16; 2],
    outgoing: impl Fn() -> FlowKey,
) {
    let start = usize::from(headers.l4_offset);
    let Some(l4) = frame.get_mut(start..start + usize::from(headers.l4_bytes)) else { return };
    let protocol = headers.key.protocol;
    let at = checksum_offset(protocol);
    let Some(stored) = l4.get(at..).and_then(|f| f.first_chunk::<2>().copied()) else { return };
    let Some(port_bytes) = l4.first_chunk_mut::<4>() else { return };
    port_bytes[..2].copy_from_slice(&source_port.bytes());
    port_bytes[2..].copy_from_slice(&destination_port.bytes());
    let is_whole = matches!(headers.kind, PacketKind::Whole);
    let field = if is_whole && is_partial(headers, stored) {
        complete(l4, &outgoing(), at)
    } else if protocol == Protocol::Udp && stored == [0, 0] {
        // No checksum (RFC 768): stays none.
        stored
    } else {
        let changes = Sum::default().add_folded(addresses).add_folded(ports);
        checksum::updated(stored, changes)
    };
    let field = if protocol == Protocol::Udp { never_none(field, stored) } else { field };
    if let Some(place) = l4.get_mut(at..at + 2) {
        place.copy_from_slice(&field);
    }
}

/// A packet that a local stack left to the hardware to finish (CHECKSUM_PARTIAL, T9): its field
/// holds the sum of the pseudo-header alone. A finished checksum looks like that once in 65,536
/// times; then the full sum below is right as well.
#[inline(always)]
pub(super) fn is_partial(headers: &Headers, stored: [u8; 2]) -> bool {
    let pseudo = checksum::pseudo_header(&headers.key, usize::from(headers.l4_bytes));
    pseudo.fold() == u16::from_ne_bytes(stored)
}

/// The full checksum.
#[cold]
fn complete(l4: &mut [u8], outgoing: &FlowKey, at: usize) -> [u8; 2] {
    if let Some(place) = l4.get_mut(at..at + 2) {
        place.fill(0);
    }
    checksum::pseudo_header(outgoing, l4.len()).add_bytes(l4).finish()
}

/// A UDP checksum that comes out as 0 is sent as its other form (RFC 768), unless it was none.
#[inline]
pub(super) fn never_none(field: [u8; 2], stored: [u8; 2]) -> [u8; 2] {
    if field == [0, 0] && stored != [0, 0] { [0xff, 0xff] } else { field }
}
