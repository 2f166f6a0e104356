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
    /// A routing header names further stops: the destination is not the last.
    Routed,
    /// The packet ends within its headers.
    Truncated,
    /// Hop-by-hop options not at the start, or more headers than [`IPV6_EXTENSIONS_MAX`].
    Unordered,
}

/// What follows the extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Upper {
    /// The protocol.
    pub protocol: u8,
    /// Bytes between the fixed header and this one.
    pub offset: usize,
    /// What a fragment header said; `None` where there was none, or where it said that this is
    /// the only fragment (RFC 6946).
    pub fragment: Option<Fragment>,
}

/// What a fragment header says (RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fragment {
    /// The sender's number for the datagram, in wire order.
    pub id: u32,
    /// Whether this is not the first, so that no upper-layer header follows.
    pub is_later: bool,
}

/// The upper-layer protocol, and how many bytes of `payload` stand before its header. `first` is
/// the fixed header's "next header", `payload` all that follows the fixed header. In a later
/// fragment data follows, and the protocol is what its fragment header says.
///
/// # Errors
/// See [`Obstacle`].
#[inline]
pub fn skip(first: u8, payload: &[u8]) -> Result<Upper, Obstacle> {
    let mut upper = Upper { protocol: first, offset: 0, fragment: None };
    for count in 0..IPV6_EXTENSIONS_MAX {
        if !is_extension(upper.protocol) {
            break;
        }
        let rest = payload.get(upper.offset..).unwrap_or_default();
        let header = rest.first_chunk::<HEADER_BYTES_MIN>().ok_or(Obstacle::Truncated)?;
        let [after, length, _, segments_left, ..] = *header;
        match upper.protocol {
            protocol::HOP_BY_HOP if count > 0 => return Err(Obstacle::Unordered),
            protocol::ROUTING if segments_left > 0 => return Err(Obstacle::Routed),
            protocol::FRAGMENT => {
                upper.fragment = fragment(*header).or(upper.fragment);
                upper.offset += HEADER_BYTES_MIN;
            }
            // Its length counts words of four bytes, less two (RFC 4302 section 2.2).
            protocol::AUTHENTICATION => upper.offset += (usize::from(length) + 2) * 4,
            _ => upper.offset += (usize::from(length) + 1) * 8,
        }
        upper.protocol = after;
        if upper.fragment.is_some_and(|fragment| fragment.is_later) {
            return Ok(upper);
        }
    }
    match upper.protocol {
        next if is_extension(next) => Err(Obstacle::Unordered),
        _ if upper.offset > payload.len() => Err(Obstacle::Truncated),
        _ => Ok(upper),
    }
}

/// Bytes of the shortest extension header.
const HEADER_BYTES_MIN: usize = 8;

fn fragment(header: [u8; HEADER_BYTES_MIN]) -> Option<Fragment> {
    let [_, _, high, low, a, b, c, d] = header;
    let offset = u16::from_be_bytes([high, low]);
    let (is_later, has_more) = (offset & 0xfff8 != 0, offset & 1 != 0);
    let fragment = Fragment { id: u32::from_ne_bytes([a, b, c, d]), is_later };
    (is_later || has_more).then_some(fragment)
}

const fn is_extension(next: u8) -> bool {
    use protocol::{AUTHENTICATION, DESTINATION_OPTIONS, FRAGMENT, HOP_BY_HOP, ROUTING};
    matches!(next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | AUTHENTICATION | FRAGMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = protocol::TCP;

    /// A header of eight bytes.
    fn short(next: u8) -> Vec<u8> {
        vec![next, 0, 0, 0, 0, 0, 0, 0]
    }

    fn upper(protocol: u8, offset: usize) -> Upper {
        Upper { protocol, offset, fragment: None }
    }

    #[test]
    fn each_kind_is_stepped_over_by_its_own_length() {
        assert_eq!(skip(TCP, &[]), Ok(upper(TCP, 0)));
        for kind in [protocol::HOP_BY_HOP, protocol::ROUTING, protocol::DESTINATION_OPTIONS] {
            let mut header = vec![TCP, 2, 0, 0];
            header.resize(24, 0);
            assert_eq!(skip(kind, &header), Ok(upper(TCP, 24)), "{kind}");
            assert_eq!(skip(kind, &header[..23]), Err(Obstacle::Truncated), "{kind}");
        }
        let mut header = vec![TCP, 4, 0, 0];
        header.resize(24, 0);
        assert_eq!(skip(protocol::AUTHENTICATION, &header), Ok(upper(TCP, 24)));
    }

    #[test]
    fn a_chain_may_be_as_long_as_the_limit() {
        let chain = |count| short(protocol::DESTINATION_OPTIONS).repeat(count - 1);
        let whole = |count| [chain(count), short(TCP)].concat();
        let first = protocol::DESTINATION_OPTIONS;
        assert_eq!(skip(first, &whole(IPV6_EXTENSIONS_MAX)), Ok(upper(TCP, 48)));
        assert_eq!(skip(first, &whole(IPV6_EXTENSIONS_MAX + 1)), Err(Obstacle::Unordered));
    }

    #[test]
    fn what_hides_the_ports_is_told_apart() {
        let late = [short(protocol::HOP_BY_HOP), short(TCP)].concat();
        assert_eq!(skip(protocol::DESTINATION_OPTIONS, &late), Err(Obstacle::Unordered));
        let routed = [TCP, 0, 4, 1, 0, 0, 0, 0];
        assert_eq!(skip(protocol::ROUTING, &routed), Err(Obstacle::Routed));
        assert_eq!(skip(protocol::FRAGMENT, &[]), Err(Obstacle::Truncated));
    }

    #[test]
    fn fragment_headers_tell_first_later_and_only() {
        let fragment = |offset: u16| {
            let [high, low] = offset.to_be_bytes();
            let header = [TCP, 0, high, low, 1, 2, 3, 4];
            skip(protocol::FRAGMENT, &header).unwrap().fragment
        };
        let id = u32::from_ne_bytes([1, 2, 3, 4]);
        assert_eq!(fragment(0), None, "the only one");
        assert_eq!(fragment(1), Some(Fragment { id, is_later: false }));
        for later in [8, 9, 0xfff8] {
            assert_eq!(fragment(later), Some(Fragment { id, is_later: true }));
        }
        // What follows a later one is data, whatever it looks like.
        let data = [protocol::DESTINATION_OPTIONS, 0, 0, 8, 0, 0, 0, 0];
        let later = skip(protocol::FRAGMENT, &data).unwrap();
        assert_eq!((later.protocol, later.offset), (protocol::DESTINATION_OPTIONS, 8));
        let first = [protocol::DESTINATION_OPTIONS, 0, 0, 1, 0, 0, 0, 0, TCP, 0, 0, 0, 0, 0, 0, 0];
        let first = skip(protocol::FRAGMENT, &first).unwrap();
        assert_eq!((first.protocol, first.offset), (TCP, 16));
    }
}
