//! IPv6 extension headers (RFC 8200 section 4): what may stand between the fixed header and TCP or
//! UDP.

use crate::packet::headers::protocol;

/// Extension headers in one packet: all that RFC 8200 section 4.1 knows, destination options twice.
/// Lower would refuse what a sender may send; higher is work for packets that nobody sends. Beyond
/// it the XDP program leaves a packet to the kernel. `bpf/steer.h` holds the same number.
pub const IPV6_EXTENSIONS_MAX: usize = 6;

/// Why a packet's upper-layer header is not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Obstacle {
    /// A fragment header stands before it.
    Fragment,
    /// A routing header names further stops: the destination is not the last.
    Routed,
    /// The packet ends within its headers.
    Truncated,
    /// Hop-by-hop options not at the start, or more headers than [`IPV6_EXTENSIONS_MAX`].
    Unordered,
}

/// The upper-layer protocol, and how many bytes of `payload` stand before its header. `first` is
/// the fixed header's "next header", `payload` all that follows the fixed header.
///
/// # Errors
/// See [`Obstacle`].
#[inline]
pub fn skip(first: u8, payload: &[u8]) -> Result<(u8, usize), Obstacle> {
    let (mut next, mut offset) = (first, 0);
    for count in 0..IPV6_EXTENSIONS_MAX {
        if !is_extension(next) {
            break;
        }
        let header = payload.get(offset..).and_then(|rest| rest.first_chunk::<4>());
        let Some([after, length, _, segments_left]) = header.copied() else {
            return Err(Obstacle::Truncated);
        };
        match next {
            protocol::HOP_BY_HOP if count > 0 => return Err(Obstacle::Unordered),
            protocol::ROUTING if segments_left > 0 => return Err(Obstacle::Routed),
            // Its length counts words of four bytes, less two (RFC 4302 section 2.2).
            protocol::AUTHENTICATION => offset += (usize::from(length) + 2) * 4,
            _ => offset += (usize::from(length) + 1) * 8,
        }
        next = after;
    }
    match next {
        protocol::FRAGMENT => Err(Obstacle::Fragment),
        next if is_extension(next) => Err(Obstacle::Unordered),
        _ if offset > payload.len() => Err(Obstacle::Truncated),
        _ => Ok((next, offset)),
    }
}

const fn is_extension(next: u8) -> bool {
    use protocol::{AUTHENTICATION, DESTINATION_OPTIONS, HOP_BY_HOP, ROUTING};
    matches!(next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = protocol::TCP;

    /// A header of eight bytes.
    fn short(next: u8) -> Vec<u8> {
        vec![next, 0, 0, 0, 0, 0, 0, 0]
    }

    #[test]
    fn each_kind_is_stepped_over_by_its_own_length() {
        assert_eq!(skip(TCP, &[]), Ok((TCP, 0)));
        for kind in [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION_OPTIONS] {
            let mut header = vec![TCP, 2, 0, 0];
            header.resize(24, 0);
            assert_eq!(skip(kind, &header), Ok((TCP, 24)), "{kind}");
            assert_eq!(skip(kind, &header[..23]), Err(Obstacle::Truncated), "{kind}");
        }
        let mut header = vec![TCP, 4, 0, 0];
        header.resize(24, 0);
        assert_eq!(skip(protocol::AUTHENTICATION, &header), Ok((TCP, 24)));
    }

    #[test]
    fn a_chain_may_be_as_long_as_the_limit() {
        let chain = |count| short(protocol::DESTINATION_OPTIONS).repeat(count - 1);
        let whole = |count| [chain(count), short(TCP)].concat();
        let first = protocol::DESTINATION_OPTIONS;
        assert_eq!(skip(first, &whole(IPV6_EXTENSIONS_MAX)), Ok((TCP, 48)));
        assert_eq!(skip(first, &whole(IPV6_EXTENSIONS_MAX + 1)), Err(Obstacle::Unordered));
    }

    #[test]
    fn what_hides_the_ports_is_told_apart() {
        let late = [short(protocol::HOP_BY_HOP), short(TCP)].concat();
        assert_eq!(skip(protocol::DESTINATION_OPTIONS, &late), Err(Obstacle::Unordered));
        let routed = [TCP, 0, 4, 1, 0, 0, 0, 0];
        assert_eq!(skip(protocol::ROUTING, &routed), Err(Obstacle::Routed));
        let fragment = short(protocol::FRAGMENT);
        assert_eq!(skip(protocol::DESTINATION_OPTIONS, &fragment), Err(Obstacle::Fragment));
        assert_eq!(skip(protocol::FRAGMENT, &[]), Err(Obstacle::Fragment));
    }
}
