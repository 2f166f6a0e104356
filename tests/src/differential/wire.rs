//! IP packets: written from a template, read back where one came out.

use super::sums::{fold, pseudo_header, sum};
use anyhow::{Context as _, Result};
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use etherparse::{
    IpDscp, IpEcn, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions,
    Ipv6FlowLabel, Ipv6Header, TcpHeader, UdpHeader, ip_number,
};

/// The largest IP packet of the rig's links, in bytes.
pub(super) const MTU_BYTES: usize = 1500;

/// Bytes of an Ethernet header.
pub(super) const ETHERNET_BYTES: usize = 14;

const IPV6_BYTES: usize = 40;

/// TCP control bits, ECN's included.
pub(super) mod flag {
    pub(in super::super) const FIN: u8 = 0x01;
    pub(in super::super) const SYN: u8 = 0x02;
    pub(in super::super) const RST: u8 = 0x04;
    pub(in super::super) const PSH: u8 = 0x08;
    pub(in super::super) const ACK: u8 = 0x10;
    pub(in super::super) const URG: u8 = 0x20;
}

/// From whom, to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
}

impl Ends {
    pub(super) const fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source }
    }
}

/// A packet less its addresses, ports and marker.
#[derive(Debug, Clone)]
pub(super) struct Template {
    pub(super) ttl: u8,
    /// DSCP and ECN.
    pub(super) tos: u8,
    pub(super) is_df: bool,
    /// A multiple of four bytes.
    pub(super) options: Vec<u8>,
    pub(super) transport: Transport,
    pub(super) payload: Vec<u8>,
}

#[derive(Debug, Clone)]
pub(super) enum Transport {
    Tcp(Segment),
    Udp {
        has_checksum: bool,
    },
    /// The payload is what it quotes.
    Error(Complaint),
}

impl Transport {
    /// How long its header is.
    pub(super) const fn header_bytes(&self) -> usize {
        match self {
            Self::Tcp(segment) => 20 + segment.options.len(),
            Self::Udp { .. } | Self::Error(_) => 8,
        }
    }
}

/// An ICMP error: what it says, in both families.
#[derive(Debug, Clone, Copy)]
pub(super) struct Complaint {
    /// Type and code of ICMP.
    pub(super) v4: [u8; 2],
    /// Type and code of ICMPv6.
    pub(super) v6: [u8; 2],
    /// What follows the checksum: of "too big" the MTU, else 0.
    pub(super) rest: u32,
    /// How much it quotes at most, behind the quoted packet's IP header.
    pub(super) quote_bytes: usize,
    /// A router between sends it, not the host itself.
    pub(super) by_router: bool,
}

impl Complaint {
    /// The beginning of `packet`, as long as this one quotes it.
    pub(super) fn quote(self, packet: &[u8]) -> &[u8] {
        let header = parts(packet).map_or(0, |parts| parts.transport);
        packet.get(..header + self.quote_bytes).unwrap_or(packet)
    }
}

/// What a TCP header says beside the ports.
#[derive(Debug, Clone)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) acknowledgment: u32,
    pub(super) flags: u8,
    pub(super) window: u16,
    pub(super) urgent: u16,
    /// A multiple of four bytes.
    pub(super) options: Vec<u8>,
}

