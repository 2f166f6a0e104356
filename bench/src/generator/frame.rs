//! The packets: 60 bytes of UDP (64 with the frame check sequence), one per flow, checksums right.

use core::net::SocketAddrV4;
use tidegate_dataplane::types::MacAddress;

/// Bytes of a frame: Ethernet's least, without the frame check sequence.
pub(crate) const FRAME_BYTES: usize = 60;

/// Source ports per source address. Flow `n` has port `FLOW_PORT_FIRST + n % FLOW_PORTS` of address
/// `n / FLOW_PORTS`. The same in `bpf/blast.bpf.c`.
pub(crate) const FLOW_PORTS: u32 = 32_768;

/// The first source port.
pub(crate) const FLOW_PORT_FIRST: u32 = 1_024;

const IP: usize = 14;
const IP_SUM: usize = 24;
const SOURCE_LOW: usize = 28;
const UDP: usize = 34;
const UDP_SUM: usize = 40;

/// Where the flows come from and go to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    pub(crate) source_mac: MacAddress,
    pub(crate) destination_mac: MacAddress,
    /// The first flow's source address; further ones follow it.
    pub(crate) source: core::net::Ipv4Addr,
    pub(crate) destination: SocketAddrV4,
}

/// A packet whose source port, low half of the source address, and sums are not filled in.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    pub(crate) bytes: [u8; FRAME_BYTES],
    /// Low half of the first source address, host order.
    pub(crate) address_low: u16,
    /// Native-order sums of what is there already.
    pub(crate) ip_sum: u32,
    pub(crate) udp_sum: u32,
}

impl Template {
    pub(crate) fn new(route: &Route) -> Self {
        let mut bytes = [0; FRAME_BYTES];
        bytes[..6].copy_from_slice(&route.destination_mac.0);
        bytes[6..12].copy_from_slice(&route.source_mac.0);
        // EtherType IPv4; version 4, header of five words; 46 bytes; TTL 64; UDP.
        bytes[12..14].copy_from_slice(&[8, 0]);
        bytes[IP] = 0x45;
        bytes[IP + 3] = 46;
        bytes[IP + 8] = 64;
        bytes[IP + 9] = 17;
        let [a, b, high, low] = route.source.octets();
        bytes[SOURCE_LOW - 2..SOURCE_LOW].copy_from_slice(&[a, b]);
        bytes[30..34].copy_from_slice(&route.destination.ip().octets());
        bytes[UDP + 2..UDP + 4].copy_from_slice(&route.destination.port().to_be_bytes());
        bytes[UDP + 5] = 26;
        let pseudo = u32::from(17u16.to_be()) + u32::from(26u16.to_be());
        Self {
            ip_sum: sum(&bytes[IP..UDP]),
            udp_sum: sum(&bytes[26..34]) + pseudo + sum(&bytes[UDP..]),
            address_low: u16::from_be_bytes([high, low]),
            bytes,
        }
    }

    /// Writes flow `number`'s packet to the start of `frame`, which has [`FRAME_BYTES`] at least.
    #[inline]
    pub(crate) fn write(&self, number: u32, frame: &mut [u8]) {
        let port = low_half(FLOW_PORT_FIRST + number % FLOW_PORTS).to_be_bytes();
        let address = low_half(u32::from(self.address_low) + number / FLOW_PORTS).to_be_bytes();
        let (port_sum, address_sum) =
            (u32::from(u16::from_ne_bytes(port)), u32::from(u16::from_ne_bytes(address)));
        let ip_sum = finish(self.ip_sum + address_sum).to_ne_bytes();
        let udp_sum = match finish(self.udp_sum + address_sum + port_sum) {
            // A sum of 0 goes out as its complement (RFC 768).
            0 => [0xff; 2],
            sum => sum.to_ne_bytes(),
        };
        frame[..FRAME_BYTES].copy_from_slice(&self.bytes);
        frame[SOURCE_LOW..SOURCE_LOW + 2].copy_from_slice(&address);
        frame[UDP..UDP + 2].copy_from_slice(&port);
        frame[IP_SUM..IP_SUM + 2].copy_from_slice(&ip_sum);
        frame[UDP_SUM..UDP_SUM + 2].copy_from_slice(&udp_sum);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "addresses and ports wrap at 16 bits")]
fn low_half(number: u32) -> u16 {
    number as u16
}

/// The sum of 16-bit words in the machine's order (RFC 1071 section 2B).
fn sum(bytes: &[u8]) -> u32 {
    let (words, _) = bytes.as_chunks::<2>();
    words.iter().map(|word| u32::from(u16::from_ne_bytes(*word))).sum()
}

fn finish(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    !low_half((once & 0xffff) + (once >> 16))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use core::net::Ipv4Addr;
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};

    pub(crate) fn route() -> Route {
        Route {
            source_mac: MacAddress([2, 0, 0, 0, 0, 1]),
            destination_mac: MacAddress([2, 0, 0, 0, 0, 2]),
            source: Ipv4Addr::new(192, 0, 2, 10),
            destination: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 30_090),
        }
    }

    /// Source address and port, after all sums were checked by an independent parser.
    pub(crate) fn checked_source(frame: &[u8]) -> (Ipv4Addr, u16) {
        let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
        let Some(NetHeaders::Ipv4(ip, _)) = packet.net else { panic!("not IPv4") };
        let Some(TransportHeader::Udp(udp)) = packet.transport else { panic!("not UDP") };
        assert_eq!(ip.calc_header_checksum(), ip.header_checksum);
        let payload = packet.payload.slice();
        assert_eq!(udp.calc_checksum_ipv4(&ip, payload).unwrap(), udp.checksum);
        assert_eq!((payload.len(), udp.destination_port), (18, 30_090));
        (ip.source.into(), udp.source_port)
    }

    #[test]
    fn every_flow_has_its_own_source_and_right_sums() {
        let template = Template::new(&route());
        let mut frame = [0; FRAME_BYTES];
        let mut seen = std::collections::BTreeSet::new();
        for number in (0..100_000).step_by(7) {
            template.write(number, &mut frame);
            assert!(seen.insert(checked_source(&frame)), "flow {number} is another's");
        }
        template.write(FLOW_PORTS + 1, &mut frame);
        assert_eq!(checked_source(&frame), (Ipv4Addr::new(192, 0, 2, 11), 1025));
    }
}
