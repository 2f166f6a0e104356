//! Internet checksums, made and looked at independently of the packet path.

use super::wire::{Ends, Parts};
use core::net::IpAddr;
use etherparse::{IpNumber, ip_number};

/// How a packet's transport checksum is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Checksum {
    Right,
    Wrong,
    /// UDP without one.
    None,
}

/// Looks at the transport checksum; `None` where the protocol has none.
pub(super) fn checksum(ip: &[u8], parts: &Parts) -> Option<Checksum> {
    let transport = ip.get(parts.transport..)?;
    let pseudo = match IpNumber(parts.protocol) {
        ip_number::ICMP => 0,
        ip_number::TCP | ip_number::UDP | ip_number::IPV6_ICMP => {
            pseudo_header(parts.protocol, parts.ends, transport.len())
        }
        _ => return None,
    };
    let is_udp = IpNumber(parts.protocol) == ip_number::UDP;
    if is_udp && transport.get(6..8) == Some(&[0, 0]) {
        return Some(Checksum::None);
    }
    let is_right = fold(pseudo + sum(transport)) == 0xffff;
    Some(if is_right { Checksum::Right } else { Checksum::Wrong })
}

/// How an IPv4 header's sum is; IPv6 has none, and is right.
pub(super) fn ip_sum(ip: &[u8]) -> Checksum {
    let is_v6 = ip.first().is_some_and(|first| first >> 4 == 6);
    let header = ip.first().map_or(0, |first| usize::from(first & 15) * 4);
    let header = ip.get(..header).unwrap_or_default();
    if is_v6 || fold(sum(header)) == 0xffff { Checksum::Right } else { Checksum::Wrong }
}

/// Where the transport checksum is, from the transport header's first byte.
pub(super) const fn checksum_offset(protocol: u8) -> Option<usize> {
    match protocol {
        1 | 58 => Some(2),
        6 => Some(16),
        17 => Some(6),
        _ => None,
    }
}

/// The sum of what a transport checksum covers beside its packet (RFC 9293 section 3.1).
pub(super) fn pseudo_header(protocol: u8, ends: Ends, length: usize) -> u64 {
    let of = |address: IpAddr| match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    of(ends.source.ip()) + of(ends.destination.ip()) + u64::from(protocol) + length as u64
}

/// The sum of 16-bit words (RFC 1071), not folded.
pub(super) fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| {
        u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or_default()]))
    };
    bytes.chunks(2).map(word).sum()
}

/// The sum in 16 bits.
pub(super) const fn fold(mut sum: u64) -> u64 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
