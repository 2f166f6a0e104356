//! Bytes to headers. Untrusted: every length is checked before it is used.

mod fragment;
mod ipv6;
mod quote;

use crate::packet::headers::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, IPV4_BYTES_MIN, Ipv4, TCP_BYTES_MIN,
    Tcp, UDP_BYTES, Udp, protocol,
};
use crate::packet::options;
use crate::pipeline::packet::Headers;
use crate::types::{FlowKey, IpAddress, L4Port, Protocol};
use crate::verdict::{DropReason, PassReason, Verdict};
use zerocopy::FromBytes;

/// The headers of a frame, or what becomes of a frame without them.
#[inline]
pub(super) fn parse(frame: &[u8]) -> Result<Headers, Verdict> {
    let mut headers = Headers::NONE;
    parse_into(&mut headers, frame)?;
    Ok(headers)
}

/// As [`parse`], in place: a burst's headers are not moved. They are to be used only on `Ok`.
#[inline]
pub(super) fn parse_into(headers: &mut Headers, frame: &[u8]) -> Result<(), Verdict> {
    let (ethernet, packet) = prefix::<Ethernet>(frame, DropReason::PktTooSmall)?;
    match ethernet.ethertype.get() {
        ETHERTYPE_IPV4 => parse_ipv4(headers, packet),
        ETHERTYPE_IPV6 => ipv6::parse(headers, packet),
        _ => Err(Verdict::Pass(PassReason::NotIp)),
    }
}

#[inline(always)]
fn parse_ipv4(headers: &mut Headers, packet: &[u8]) -> Result<(), Verdict> {
    let (ip, _) = prefix::<Ipv4>(packet, DropReason::PktTooSmall)?;
    let (header_bytes, total) = (ip.header_bytes(), usize::from(ip.total_length.get()));
    if ip.version() != 4 || header_bytes < IPV4_BYTES_MIN || total < header_bytes {
        return Err(Verdict::Drop(DropReason::IpInhdr));
    }
    // What follows the total length is Ethernet padding, or a lie that stays behind.
    let whole = packet.get(..total).ok_or(Verdict::Drop(DropReason::HdrTrunc))?;
    let l4 = whole.get(header_bytes..).unwrap_or_default();
    if !is_host_address(ip.source) {
        return Err(Verdict::Drop(DropReason::InvalidSourceIp));
    }
    let options = whole.get(IPV4_BYTES_MIN..header_bytes).unwrap_or_default();
    if !options.is_empty() && !options::are_acceptable(options) {
        return Err(Verdict::Drop(DropReason::IpInhdr));
    }
    if ip.is_fragment() || ip.protocol == protocol::ICMP {
        return parse_unusual_v4(headers, (ip, header_bytes), l4);
    }
    let l4_header = parse_l4(ip.protocol, l4, Part::Whole)?;
    headers.key = FlowKey::new(
        l4_header.protocol,
        (IpAddress::v4(ip.source), L4Port::from_bytes(l4_header.source)),
        (IpAddress::v4(ip.destination), L4Port::from_bytes(l4_header.destination)),
    );
    set_lengths_v4(headers, (ip, header_bytes), l4.len());
    headers.tcp_flags = l4_header.tcp_flags;
    Ok(())
}

/// Fragments and ICMP errors; apart, so that the usual path is straight.
#[inline(never)]
fn parse_unusual_v4(
    headers: &mut Headers,
    (ip, header_bytes): (&Ipv4, usize),
    payload: &[u8],
) -> Result<(), Verdict> {
    let l4_bytes = if ip.is_fragment() {
        fragment::parse_v4(headers, ip, payload)?
    } else {
        quote::parse_v4(headers, (ip, header_bytes), payload)?
    };
    set_lengths_v4(headers, (ip, header_bytes), l4_bytes);
    Ok(())
}

