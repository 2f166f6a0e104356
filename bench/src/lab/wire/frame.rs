//! The packets: IPv4 and IPv6, UDP and TCP, of any size, checksums right, each with a stamp that
//! tells what it is and when it was meant to go.

use core::net::{IpAddr, SocketAddr};
use tidegate_dataplane::types::MacAddress;

/// Flows that have addresses and ports of their own, at most; further ones begin anew.
pub(crate) const FLOW_NUMBERS: u32 = 2_097_152;

/// Source ports per source address.
const FLOW_PORTS: u32 = 32_768;

/// The first source port.
const FLOW_PORT_FIRST: u32 = 1_024;

/// Bytes of the frame check sequence, which sizes count and frames lack.
pub(crate) const CHECK_BYTES: usize = 4;

/// The smallest Ethernet frame, without the frame check sequence.
const FRAME_BYTES_MIN: usize = 60;

const ETHERNET: usize = 14;
const MAGIC: [u8; 2] = [0x7d, 0x9a];
const STAMP_BYTES: usize = 18;
const UDP: u8 = 17;
const TCP: u8 = 6;

/// What a packet tells of itself. 18 bytes: what the smallest frame has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    /// The flow's number; new flows by SYN all count as one, the number after the last.
    pub(crate) flow: u32,
    /// The packet's number within its flow.
    pub(crate) sequence: u32,
    /// When it was meant to go, `CLOCK_MONOTONIC`.
    pub(crate) due_ns: u64,
}

impl Stamp {
    /// As it stands in a payload.
    pub(crate) fn bytes(&self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..2].copy_from_slice(&MAGIC);
        bytes[2..6].copy_from_slice(&self.flow.to_be_bytes());
        bytes[6..10].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[10..].copy_from_slice(&self.due_ns.to_be_bytes());
        bytes
    }

    /// The stamp of a frame; `None` where it is not one of ours.
    #[inline]
    pub(crate) fn read(frame: &[u8]) -> Option<Self> {
        Self::of_payload(frame.get(layout(frame)?.payload..)?)
    }

    /// The stamp that a payload begins with; `None` where it is not one of ours.
    #[inline]
    pub(crate) fn of_payload(payload: &[u8]) -> Option<Self> {
        let stamp = payload.first_chunk::<STAMP_BYTES>()?;
        let (magic, rest) = stamp.split_first_chunk::<2>()?;
        let (flow, rest) = rest.split_first_chunk()?;
        let (sequence, rest) = rest.split_first_chunk()?;
        (*magic == MAGIC).then_some(Self {
            flow: u32::from_be_bytes(*flow),
            sequence: u32::from_be_bytes(*sequence),
            due_ns: u64::from_be_bytes(*rest.first_chunk()?),
        })
    }
}

struct Layout {
    addresses: usize,
    address_bytes: usize,
    ports: usize,
    payload: usize,
}

/// Where things stand. Extension headers and fragments are none of ours.
fn layout(frame: &[u8]) -> Option<Layout> {
    let (addresses, address_bytes, protocol, ports) = match frame.get(12..ETHERNET)? {
        [8, 0] => {
            let words = usize::from(frame.get(ETHERNET)? & 0xf);
            (ETHERNET + 12, 4, *frame.get(ETHERNET + 9)?, ETHERNET + words * 4)
        }
        [0x86, 0xdd] => (ETHERNET + 8, 16, *frame.get(ETHERNET + 6)?, ETHERNET + 40),
        _ => return None,
    };
    let payload = match protocol {
        UDP => ports + 8,
        TCP => ports + usize::from(frame.get(ports + 12)? >> 4) * 4,
        _ => return None,
    };
    (frame.len() >= payload).then_some(Layout { addresses, address_bytes, ports, payload })
}

/// Turns a packet round: MAC addresses, addresses and ports change places, so all sums stay right.
/// False where it is not a packet of ours.
pub(crate) fn reflect(frame: &mut [u8]) -> bool {
    let Some(Layout { addresses, address_bytes, ports, .. }) = layout(frame) else { return false };
    for (at, bytes) in [(0, 6), (addresses, address_bytes), (ports, 2)] {
        let (first, second) = frame[at..at + bytes * 2].split_at_mut(bytes);
        first.swap_with_slice(second);
    }
    true
}

