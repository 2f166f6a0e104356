//! The frame that a question stands for.

use super::question::{Question, Transport};
use etherparse::{IpHeaders, PacketBuilder, PacketBuilderStep, err::packet::BuildWriteError};
use std::net::SocketAddr;
use tidegate_dataplane::types::MacAddress;

/// Bytes that a frame may grow to: an ICMP error quotes it, and it is short.
const FRAME_BYTES_MAX: usize = 1024;

/// Locally administered: no interface has it.
const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

/// TTL or hop limit: what most hosts send with.
const TTL: u8 = 64;

/// The window of a SYN; nothing reads it.
const WINDOW: u16 = 64_240;

/// A buffer with the frame at its start, and the frame's length.
///
/// # Errors
/// None in practice: the packet is short, and ends of two families are no [`Question`].
pub(super) fn build(
    question: &Question,
    gateway: MacAddress,
) -> Result<(Vec<u8>, usize), BuildWriteError> {
    let Question { transport, source, destination } = question;
    let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, gateway.0);
    let ip: PacketBuilderStep<IpHeaders> = match (source, destination) {
        (SocketAddr::V4(s), SocketAddr::V4(d)) => {
            ethernet.ipv4(s.ip().octets(), d.ip().octets(), TTL)
        }
        (s, d) => ethernet.ipv6(octets_v6(s), octets_v6(d), TTL),
    };
    let (source, destination) = (source.port(), destination.port());
    let mut frame = Vec::with_capacity(FRAME_BYTES_MAX);
    match transport {
        Transport::Tcp => ip.tcp(source, destination, 0, WINDOW).syn().write(&mut frame, &[])?,
        Transport::Udp => ip.udp(source, destination).write(&mut frame, &[])?,
        Transport::Sctp => {
            // The common header: ports, verification tag, checksum (RFC 9260 section 3.1).
            let ports = [source.to_be_bytes(), destination.to_be_bytes(), [0; 2], [0; 2]];
            let header = [ports, [[0; 2]; 4]].concat().concat();
            ip.write(&mut frame, etherparse::ip_number::SCTP, &header)?;
        }
    }
    let len = frame.len();
    frame.resize(FRAME_BYTES_MAX, 0);
    Ok((frame, len))
}

fn octets_v6(end: &SocketAddr) -> [u8; 16] {
    match end {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}
