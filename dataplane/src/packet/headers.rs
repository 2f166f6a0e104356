//! Header layouts as zerocopy views: fields in wire order, any alignment.

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of an Ethernet header without a tag.
pub const ETHERNET_BYTES: usize = 14;
/// Bytes of an IPv4 header without options.
pub const IPV4_BYTES_MIN: usize = 20;
/// Bytes of a TCP header without options.
pub const TCP_BYTES_MIN: usize = 20;
/// Bytes of a UDP header.
pub const UDP_BYTES: usize = 8;
/// EtherType of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;

/// Ethernet II.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub struct Ethernet {
    /// Destination address.
    pub destination: [u8; 6],
    /// Source address.
    pub source: [u8; 6],
    /// EtherType.
    pub ethertype: U16,
}

/// IPv4 without options (RFC 791 section 3.1).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub struct Ipv4 {
    /// Version, and header length in words of four bytes.
    pub version_ihl: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// Header and payload, in bytes.
    pub total_length: U16,
    /// Identification.
    pub identification: U16,
    /// Flags and fragment offset.
    pub fragment: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol number.
    pub protocol: u8,
    /// Header checksum.
    pub checksum: [u8; 2],
    /// Source address.
    pub source: [u8; 4],
    /// Destination address.
    pub destination: [u8; 4],
}

impl Ipv4 {
    /// Version: 4 in a good packet.
    #[inline]
    pub fn version(&self) -> u8 {
        self.version_ihl >> 4
    }

    /// Header length in bytes, 0 to 60; less than 20 in a bad packet.
    #[inline]
    pub fn header_bytes(&self) -> usize {
        usize::from(self.version_ihl & 0xf) * 4
    }

    /// Whether this is a fragment: more follow, or its offset is not 0.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment.get() & 0x3fff != 0
    }
}

/// TCP without options (RFC 9293 section 3.1).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub struct Tcp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Sequence number.
    pub sequence: [u8; 4],
    /// Acknowledgment number.
    pub acknowledgment: [u8; 4],
    /// Data offset.
    pub offset: u8,
    /// Control bits.
    pub flags: u8,
    /// Window.
    pub window: U16,
    /// Checksum over pseudo-header, header and data.
    pub checksum: [u8; 2],
    /// Urgent pointer.
    pub urgent: U16,
}

/// TCP control bits.
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// The acknowledgment number counts.
    pub const ACK: u8 = 0x10;
}

/// UDP (RFC 768).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub struct Udp {
    /// Source port.
    pub source: [u8; 2],
    /// Destination port.
    pub destination: [u8; 2],
    /// Header and data, in bytes.
    pub length: U16,
    /// Checksum; 0 = none, on IPv4.
    pub checksum: [u8; 2],
}