#[inline(always)]
fn set_lengths_v4(headers: &mut Headers, (ip, header_bytes): (&Ipv4, usize), l4_bytes: usize) {
    headers.l4_offset = short(ETHERNET_BYTES + header_bytes);
    headers.l4_bytes = short(l4_bytes);
    headers.ip_bytes = ip.total_length.get();
    headers.ttl = ip.ttl;
}

/// A length within a frame.
#[inline(always)]
fn short(bytes: usize) -> u16 {
    u16::try_from(bytes).unwrap_or(u16::MAX)
}

/// What both transports have, and TCP's control bits.
struct L4Header {
    protocol: Protocol,
    source: [u8; 2],
    destination: [u8; 2],
    tcp_flags: u8,
}

/// How much of a datagram follows its L4 header.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    First,
}

#[inline(always)]
fn parse_l4(protocol: u8, l4: &[u8], part: Part) -> Result<L4Header, Verdict> {
    match protocol {
        protocol::TCP => {
            let (tcp, _) = prefix::<Tcp>(l4, DropReason::HdrTrunc)?;
            let header_bytes = usize::from(tcp.offset >> 4) * 4;
            if header_bytes < TCP_BYTES_MIN || header_bytes > l4.len() {
                return Err(Verdict::Drop(DropReason::HdrTrunc));
            }
            let (source, destination) = (tcp.source, tcp.destination);
            Ok(L4Header { protocol: Protocol::Tcp, source, destination, tcp_flags: tcp.flags })
        }
        protocol::UDP => {
            let (udp, _) = prefix::<Udp>(l4, DropReason::HdrTrunc)?;
            let length = usize::from(udp.length.get());
            if length < UDP_BYTES || (part == Part::Whole && length > l4.len()) {
                return Err(Verdict::Drop(DropReason::HdrTrunc));
            }
            let (source, destination) = (udp.source, udp.destination);
            Ok(L4Header { protocol: Protocol::Udp, source, destination, tcp_flags: 0 })
        }
        _ => Err(Verdict::Pass(PassReason::NoService)),
    }
}

/// The header at the start, and the rest.
#[inline(always)]
fn prefix<T>(bytes: &[u8], reason: DropReason) -> Result<(&T, &[u8]), Verdict>
where
    T: FromBytes + zerocopy::KnownLayout + zerocopy::Immutable + zerocopy::Unaligned,
{
    T::ref_from_prefix(bytes).ok().ok_or(Verdict::Drop(reason))
}

