//! Frames, written and read by etherparse.

use super::{CLIENT_MAC, GATEWAY_MAC};
use core::net::{IpAddr, SocketAddr};
use etherparse::{
    IpNumber, NetSlice, PacketBuilder, PacketBuilderStep, SlicedPacket, TransportSlice, ip_number,
};

fn ip_step(src: SocketAddr, dst: SocketAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    let ethernet = PacketBuilder::ethernet2(CLIENT_MAC, GATEWAY_MAC);
    match (src, dst) {
        (SocketAddr::V4(s), SocketAddr::V4(d)) => {
            ethernet.ipv4(s.ip().octets(), d.ip().octets(), 64)
        }
        (SocketAddr::V6(s), SocketAddr::V6(d)) => {
            ethernet.ipv6(s.ip().octets(), d.ip().octets(), 64)
        }
        _ => panic!("{src} and {dst} are not of one family"),
    }
}

/// A TCP frame with these control bits.
pub fn tcp_frame(src: &str, dst: &str, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut tcp = etherparse::TcpHeader::new(0, 0, 1000, 65_000);
    tcp.fin = flags & 1 != 0;
    tcp.syn = flags & 2 != 0;
    tcp.rst = flags & 4 != 0;
    tcp.psh = flags & 8 != 0;
    tcp.ack = flags & 16 != 0;
    tcp_frame_with(src, dst, tcp, payload)
}

/// A TCP frame with this header, but for its ports.
pub fn tcp_frame_with(
    src: &str,
    dst: &str,
    mut tcp: etherparse::TcpHeader,
    payload: &[u8],
) -> Vec<u8> {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    (tcp.source_port, tcp.destination_port) = (src.port(), dst.port());
    let mut frame = Vec::new();
    ip_step(src, dst).tcp_header(tcp).write(&mut frame, payload).unwrap();
    frame
}

/// A UDP frame.
pub fn udp_frame(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let (src, dst): (SocketAddr, SocketAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut frame = Vec::new();
    let builder = ip_step(src, dst).udp(src.port(), dst.port());
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// An ICMP error of this type and code from `router` about the packet of a frame, as far as that is
/// there: it goes back to where the frame says it came from.
pub fn icmp_error(router: IpAddr, (kind, code): (u8, u8), about: &[u8]) -> Vec<u8> {
    let packet = &about[14..];
    assert!(packet.len() >= 24);
    let mut frame = Vec::new();
    if router.is_ipv4() {
        let to: [u8; 4] = packet[12..16].try_into().unwrap();
        let ip = ip_step(SocketAddr::new(router, 0), SocketAddr::new(to.into(), 0));
        ip.icmpv4_raw(kind, code, [0; 4]).write(&mut frame, packet).unwrap();
    } else {
        let to: [u8; 16] = packet[8..24].try_into().unwrap();
        let ip = ip_step(SocketAddr::new(router, 0), SocketAddr::new(to.into(), 0));
        ip.icmpv6_raw(kind, code, [0; 4]).write(&mut frame, packet).unwrap();
    }
    frame
}

/// Inserts IPv6 extension headers `(kind, bytes)` before the L4 header; `bytes` is a multiple of 8,
/// of an authentication header of 4.
pub fn with_extensions(mut frame: Vec<u8>, chain: &[(u8, usize)]) -> Vec<u8> {
    let l4 = frame[20];
    let mut headers = Vec::new();
    for (at, (kind, bytes)) in chain.iter().enumerate() {
        let next = chain.get(at + 1).map_or(l4, |(kind, _)| *kind);
        let length = if *kind == 51 { bytes / 4 - 2 } else { bytes / 8 - 1 };
        headers.extend([next, u8::try_from(length).unwrap()]);
        headers.extend(vec![0; bytes - 2]);
    }
    frame[20] = chain.first().map_or(l4, |(kind, _)| *kind);
    frame.splice(54..54, headers);
    let payload = u16::try_from(frame.len() - 54).unwrap();
    frame[18..20].copy_from_slice(&payload.to_be_bytes());
    frame
}

/// Whether every checksum of a frame is right, by the independent parser.
pub fn checksums_are_right(frame: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    match sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            let header = ip.header().to_header();
            let ends = (header.source.into(), header.destination.into());
            let is_l4_right = l4_is_right(header.protocol, ends, ip.payload().payload);
            is_l4_right && header.header_checksum == header.calc_header_checksum()
        }
        Some(NetSlice::Ipv6(ip)) => {
            let (header, payload) = (ip.header(), ip.payload());
            let ends = (header.source_addr().into(), header.destination_addr().into());
            l4_is_right(payload.ip_number, ends, payload.payload)
        }
        _ => false,
    }
}

fn l4_is_right(protocol: IpNumber, ends: (IpAddr, IpAddr), payload: &[u8]) -> bool {
    match (protocol, ends) {
        (ip_number::TCP, ends) => {
            let (tcp, rest) = etherparse::TcpHeader::from_slice(payload).unwrap();
            tcp.checksum
                == match ends {
                    (IpAddr::V4(s), IpAddr::V4(d)) => {
                        tcp.calc_checksum_ipv4_raw(s.octets(), d.octets(), rest).unwrap()
                    }
                    (IpAddr::V6(s), IpAddr::V6(d)) => {
                        tcp.calc_checksum_ipv6_raw(s.octets(), d.octets(), rest).unwrap()
                    }
                    _ => return false,
                }
        }
        (ip_number::UDP, ends) => {
            let (udp, rest) = etherparse::UdpHeader::from_slice(payload).unwrap();
            match ends {
                (IpAddr::V4(s), IpAddr::V4(d)) => {
                    let sum = udp.calc_checksum_ipv4_raw(s.octets(), d.octets(), rest).unwrap();
                    udp.checksum == 0 || udp.checksum == sum
                }
                (IpAddr::V6(s), IpAddr::V6(d)) => {
                    let sum = udp.calc_checksum_ipv6_raw(s.octets(), d.octets(), rest).unwrap();
                    udp.checksum == sum
                }
                _ => false,
            }
        }
        (ip_number::ICMP, _) => {
            let (icmp, rest) = etherparse::Icmpv4Header::from_slice(payload).unwrap();
            icmp.checksum == icmp.icmp_type.calc_checksum(rest)
        }
        (ip_number::IPV6_ICMP, (IpAddr::V6(s), IpAddr::V6(d))) => {
            let (icmp, rest) = etherparse::Icmpv6Header::from_slice(payload).unwrap();
            let sum = icmp.icmp_type.calc_checksum(s.octets(), d.octets(), rest).unwrap();
            icmp.checksum == sum
        }
        _ => false,
    }
}

/// Source and destination of a frame, as text.
pub fn ends(frame: &[u8]) -> (String, String) {
    let sliced = SlicedPacket::from_ethernet(frame).unwrap();
    let (src, dst): (IpAddr, IpAddr) = match sliced.net {
        Some(NetSlice::Ipv4(ip)) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        Some(NetSlice::Ipv6(ip)) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        _ => panic!("not IP"),
    };
    let (sport, dport) = match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => (tcp.source_port(), tcp.destination_port()),
        Some(TransportSlice::Udp(udp)) => (udp.source_port(), udp.destination_port()),
        _ => (0, 0),
    };
    (SocketAddr::new(src, sport).to_string(), SocketAddr::new(dst, dport).to_string())
}
