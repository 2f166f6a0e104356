//! ICMP errors: the packet that they quote tells whose they are. Ours was sent by us, so what our
//! tables know is the tuple of its answer, and the error is as that answer.

use super::short;
use crate::packet::extension;
use crate::packet::headers::{ETHERNET_BYTES, IPV4_BYTES_MIN, IPV6_BYTES, Ipv4, Ipv6, protocol};
use crate::packet::icmp::{self, ICMP_BYTES, QUOTED_L4_BYTES};
use crate::pipeline::packet::{Headers, PacketKind, Quote};
use crate::types::{FlowKey, IpAddress, L4Port, Protocol};
use crate::verdict::{PassReason, Verdict};
use zerocopy::FromBytes;

/// What is no error about TCP or UDP that can be told belongs to the kernel.
const NOT_OURS: Verdict = Verdict::Pass(PassReason::NoService);

/// Reads the quote of an ICMP message, which follows `header_bytes` of IPv4. Returns the message's
/// length.
pub(super) fn parse_v4(
    headers: &mut Headers,
    (ip, header_bytes): (&Ipv4, usize),
    message: &[u8],
) -> Result<usize, Verdict> {
    let quote = quote(message, icmp::v4::is_error).ok_or(NOT_OURS)?;
    let (quoted, _) = Ipv4::ref_from_prefix(quote).map_err(|_short| NOT_OURS)?;
    let is_later_fragment = quoted.fragment.get() & 0x1fff != 0;
    let is_good = quoted.version() == 4 && quoted.header_bytes() >= IPV4_BYTES_MIN;
    // An error goes to the source of what it quotes.
    if !is_good || is_later_fragment || quoted.source != ip.destination {
        return Err(NOT_OURS);
    }
    let l4 = quote.get(quoted.header_bytes()..).unwrap_or_default();
    let (from, to) = (IpAddress::v4(quoted.source), IpAddress::v4(quoted.destination));
    headers.key = answer(quoted.protocol, (from, to), l4).ok_or(NOT_OURS)?;
    headers.kind = kind(header_bytes, quoted.header_bytes());
    Ok(message.len())
}

/// Reads the quote of an ICMPv6 message, which follows `extension_bytes` of extension headers.
/// Returns the message's length.
#[inline(never)]
pub(super) fn parse_v6(
    headers: &mut Headers,
    (ip, extension_bytes): (&Ipv6, usize),
    message: &[u8],
) -> Result<usize, Verdict> {
    let quote = quote(message, icmp::v6::is_error).ok_or(NOT_OURS)?;
    let (quoted, rest) = Ipv6::ref_from_prefix(quote).map_err(|_short| NOT_OURS)?;
    let to = IpAddress::from_bytes(quoted.destination);
    if quoted.version() != 6 || quoted.source != ip.destination || to.is_v4() {
        return Err(NOT_OURS);
    }
    let upper = extension::skip(quoted.next_header, rest).map_err(|_obstacle| NOT_OURS)?;
    if upper.fragment.is_some_and(|fragment| fragment.is_later) {
        return Err(NOT_OURS);
    }
    let l4 = rest.get(upper.offset..).unwrap_or_default();
    let from = IpAddress::from_bytes(quoted.source);
    headers.key = answer(upper.protocol, (from, to), l4).ok_or(NOT_OURS)?;
    headers.kind = kind(IPV6_BYTES + extension_bytes, IPV6_BYTES + upper.offset);
    Ok(message.len())
}

/// What an error quotes; `None` if the message is no error.
fn quote(message: &[u8], is_error: fn(u8) -> bool) -> Option<&[u8]> {
    let (header, quote) = message.split_first_chunk::<ICMP_BYTES>()?;
    is_error(header[0]).then_some(quote)
}

/// The tuple of the answer to the quoted packet.
fn answer(upper: u8, (from, to): (IpAddress, IpAddress), l4: &[u8]) -> Option<FlowKey> {
    let protocol = match upper {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return None,
    };
    let [a, b, c, d, ..] = *l4.first_chunk::<QUOTED_L4_BYTES>()?;
    let ports = (L4Port::from_bytes([a, b]), L4Port::from_bytes([c, d]));
    Some(FlowKey::new(protocol, (to, ports.1), (from, ports.0)))
}

fn kind(outer_bytes: usize, quoted_bytes: usize) -> PacketKind {
    let ip_offset = ETHERNET_BYTES + outer_bytes + ICMP_BYTES;
    PacketKind::Error(Quote {
        ip_offset: short(ip_offset),
        l4_offset: short(ip_offset + quoted_bytes),
    })
}