/// The protocol of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Transport {
    /// Datagrams.
    Udp,
    /// Segments of flows that a SYN opened; nobody answers them.
    Tcp,
}

/// What a packet does for its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Opens it: a TCP SYN.
    Open,
    /// Goes on: TCP ACK with data.
    Data,
}

/// Where the flows come from and go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ends {
    pub(crate) source_mac: MacAddress,
    pub(crate) destination_mac: MacAddress,
    /// The first flow's source address, of the destination's family; further ones follow it.
    pub(crate) source: IpAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) transport: Transport,
}

impl Ends {
    fn ip_bytes(&self) -> usize {
        if self.destination.is_ipv4() { 20 } else { 40 }
    }

    fn transport_bytes(&self) -> usize {
        if self.transport == Transport::Udp { 8 } else { 20 }
    }

    /// The smallest size that holds a stamp, with the frame check sequence.
    pub(crate) fn size_min(&self) -> usize {
        let bytes = ETHERNET + self.ip_bytes() + self.transport_bytes() + STAMP_BYTES;
        bytes.max(FRAME_BYTES_MIN) + CHECK_BYTES
    }
}

/// A packet of one size whose flow and stamp are not filled in.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    bytes: Vec<u8>,
    transport: usize,
    is_tcp: bool,
    source_at: usize,
    source_low: u16,
    ip_sum: Option<u32>,
    transport_sum: u32,
}

impl Template {
    /// A packet of `size` bytes, with the frame check sequence; [`Ends::size_min`] or more.
    pub(crate) fn new(ends: &Ends, size: usize) -> Self {
        let mut bytes = vec![0; size.max(ends.size_min()) - CHECK_BYTES];
        bytes[..6].copy_from_slice(&ends.destination_mac.0);
        bytes[6..12].copy_from_slice(&ends.source_mac.0);
        let protocol = if ends.transport == Transport::Udp { UDP } else { TCP };
        let (source_at, source_low) = write_ip(&mut bytes, ends, protocol);
        let transport = ETHERNET + ends.ip_bytes();
        let length = low_half(u32_of(bytes.len() - transport));
        let port = ends.destination.port().to_be_bytes();
        bytes[transport + 2..transport + 4].copy_from_slice(&port);
        if protocol == UDP {
            bytes[transport + 4..transport + 6].copy_from_slice(&length.to_be_bytes());
        } else {
            // Header of five words, window of 64,240 bytes.
            bytes[transport + 12] = 0x50;
            bytes[transport + 14..transport + 16].copy_from_slice(&64_240_u16.to_be_bytes());
        }
        let addresses = if ends.destination.is_ipv4() { ETHERNET + 12 } else { ETHERNET + 8 };
        let pseudo = u32::from(u16::from(protocol).to_be()) + u32::from(length.to_be());
        Self {
            transport,
            is_tcp: protocol == TCP,
            source_at,
            source_low,
            ip_sum: ends.destination.is_ipv4().then(|| sum(&bytes[ETHERNET..transport])),
            transport_sum: sum(&bytes[addresses..transport]) + pseudo + sum(&bytes[transport..]),
            bytes,
        }
    }