impl Template {
    /// The IP packet with everything filled in. `marker` becomes its IPv4 identification or its
    /// IPv6 flow label.
    pub(super) fn write(&self, marker: u16, ends: Ends) -> Result<Vec<u8>> {
        match (ends.source.ip(), ends.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut ip = self.header_v4(marker, source, destination)?;
                let transport = self.transport_header(
                    &IpHeaders::Ipv4(ip.clone(), Ipv4Extensions::default()),
                    ends,
                )?;
                ip.set_payload_len(transport.len() + self.payload.len())?;
                ip.header_checksum = ip.calc_header_checksum();
                Ok([&ip.to_bytes()[..], &transport, &self.payload].concat())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut ip = self.header_v6(marker, source, destination)?;
                let extension = self.extension();
                let transport = self.transport_header(
                    &IpHeaders::Ipv6(ip.clone(), Ipv6Extensions::default()),
                    ends,
                )?;
                ip.set_payload_length(extension.len() + transport.len() + self.payload.len())?;
                Ok([&ip.to_bytes()[..], &extension, &transport, &self.payload].concat())
            }
            _ => anyhow::bail!("{ends:?} are not of one family"),
        }
    }

    /// How long the IP packet is.
    pub(super) fn ip_bytes(&self, is_v6: bool) -> usize {
        let header = match (is_v6, self.options.is_empty()) {
            (true, true) => IPV6_BYTES,
            (true, false) => IPV6_BYTES + 8,
            (false, _) => 20 + self.options.len(),
        };
        header + self.transport.header_bytes() + self.payload.len()
    }

    fn header_v4(
        &self,
        marker: u16,
        source: Ipv4Addr,
        destination: Ipv4Addr,
    ) -> Result<Ipv4Header> {
        let (source, destination) = (source.octets(), destination.octets());
        let mut ip = Ipv4Header::new(0, self.ttl, self.ip_number(false), source, destination)?;
        ip.dscp = IpDscp::try_new(self.tos >> 2)?;
        ip.ecn = IpEcn::try_new(self.tos & 3)?;
        ip.identification = marker;
        ip.dont_fragment = self.is_df;
        ip.options = Ipv4Options::try_from(&self.options[..])?;
        Ok(ip)
    }

    fn header_v6(
        &self,
        marker: u16,
        source: Ipv6Addr,
        destination: Ipv6Addr,
    ) -> Result<Ipv6Header> {
        let has_extension = !self.extension().is_empty();
        Ok(Ipv6Header {
            traffic_class: self.tos,
            flow_label: Ipv6FlowLabel::try_new(marker.into())?,
            payload_length: 0,
            next_header: if has_extension {
                ip_number::IPV6_DEST_OPTIONS
            } else {
                self.ip_number(true)
            },
            hop_limit: self.ttl,
            source: source.octets(),
            destination: destination.octets(),
        })
    }

    /// What IPv4 says in options, IPv6 says in an extension header: destination options, all
    /// padding (RFC 8200 section 4.6).
    fn extension(&self) -> Vec<u8> {
        let header = [self.ip_number(true).0, 0, 1, 4, 0, 0, 0, 0];
        if self.options.is_empty() { Vec::new() } else { header.to_vec() }
    }

    const fn ip_number(&self, is_v6: bool) -> IpNumber {
        match self.transport {
            Transport::Tcp(_) => ip_number::TCP,
            Transport::Udp { .. } => ip_number::UDP,
            Transport::Error(_) if is_v6 => ip_number::IPV6_ICMP,
            Transport::Error(_) => ip_number::ICMP,
        }
    }

    fn transport_header(&self, ip: &IpHeaders, ends: Ends) -> Result<Vec<u8>> {
        let (from, to) = (ends.source.port(), ends.destination.port());
        match &self.transport {
            Transport::Tcp(segment) => {
                let mut tcp = segment.header(from, to)?;
                tcp.checksum = match ip {
                    IpHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, &self.payload)?,
                    IpHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, &self.payload)?,
                };
                Ok(tcp.to_bytes().to_vec())
            }
            Transport::Udp { has_checksum } => {
                let mut udp = UdpHeader::without_ipv4_checksum(from, to, self.payload.len())?;
                if *has_checksum {
                    udp.checksum = match ip {
                        IpHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, &self.payload)?,
                        IpHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, &self.payload)?,
                    };
                }
                Ok(udp.to_bytes().to_vec())
            }
            Transport::Error(complaint) => Ok(self.icmp_header(*complaint, ends)),
        }
    }
}

impl Template {
    fn icmp_header(&self, complaint: Complaint, ends: Ends) -> Vec<u8> {
        let is_v6 = ends.source.is_ipv6();
        let [kind, code] = if is_v6 { complaint.v6 } else { complaint.v4 };
        let mut header = vec![kind, code, 0, 0];
        header.extend(complaint.rest.to_be_bytes());
        let pseudo =
            if is_v6 { pseudo_header(58, ends, header.len() + self.payload.len()) } else { 0 };
        let sum = fold(pseudo + sum(&header) + sum(&self.payload));
        let field = !u16::try_from(sum).unwrap_or_default();
        header[2..4].copy_from_slice(&field.to_be_bytes());
        header
    }
}

