//! Frames to feed to the program, built by etherparse, spoilt by hand.

use etherparse::PacketBuilder;
use std::net::SocketAddrV4;

pub(crate) const OUR_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(crate) const ROAD_MAC: [u8; 6] = [2, 0xde, 0xad, 0, 0, 3];

pub(crate) const ETHERNET_BYTES: usize = 14;
pub(crate) const IP_BYTES: usize = 20;
pub(crate) const PAYLOAD: &[u8] = b"what the client says";

/// Which segment of a TCP flow.
#[derive(Clone, Copy)]
pub(crate) enum Segment {
    Syn,
    SynAck,
    Ack,
}

pub(crate) fn address(text: &str) -> SocketAddrV4 {
    text.parse().unwrap()
}

pub(crate) fn tcp(from: SocketAddrV4, to: SocketAddrV4, segment: Segment) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2(CLIENT_MAC, OUR_MAC).ipv4(
        from.ip().octets(),
        to.ip().octets(),
        64,
    );
    let tcp = ip.tcp(from.port(), to.port(), 1, 1024);
    let tcp = match segment {
        Segment::Syn => tcp.syn(),
        Segment::SynAck => tcp.syn().ack(1),
        Segment::Ack => tcp.ack(1),
    };
    let mut frame = Vec::new();
    tcp.write(&mut frame, PAYLOAD).unwrap();
    frame
}

pub(crate) fn udp(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let ip = PacketBuilder::ethernet2(CLIENT_MAC, OUR_MAC).ipv4(
        from.ip().octets(),
        to.ip().octets(),
        64,
    );
    let mut frame = Vec::new();
    ip.udp(from.port(), to.port()).write(&mut frame, PAYLOAD).unwrap();
    frame
}

/// Overwrites bytes.
pub(crate) fn with(mut frame: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    frame[offset..offset + bytes.len()].copy_from_slice(bytes);
    frame
}

/// Makes the IP total length say `total`.
pub(crate) fn with_total_length(frame: Vec<u8>, total: usize) -> Vec<u8> {
    with(frame, ETHERNET_BYTES + 2, &u16::try_from(total).unwrap().to_be_bytes())
}

/// Inserts `words` × 4 bytes of IP options, at most 10.
pub(crate) fn with_options(mut frame: Vec<u8>, words: usize) -> Vec<u8> {
    let at = ETHERNET_BYTES + IP_BYTES;
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