    /// Bytes of the frame.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Writes a packet of flow `number` to the start of `frame`, which has room for
    /// [`Template::len`].
    #[inline]
    pub(crate) fn write(&self, frame: &mut [u8], number: u32, step: Step, stamp: &Stamp) {
        let frame = &mut frame[..self.bytes.len()];
        frame.copy_from_slice(&self.bytes);
        let number = number % FLOW_NUMBERS;
        let port = low_half(FLOW_PORT_FIRST + number % FLOW_PORTS).to_be_bytes();
        let low = low_half(u32::from(self.source_low) + number / FLOW_PORTS).to_be_bytes();
        frame[self.source_at..self.source_at + 2].copy_from_slice(&low);
        frame[self.transport..self.transport + 2].copy_from_slice(&port);
        let low_sum = u32::from(u16::from_ne_bytes(low));
        let mut total = self.transport_sum + low_sum + u32::from(u16::from_ne_bytes(port));
        let stamp = stamp.bytes();
        total += sum(&stamp);
        if let Some(ip_sum) = self.ip_sum {
            put_sum(frame, ETHERNET + 10, finish(ip_sum + low_sum));
        }
        if self.is_tcp {
            let flags = [0x50, if step == Step::Open { 0x02 } else { 0x10 }];
            frame[self.transport + 12..self.transport + 14].copy_from_slice(&flags);
            // The template counted the header's length already.
            total += u32::from(u16::from_ne_bytes([0, flags[1]]));
            put_sum(frame, self.transport + 16, finish(total));
        } else {
            // A sum of 0 goes out as its complement (RFC 768).
            let sum = finish(total);
            put_sum(frame, self.transport + 6, if sum == 0 { 0xffff } else { sum });
        }
        let payload = self.transport + if self.is_tcp { 20 } else { 8 };
        frame[payload..payload + STAMP_BYTES].copy_from_slice(&stamp);
    }
}

/// Writes EtherType and IP header; returns where the low half of the source address stands, and
/// what it is for the first flow.
fn write_ip(bytes: &mut [u8], ends: &Ends, protocol: u8) -> (usize, u16) {
    assert!(bytes.len() > 53, "a frame has room for Ethernet and IPv6");
    let length = bytes.len() - ETHERNET;
    let low = |bytes: &[u8]| bytes.last_chunk().map_or(0, |low| u16::from_be_bytes(*low));
    match (ends.source, ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            bytes[12..16].copy_from_slice(&[8, 0, 0x45, 0]);
            bytes[16..18].copy_from_slice(&low_half(u32_of(length)).to_be_bytes());
            bytes[22..24].copy_from_slice(&[64, protocol]);
            bytes[26..28].copy_from_slice(&source.octets()[..2]);
            bytes[30..34].copy_from_slice(&destination.octets());
            (28, low(&source.octets()))
        }
        (source, destination) => {
            let octets = |address| match address {
                IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                IpAddr::V6(v6) => v6.octets(),
            };
            bytes[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
            bytes[18..20].copy_from_slice(&low_half(u32_of(length - 40)).to_be_bytes());
            bytes[20..22].copy_from_slice(&[protocol, 64]);
            bytes[22..36].copy_from_slice(&octets(source)[..14]);
            bytes[38..54].copy_from_slice(&octets(destination));
            (36, low(&octets(source)))
        }
    }
}

fn put_sum(frame: &mut [u8], at: usize, sum: u16) {
    frame[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
}

/// The sum of 16-bit words in the machine's order (RFC 1071 section 2B).
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |byte| u32::from(u16::from_ne_bytes([*byte, 0])));
    words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum::<u32>() + odd
}

fn finish(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !low_half((once & 0xffff) + (once >> 16))
}

#[expect(clippy::cast_possible_truncation, reason = "addresses and ports wrap at 16 bits")]
fn low_half(number: u32) -> u16 {
    number as u16
}

#[expect(clippy::cast_possible_truncation, reason = "bytes of a frame")]
fn u32_of(bytes: usize) -> u32 {
    bytes as u32
}

#[cfg(test)]
pub(in crate::lab) mod tests {
    use super::*;
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    use std::collections::BTreeSet;

    pub(crate) fn ends(source: &str, destination: &str, transport: Transport) -> Ends {
        Ends {
            source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            transport,
        }
    }

    fn kinds() -> [Ends; 4] {
        let (v4, v6) = (("192.0.2.10", "192.0.2.1:30090"), ("2001:db8::10", "[2001:db8::1]:30090"));
        [
            ends(v4.0, v4.1, Transport::Udp),
            ends(v4.0, v4.1, Transport::Tcp),
            ends(v6.0, v6.1, Transport::Udp),
            ends(v6.0, v6.1, Transport::Tcp),
        ]
    }