/// Whether a host may send from it: not "this network", loopback, multicast, reserved or broadcast
/// (RFC 1122 section 3.2.1.3), which the kernel calls martian.
#[inline]
fn is_host_address([first, ..]: [u8; 4]) -> bool {
    !matches!(first, 0 | 127 | 224..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::packet::PacketKind;
    use crate::testing::{fragments, tcp_frame, udp_frame, with_extensions};
    use core::net::SocketAddr;

    /// A client's and a front's end of each family, and where the L4 header starts.
    const ENDS: [(&str, &str, u16); 2] = [
        ("10.1.0.1:4000", "10.1.0.254:30080", 34),
        ("[2001:db8:1::1]:4000", "[2001:db8:1::fe]:30080", 54),
    ];

    #[test]
    fn a_tcp_frame_gives_its_five_tuple_and_flags() {
        for (client, front, offset) in ENDS {
            let frame = tcp_frame(client, front, 0x12, b"hello");
            let headers = parse(&frame).unwrap();
            let front: SocketAddr = front.parse().unwrap();
            assert_eq!(headers.key.src_port.number(), 4000);
            assert_eq!(headers.key.dst, front.ip().into());
            assert_eq!((headers.l4_offset, headers.l4_bytes), (offset, 25));
            assert_eq!((headers.ip_bytes, headers.ttl), (offset - 14 + 25, 64));
            assert_eq!(headers.tcp_flags, 0x12);
        }
    }

    #[test]
    fn a_padded_frame_is_cut_at_its_total_length() {
        for (client, front, _) in ENDS {
            let mut frame = udp_frame(client, front, b"x");
            frame.resize(80, 0xaa);
            assert_eq!(parse(&frame).unwrap().l4_bytes, 9);
        }
    }

    #[test]
    fn truncation_at_every_length_is_a_verdict_never_a_panic() {
        let frames = ENDS.map(|(client, front, _)| tcp_frame(client, front, 2, b""));
        let [_, v6] = frames.clone();
        let extended = with_extensions(v6, &[(0, 8), (60, 24), (51, 16)]);
        assert!(parse(&extended).is_ok());
        for frame in frames.into_iter().chain([extended]) {
            for len in 0..frame.len() {
                assert!(matches!(parse(&frame[..len]), Err(Verdict::Drop(_))), "{len}");
            }
        }
    }

    #[test]
    fn martians_are_refused() {
        let martian = Verdict::Drop(DropReason::InvalidSourceIp);
        for source in ["127.0.0.1:1", "224.0.0.1:1", "0.0.0.0:1"] {
            let frame = udp_frame(source, "10.1.0.254:30053", b"");
            assert_eq!(parse(&frame).unwrap_err(), martian, "{source}");
        }
        for source in ["[::]:1", "[::1]:1", "[ff02::1]:1", "[fe80::1]:1", "[::ffff:10.0.0.1]:1"] {
            let frame = udp_frame(source, "[2001:db8:1::fe]:30053", b"");
            assert_eq!(parse(&frame).unwrap_err(), martian, "{source}");
        }
    }

    #[test]
    fn a_source_route_is_refused_and_other_options_are_stepped_over() {
        let with_options = |options: [u8; 8]| {
            let mut frame = udp_frame(ENDS[0].0, ENDS[0].1, b"x");
            frame.splice(34..34, options);
            (frame[14], frame[17]) = (0x47, 20 + 8 + 9);
            parse(&frame).map(|headers| (headers.l4_offset, headers.l4_bytes))
        };
        let refused = Err(Verdict::Drop(DropReason::IpInhdr));
        assert_eq!(with_options([131, 7, 4, 192, 0, 2, 1, 0]), refused, "loose");
        assert_eq!(with_options([1, 137, 7, 4, 192, 0, 2, 1]), refused, "strict");
        assert_eq!(with_options([7, 40, 4, 0, 0, 0, 0, 0]), refused, "longer than the header");
        assert_eq!(with_options([7, 7, 4, 0, 0, 0, 0, 0]), Ok((42, 9)), "record route");
    }

    #[test]
    fn fragments_are_told_apart_and_only_the_first_has_ports() {
        for (client, front, offset) in ENDS {
            let pieces = fragments(&udp_frame(client, front, &[7; 100]), 64);
            let [first, later] = &pieces[..] else { panic!("{pieces:?}") };
            let [first, later] = [first, later].map(|frame| parse(frame).unwrap());
            let PacketKind::FirstFragment(id) = first.kind else { panic!("{first:?}") };
            assert_eq!(later.kind, PacketKind::LaterFragment(id));
            assert_eq!(first.datagram(), later.datagram());
            assert_eq!((first.key.src_port.number(), first.key.dst_port.number()), (4000, 30_080));
            assert_eq!((later.key.src_port.number(), later.key.dst_port.number()), (0, 0));
            let header = if offset == 54 { 8 } else { 0 };
            assert_eq!((first.l4_offset, first.l4_bytes), (offset + header, 64));
            assert_eq!(later.l4_bytes, 0, "nothing in it may change");
        }
    }

    #[test]
    fn fragments_of_other_protocols_go_to_the_kernel() {
        for (client, front, _) in ENDS {
            let frame = udp_frame(client, front, &[7; 100]);
            let (at, icmp) = if frame[12] == 8 { (23, 1) } else { (54, 58) };
            for mut piece in fragments(&frame, 64) {
                piece[at] = icmp;
                assert_eq!(parse(&piece).unwrap_err(), Verdict::Pass(PassReason::Fragment));
            }
        }
    }

    /// RFC 6946: a fragment header that says it is the only one.
    #[test]
    fn an_atomic_fragment_is_whole() {
        let frame = udp_frame(ENDS[1].0, ENDS[1].1, b"x");
        assert_eq!(parse(&with_extensions(frame, &[(44, 8)])).unwrap().kind, PacketKind::Whole);
    }

    #[test]
    fn extension_headers_are_stepped_over_and_bad_ones_named() {
        let frame = || udp_frame(ENDS[1].0, ENDS[1].1, b"x");
        let good = with_extensions(frame(), &[(0, 8), (60, 16), (43, 8), (51, 12), (60, 8)]);
        let headers = parse(&good).unwrap();
        assert_eq!((headers.l4_offset, headers.l4_bytes), (54 + 52, 9));
        let bad = Verdict::Drop(DropReason::Ipv6BadExthdr);
        for chain in [vec![(60, 8); 7], vec![(60, 8), (0, 8)]] {
            assert_eq!(parse(&with_extensions(frame(), &chain)).unwrap_err(), bad);
        }
        let mut routed = with_extensions(frame(), &[(43, 8)]);
        routed[57] = 1;
        assert_eq!(parse(&routed).unwrap_err(), bad);
        let other = with_extensions(frame(), &[(59, 8)]);
        assert_eq!(parse(&other).unwrap_err(), Verdict::Pass(PassReason::NoService));
    }

    #[test]
    fn a_jumbogram_and_a_wrong_version_are_refused() {
        let refused = |at: usize, bytes: [u8; 2]| {
            let mut frame = udp_frame(ENDS[1].0, ENDS[1].1, b"x");
            frame[at..at + 2].copy_from_slice(&bytes);
            parse(&frame).unwrap_err()
        };
        assert_eq!(refused(18, [0, 0]), Verdict::Drop(DropReason::HdrTrunc), "a jumbogram");
        assert_eq!(refused(14, [0x40, 0]), Verdict::Drop(DropReason::IpInhdr));
    }

    #[test]
    fn udp_needs_its_checksum_in_ipv6_alone() {
        let [v4, v6] = ENDS.map(|(client, front, offset)| {
            let mut frame = udp_frame(client, front, b"x");
            let at = usize::from(offset) + 6;
            frame[at..at + 2].fill(0);
            parse(&frame).map(|headers| headers.l4_bytes)
        });
        assert_eq!(v4, Ok(9));
        assert_eq!(v6, Err(Verdict::Drop(DropReason::UdpCsum)));
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(headers) = parse(bytes) {
                assert!(usize::from(headers.l4_offset + headers.l4_bytes) <= bytes.len());
            }
        });
    }

    /// Random bytes behind a good Ethernet and IP header: few get there by themselves.
    #[test]
    fn any_packet_is_parsed_without_a_panic() {
        let [v4, v6] = ENDS.map(|(client, front, _)| udp_frame(client, front, b""));
        bolero::check!().with_type::<(bool, u8, Vec<u8>)>().for_each(|(is_v6, next, bytes)| {
            let mut frame = if *is_v6 { v6[..54].to_vec() } else { v4[..34].to_vec() };
            let length = u16::try_from(bytes.len() + if *is_v6 { 0 } else { 20 }).unwrap();
            let (at, protocol) = if *is_v6 { (18, 20) } else { (16, 23) };
            frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
            frame[protocol] = *next;
            frame.extend(bytes);
            if let Ok(headers) = parse(&frame) {
                let l4_end = usize::from(headers.l4_offset + headers.l4_bytes);
                let is_later = matches!(headers.kind, PacketKind::LaterFragment(_));
                assert!(l4_end == frame.len() || is_later);
            }
        });
    }
}
