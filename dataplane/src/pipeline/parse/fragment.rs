//! Fragments. The first has the L4 header, the later ones have addresses and the sender's number.

use super::{Part, parse_l4};
use crate::packet::headers::{Ipv4, protocol};
use crate::pipeline::packet::{Headers, PacketKind};
use crate::types::{FlowKey, IpAddress, L4Port, Protocol};
use crate::verdict::{PassReason, Verdict};

/// An IPv4 fragment, of which `payload` follows the header. Returns how much of that is L4.
pub(super) fn parse_v4(headers: &mut Headers, ip: &Ipv4, payload: &[u8]) -> Result<usize, Verdict> {
    const OFFSET: u16 = 0x1fff;
    let (source, destination) = (IpAddress::v4(ip.source), IpAddress::v4(ip.destination));
    let place = Place {
        id: ip.identification.get().into(),
        is_later: ip.fragment.get() & OFFSET != 0,
        ends: (source, destination),
    };
    parse(headers, ip.protocol, &place, payload)
}

/// Which fragment of which datagram.
pub(super) struct Place {
    pub(super) id: u32,
    pub(super) is_later: bool,
    pub(super) ends: (IpAddress, IpAddress),
}

/// A fragment of either family. Returns how much of its payload is L4.
pub(super) fn parse(
    headers: &mut Headers,
    upper: u8,
    place: &Place,
    payload: &[u8],
) -> Result<usize, Verdict> {
    let protocol = match upper {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return Err(Verdict::Pass(PassReason::Fragment)),
    };
    let (source, destination) = place.ends;
    if place.is_later {
        let none = L4Port::default();
        headers.key = FlowKey::new(protocol, (source, none), (destination, none));
        headers.kind = PacketKind::LaterFragment(place.id);
        return Ok(0);
    }
    let l4 = parse_l4(upper, payload, Part::First)?;
    let ports = (L4Port::from_bytes(l4.source), L4Port::from_bytes(l4.destination));
    headers.key = FlowKey::new(protocol, (source, ports.0), (destination, ports.1));
    headers.kind = PacketKind::FirstFragment(place.id);
    headers.tcp_flags = l4.tcp_flags;
    Ok(payload.len())
}