    /// Source address and port, whether it is a SYN, after all sums were checked.
    fn checked(frame: &[u8]) -> (IpAddr, u16, bool) {
        let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let payload = packet.payload.slice();
        let (port, sums, is_syn) = match packet.transport.unwrap() {
            TransportHeader::Udp(udp) => {
                let sum = match packet.net.as_ref().unwrap() {
                    NetHeaders::Ipv4(ip, _) => udp.calc_checksum_ipv4(ip, payload),
                    NetHeaders::Ipv6(ip, _) => udp.calc_checksum_ipv6(ip, payload),
                    NetHeaders::Arp(_) => panic!("not IP"),
                };
                (udp.source_port, (sum.unwrap(), udp.checksum), false)
            }
            TransportHeader::Tcp(tcp) => {
                let sum = match packet.net.as_ref().unwrap() {
                    NetHeaders::Ipv4(ip, _) => tcp.calc_checksum_ipv4(ip, payload),
                    NetHeaders::Ipv6(ip, _) => tcp.calc_checksum_ipv6(ip, payload),
                    NetHeaders::Arp(_) => panic!("not IP"),
                };
                assert_ne!(tcp.syn, tcp.ack);
                (tcp.source_port, (sum.unwrap(), tcp.checksum), tcp.syn)
            }
            _ => panic!("neither UDP nor TCP"),
        };
        assert_eq!(sums.0, sums.1);
        let source = match packet.net.unwrap() {
            NetHeaders::Ipv4(ip, _) => {
                assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
                IpAddr::from(ip.source)
            }
            NetHeaders::Ipv6(ip, _) => IpAddr::from(ip.source),
            NetHeaders::Arp(_) => panic!("not IP"),
        };
        (source, port, is_syn)
    }

    #[test]
    fn every_kind_and_size_has_right_sums_and_its_stamp() {
        for ends in kinds() {
            for size in [ends.size_min(), 129, 570, 1_518] {
                let template = Template::new(&ends, size);
                assert_eq!(template.len(), size - CHECK_BYTES);
                let mut frame = [0xaa; 1_514];
                let mut seen = BTreeSet::new();
                for number in (0..1_000_000).step_by(9_973) {
                    let due_ns = u64::from(number) * 0x0123_4567_89ab;
                    let stamp = Stamp { flow: number, sequence: !number, due_ns };
                    let step = if number % 2 == 0 { Step::Open } else { Step::Data };
                    template.write(&mut frame, number, step, &stamp);
                    let frame = &mut frame[..template.len()];
                    let (source, port, is_syn) = checked(frame);
                    assert!(seen.insert((source, port)), "flow {number} is another's");
                    let is_tcp = ends.transport == Transport::Tcp;
                    assert_eq!(is_syn, is_tcp && step == Step::Open);
                    assert_eq!(Stamp::read(frame), Some(stamp));
                    assert!(reflect(frame));
                    assert_eq!(checked(frame).0, ends.destination.ip());
                    assert_eq!(frame[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
                }
            }
        }
    }

    #[test]
    fn the_smallest_frame_holds_a_stamp_for_ipv4_and_udp_alone() {
        assert_eq!(kinds().map(|ends| ends.size_min()), [64, 76, 84, 96]);
    }

    #[test]
    fn what_is_not_ours_has_no_stamp_whatever_its_length() {
        let template = Template::new(&kinds()[1], 76);
        let mut frame = [0; 72];
        let stamp = Stamp { flow: 1, sequence: 2, due_ns: 3 };
        template.write(&mut frame, 1, Step::Data, &stamp);
        assert!((0..72).all(|length| Stamp::read(&frame[..length]).is_none()));
        frame[54] ^= 1;
        assert_eq!(Stamp::read(&frame), None);
        let mut arp = [0; 60];
        arp[12..14].copy_from_slice(&[8, 6]);
        assert!(!reflect(&mut arp));
    }
}
