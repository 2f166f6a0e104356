//! Frames to feed to the program, built by etherparse, spoilt by hand.

use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep};
use std::net::{IpAddr, SocketAddr};

pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const ROAD_MAC: [u8; 6] = [2, 0xde, 0xad, 0, 0, 3];

pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const PAYLOAD: &[u8] = b"what the client says";

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Bytes of the header without options.
    pub(crate) fn header_bytes(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// One of these two.
    pub(crate) fn pick<T>(self, v4: T, v6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
        }
    }
}

/// Which segment of a TCP flow.
#[derive(Clone, Copy)]
pub(crate) enum Segment {
    Syn,
    SynAck,
    Ack,
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ip(from: SocketAddr, to: SocketAddr) -> PacketBuilderStep<IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, OUR_MAC);
    match (from, to) {
        (SocketAddr::V4(from), SocketAddr::V4(to)) => {
            ethernet.ipv4(from.ip().octets(), to.ip().octets(), 64)
        }
        (SocketAddr::V6(from), SocketAddr::V6(to)) => {
            ethernet.ipv6(from.ip().octets(), to.ip().octets(), 64)
        }
        _ => panic!("{from} and {to} are not of one family"),
    }
}

pub(crate) fn tcp(from: SocketAddr, to: SocketAddr, segment: Segment) -> Vec<u8> {
    let tcp = ip(from, to).tcp(from.port(), to.port(), 1, 1024);
    let tcp = match segment {
        Segment::Syn => tcp.syn(),
        Segment::SynAck => tcp.syn().ack(1),
        Segment::Ack => tcp.ack(1),
    };
    let mut frame = Vec::new();
    tcp.write(&mut frame, PAYLOAD).unwrap();
    frame
}

pub(crate) fn udp(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let mut frame = Vec::new();
    ip(from, to).udp(from.port(), to.port()).write(&mut frame, PAYLOAD).unwrap();
    frame
}

/// An ICMP error of this type and code from `router` about a frame that its sender gets back. As
/// much is quoted as is there.
pub(crate) fn icmp_error(router: IpAddr, (kind, code): (u8, u8), quoted: &[u8]) -> Vec<u8> {
    let packet = &quoted[ETHERNET_BYTES..];
    let to: IpAddr = match family_of(quoted) {
        Family::V4 => quad::<4>(&packet[12..]).into(),
        Family::V6 => quad::<16>(&packet[8..]).into(),
    };
    let builder = ip(SocketAddr::new(router, 0), SocketAddr::new(to, 0));
    let mut frame = Vec::new();
    match family_of(quoted) {
        Family::V4 => builder.icmpv4_raw(kind, code, [0; 4]).write(&mut frame, packet).unwrap(),
        Family::V6 => builder.icmpv6_raw(kind, code, [0; 4]).write(&mut frame, packet).unwrap(),
    }
    frame
}

fn quad<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes[..N].try_into().unwrap()
}

/// Overwrites bytes.
pub(crate) fn with(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// The family of a frame.
pub(crate) fn family_of(frame: &[u8]) -> Family {
    if frame[12] == 8 { Family::V4 } else { Family::V6 }
}

/// Makes the IP header say that the packet, headers included, has `total` bytes; IPv6 has no word
/// for less than its header.
pub(crate) fn with_total_length(frame: Vec<u8>, total: usize) -> Vec<u8> {
    let (at, length) = match family_of(&frame) {
        Family::V4 => (ETHERNET_BYTES + 2, total),
        Family::V6 => (ETHERNET_BYTES + 4, total.saturating_sub(40)),
    };
    with(frame, at, &u16::try_from(length).unwrap().to_be_bytes())
}

/// Inserts IPv6 extension headers (kind, bytes) before what follows the fixed header. `bytes` is a
/// multiple of 8, of an authentication header of 4.
pub(crate) fn with_extensions(mut frame: Vec<u8>, chain: &[(u8, usize)]) -> Vec<u8> {
    let (kind_at, at) = (ETHERNET_BYTES + 6, ETHERNET_BYTES + 40);
    let (l4, mut headers) = (frame[kind_at], Vec::new());
    for (number, (kind, bytes)) in chain.iter().enumerate() {
        let next = chain.get(number + 1).map_or(l4, |(kind, _)| *kind);
        let length = if *kind == AUTHENTICATION { bytes / 4 - 2 } else { bytes / 8 - 1 };
        headers.extend([next, u8::try_from(length).unwrap()]);
        headers.extend(vec![0; bytes - 2]);
    }
    frame[kind_at] = chain.first().map_or(l4, |(kind, _)| *kind);
    frame.splice(at..at, headers);
    let total = frame.len() - ETHERNET_BYTES;
    with_total_length(frame, total)
}

/// Makes a frame look like a fragment with this number: `offset` is the fragment header's word of
/// IPv6, bytes from the start and 1 if more follow.
pub(crate) fn fragment(frame: Vec<u8>, offset: u16, id: u16) -> Vec<u8> {
    match family_of(&frame) {
        Family::V4 => {
            let word = offset >> 3 | (offset & 1) << 13;
            let bytes = [id.to_be_bytes(), word.to_be_bytes()].concat();
            with(frame, ETHERNET_BYTES + 4, &bytes)
        }
        Family::V6 => {
            let frame = with_extensions(frame, &[(FRAGMENT, 8)]);
            let bytes = [offset.to_be_bytes(), [0; 2], id.to_be_bytes()].concat();
            with(frame, ETHERNET_BYTES + 42, &bytes)
        }
    }
}

pub(crate) const HOP_BY_HOP: u8 = 0;
pub(crate) const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
pub(crate) const AUTHENTICATION: u8 = 51;
pub(crate) const DESTINATION: u8 = 60;

/// Inserts `words` × 4 bytes of IPv4 options, at most 10.
pub(crate) fn with_options(mut frame: Vec<u8>, words: usize) -> Vec<u8> {
    let at = ETHERNET_BYTES + 20;
    frame.splice(at..at, vec![1; words * 4]);
    let total = frame.len() - ETHERNET_BYTES;
    let first = 0x45 + u8::try_from(words).unwrap();
    with_total_length(with(frame, ETHERNET_BYTES, &[first]), total)
}

/// Inserts a VLAN tag in band.
pub(crate) fn with_tag(mut frame: Vec<u8>, ether_type: u16) -> Vec<u8> {
    let [high, low] = ether_type.to_be_bytes();
    frame.splice(12..12, [high, low, 0, 42]);
    frame
}
