//! IPv6: the fixed header, and the extension headers behind it.

use super::{Part, fragment, parse_l4, prefix, quote, short};
use crate::packet::extension::{self, Fragment, Obstacle};
use crate::packet::headers::{ETHERNET_BYTES, IPV6_BYTES, Ipv6, protocol};
use crate::pipeline::packet::{Headers, PacketKind};
use crate::types::{FlowKey, IpAddress, L4Port, Protocol};
use crate::verdict::{DropReason, Verdict};

#[inline(never)]
pub(super) fn parse(headers: &mut Headers, packet: &[u8]) -> Result<(), Verdict> {
    let (ip, rest) = prefix::<Ipv6>(packet, DropReason::PktTooSmall)?;
    if ip.version() != 6 {
        return Err(Verdict::Drop(DropReason::IpInhdr));
    }
    // A jumbogram says 0 (RFC 2675): then its headers have no room.
    let payload = rest.get(..usize::from(ip.payload_length.get()));
    let payload = payload.ok_or(Verdict::Drop(DropReason::HdrTrunc))?;
    let (source, destination) = (IpAddress::from_bytes(ip.source), ip.destination);
    let destination = IpAddress::from_bytes(destination);
    if !is_host_address(&ip.source) || destination.is_v4() {
        return Err(Verdict::Drop(DropReason::InvalidSourceIp));
    }
    let upper = extension::skip(ip.next_header, payload).map_err(verdict)?;
    let l4 = payload.get(upper.offset..).unwrap_or_default();
    let l4_bytes = if let Some(Fragment { id, is_later }) = upper.fragment {
        let place = fragment::Place { id, is_later, ends: (source, destination) };
        fragment::parse(headers, upper.protocol, &place, l4)?
    } else if upper.protocol == protocol::ICMPV6 {
        quote::parse_v6(headers, (ip, upper.offset), l4)?
    } else {
        let l4_header = parse_l4(upper.protocol, l4, Part::Whole)?;
        headers.key = FlowKey::new(
            l4_header.protocol,
            (source, L4Port::from_bytes(l4_header.source)),
            (destination, L4Port::from_bytes(l4_header.destination)),
        );
        headers.tcp_flags = l4_header.tcp_flags;
        l4.len()
    };
    let has_udp = headers.key.protocol == Protocol::Udp && l4_bytes > 0;
    let is_error = matches!(headers.kind, PacketKind::Error(_));
    if has_udp && !is_error && l4.get(6..8) == Some(&[0, 0]) {
        return Err(Verdict::Drop(DropReason::UdpCsum));
    }
    headers.l4_offset = short(ETHERNET_BYTES + IPV6_BYTES + upper.offset);
    headers.l4_bytes = short(l4_bytes);
    headers.ip_bytes = short(IPV6_BYTES + payload.len());
    headers.ttl = ip.hop_limit;
    Ok(())
}

/// What the XDP program leaves to the kernel never comes here; should it, it is dropped by name.
fn verdict(obstacle: Obstacle) -> Verdict {
    match obstacle {
        Obstacle::Truncated => Verdict::Drop(DropReason::HdrTrunc),
        Obstacle::Routed | Obstacle::Unordered => Verdict::Drop(DropReason::Ipv6BadExthdr),
    }
}

/// Whether a packet from this address may be forwarded: not unspecified, loopback or multicast
/// (RFC 4291 section 2), not link-local (RFC 4291 section 2.5.6), and not an IPv4 address in
/// mapped form, which would be that IPv4 address in our keys.
fn is_host_address(source: &[u8; 16]) -> bool {
    let is_mapped = IpAddress::from_bytes(*source).is_v4();
    let is_special = matches!(source, [0xff, ..] | [0xfe, 0x80..=0xbf, ..]);
    let is_low = matches!(source, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 | 1]);
    !(is_mapped || is_special || is_low)
}