impl Segment {
    fn header(&self, from: u16, to: u16) -> Result<TcpHeader> {
        let mut tcp = TcpHeader::new(from, to, self.sequence, self.window);
        let has = |bit: u8| self.flags & bit != 0;
        (tcp.fin, tcp.syn, tcp.rst) = (has(flag::FIN), has(flag::SYN), has(flag::RST));
        (tcp.psh, tcp.ack, tcp.urg) = (has(flag::PSH), has(flag::ACK), has(flag::URG));
        (tcp.ece, tcp.cwr) = (has(0x40), has(0x80));
        tcp.acknowledgment_number = self.acknowledgment;
        tcp.urgent_pointer = self.urgent;
        tcp.set_options_raw(&self.options).context("set TCP options")?;
        Ok(tcp)
    }
}

/// Where the parts of an IP packet are.
#[derive(Debug, Clone)]
pub(super) struct Parts {
    pub(super) protocol: u8,
    /// Where the transport header begins.
    pub(super) transport: usize,
    /// The marker.
    pub(super) marker: u16,
    /// Addresses; ports are 0 where there are none.
    pub(super) ends: Ends,
}

/// The parts of a packet, or of the beginning of one that an ICMP error quotes; `None` if it is
/// not IP, or not even the ports are there.
pub(super) fn parts(ip: &[u8]) -> Option<Parts> {
    let (protocol, transport, marker, addresses) = if ip.first()? >> 4 == 4 {
        let (header, _) = Ipv4Header::from_slice(ip).ok()?;
        let addresses = (IpAddr::from(header.source), IpAddr::from(header.destination));
        (header.protocol, header.header_len(), header.identification, addresses)
    } else {
        let (header, _) = Ipv6Header::from_slice(ip).ok()?;
        let (protocol, transport) = behind_extensions(ip, header.next_header)?;
        let marker = u16::try_from(header.flow_label.value()).unwrap_or_default();
        (protocol, transport, marker, (header.source.into(), header.destination.into()))
    };
    let has_ports = matches!(protocol, ip_number::TCP | ip_number::UDP);
    let ports = if has_ports { *ip.get(transport..)?.first_chunk::<4>()? } else { [0; 4] };
    let [a, b, c, d] = ports;
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let ends = Ends {
        source: SocketAddr::new(addresses.0, from),
        destination: SocketAddr::new(addresses.1, to),
    };
    Some(Parts { protocol: protocol.0, transport, marker, ends })
}

/// The protocol behind the extension headers that our own packets have, and where it begins.
fn behind_extensions(ip: &[u8], first: IpNumber) -> Option<(IpNumber, usize)> {
    let (mut next, mut at) = (first, IPV6_BYTES);
    while next == ip_number::IPV6_DEST_OPTIONS {
        let [after, length] = *ip.get(at..)?.first_chunk::<2>()?;
        (next, at) = (IpNumber(after), at + 8 + 8 * usize::from(length));
    }
    Some((next, at))
}

/// The packet that an ICMP error quotes; `None` if this is none.
pub(super) fn quoted(ip: &[u8]) -> Option<&[u8]> {
    let parts = parts(ip)?;
    let icmp = ip.get(parts.transport..)?;
    let is_error = match IpNumber(parts.protocol) {
        ip_number::ICMP => matches!(icmp.first()?, 3 | 4 | 5 | 11 | 12),
        ip_number::IPV6_ICMP => *icmp.first()? < 128,
        _ => false,
    };
    icmp.get(8..).filter(|_| is_error)
}

/// The IP packet of an Ethernet frame, less padding; `None` if it is another protocol, or how
/// IPv6 hosts find each other.
pub(super) fn packet_of(frame: &[u8]) -> Option<&[u8]> {
    let ip = frame.get(ETHERNET_BYTES..)?;
    let number = |at: usize| Some(u16::from_be_bytes(*ip.get(at..)?.first_chunk::<2>()?));
    match frame.get(12..14)? {
        [0x08, 0x00] => ip.get(..usize::from(number(2)?)),
        [0x86, 0xdd] => {
            let whole = ip.get(..IPV6_BYTES + usize::from(number(4)?))?;
            let is_chatter = ip.get(24)? >> 4 == 0xf && ip.get(24)? & 0xf == 0xf;
            (!is_chatter && !is_neighbour_discovery(whole)).then_some(whole)
        }
        _ => None,
    }
}

fn is_neighbour_discovery(ip: &[u8]) -> bool {
    let Some(parts) = parts(ip) else { return true };
    let kind = ip.get(parts.transport).copied().unwrap_or_default();
    IpNumber(parts.protocol) == ip_number::IPV6_ICMP && kind >= 130
}

/// No address and no port.
pub(super) fn nobody(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}
