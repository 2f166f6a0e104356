//! Bytes to headers. Untrusted: every length is checked before it is used.

use crate::packet::headers::{
    ETHERNET_BYTES, ETHERTYPE_IPV4, Ethernet, IPV4_BYTES_MIN, Ipv4, TCP_BYTES_MIN, Tcp, UDP_BYTES,
    Udp,
};
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
    if ip.is_fragment() {
        return Err(Verdict::Pass(PassReason::Fragment));
    }
    if !is_host_address(ip.source) {
        return Err(Verdict::Drop(DropReason::InvalidSourceIp));
    }
    let l4_header = parse_l4(ip.protocol, l4)?;
    headers.key = FlowKey::new(
        l4_header.protocol,
        (IpAddress::v4(ip.source), L4Port::from_bytes(l4_header.source)),
        (IpAddress::v4(ip.destination), L4Port::from_bytes(l4_header.destination)),
    );
    let short = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
    headers.l4_offset = short(ETHERNET_BYTES + header_bytes);
    headers.l4_bytes = short(l4.len());
    headers.ip_bytes = ip.total_length.get();
    headers.ttl = ip.ttl;
    headers.tcp_flags = l4_header.tcp_flags;
    Ok(())
}

/// What both transports have, and TCP's control bits.
struct L4Header {
    protocol: Protocol,
    source: [u8; 2],
    destination: [u8; 2],
    tcp_flags: u8,
}

#[inline(always)]
fn parse_l4(protocol: u8, l4: &[u8]) -> Result<L4Header, Verdict> {
    match protocol {
        6 => {
            let (tcp, _) = prefix::<Tcp>(l4, DropReason::HdrTrunc)?;
            let header_bytes = usize::from(tcp.offset >> 4) * 4;
            if header_bytes < TCP_BYTES_MIN || header_bytes > l4.len() {
                return Err(Verdict::Drop(DropReason::HdrTrunc));
            }
            let (source, destination) = (tcp.source, tcp.destination);
            Ok(L4Header { protocol: Protocol::Tcp, source, destination, tcp_flags: tcp.flags })
        }
        17 => {
            let (udp, _) = prefix::<Udp>(l4, DropReason::HdrTrunc)?;
            let length = usize::from(udp.length.get());
            if length < UDP_BYTES || length > l4.len() {
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
    use crate::testing::{tcp_frame, udp_frame};

    #[test]
    fn a_tcp_frame_gives_its_five_tuple_and_flags() {
        let frame = tcp_frame("10.1.0.1:4000", "10.1.0.254:30080", 0x12, b"hello");
        let headers = parse(&frame).unwrap();
        assert_eq!(headers.key.src_port.number(), 4000);
        assert_eq!(headers.key.dst.to_string(), "10.1.0.254");
        assert_eq!((headers.l4_offset, headers.l4_bytes), (34, 25));
        assert_eq!(headers.tcp_flags, 0x12);
    }

    #[test]
    fn a_padded_frame_is_cut_at_its_total_length() {
        let mut frame = udp_frame("10.1.0.1:4000", "10.1.0.254:30053", b"x");
        frame.resize(60, 0xaa);
        assert_eq!(parse(&frame).unwrap().l4_bytes, 9);
    }

    #[test]
    fn truncation_at_every_length_is_a_verdict_never_a_panic() {
        let frame = tcp_frame("10.1.0.1:4000", "10.1.0.254:30080", 2, b"");
        for len in 0..frame.len() {
            assert!(matches!(parse(&frame[..len]), Err(Verdict::Drop(_))), "{len}");
        }
    }

    #[test]
    fn martians_and_fragments_are_told_apart() {
        let martian = udp_frame("127.0.0.1:1", "10.1.0.254:30053", b"");
        assert_eq!(parse(&martian).unwrap_err(), Verdict::Drop(DropReason::InvalidSourceIp));
        let mut fragment = udp_frame("10.1.0.1:1", "10.1.0.254:30053", b"");
        fragment[20] = 0x20;
        assert_eq!(parse(&fragment).unwrap_err(), Verdict::Pass(PassReason::Fragment));
    }

    #[test]
    fn any_bytes_are_parsed_without_a_panic() {
        bolero::check!().for_each(|bytes: &[u8]| {
            if let Ok(headers) = parse(bytes) {
                assert!(usize::from(headers.l4_offset + headers.l4_bytes) <= bytes.len());
            }
        });
    }
}
