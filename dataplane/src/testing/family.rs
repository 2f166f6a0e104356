//! The addresses of the fixtures, in both families.

use super::{FRONT, SNAT_ADDRESS};
use crate::types::IpAddress;
use core::net::{IpAddr, Ipv6Addr};

/// IPv4 or IPv6: tests of what is common run over [`Family::ALL`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// Clients in 10.1.0.0/16, backends in 10.244.0.0/16.
    V4,
    /// Clients in 2001:db8:1::/64, backends in fd00:244::/64.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Where clients dial.
    pub fn front(self) -> &'static str {
        match self {
            Self::V4 => FRONT,
            Self::V6 => "[2001:db8:1::fe]:30080",
        }
    }

    /// Another port of the front's address, which nobody owns.
    pub fn no_front(self) -> &'static str {
        match self {
            Self::V4 => "10.1.0.254:22",
            Self::V6 => "[2001:db8:1::fe]:22",
        }
    }

    /// A client's address and port.
    pub fn client(self, host: u16, port: u16) -> String {
        let [high, low] = host.to_be_bytes();
        match self {
            Self::V4 => format!("10.1.{high}.{low}:{port}"),
            Self::V6 => format!("[2001:db8:1::{host:x}]:{port}"),
        }
    }

    /// The node's address towards backends.
    pub fn snat_address(self) -> IpAddress {
        let text = match self {
            Self::V4 => SNAT_ADDRESS,
            Self::V6 => "fd00:2::1",
        };
        text.parse::<IpAddr>().unwrap().into()
    }

    /// The address of backend `number`, 1 and up.
    pub fn backend(self, number: u16) -> IpAddress {
        let [high, low] = number.to_be_bytes();
        match self {
            Self::V4 => IpAddress::v4([10, 244, high, low]),
            Self::V6 => Ipv6Addr::new(0xfd00, 0x244, 0, 0, 0, 0, 0, number).into(),
        }
    }

    /// A router between the node and its backends.
    pub fn router(self) -> IpAddr {
        let text = match self {
            Self::V4 => "10.2.0.99",
            Self::V6 => "fd00:2::99",
        };
        text.parse().unwrap()
    }

    /// Bytes of the IP header without options or extensions.
    pub fn header_bytes(self) -> usize {
        match self {
            Self::V4 => 20,
            Self::V6 => 40,
        }
    }

    /// Where the L4 header of such a frame starts.
    pub fn l4_offset(self) -> usize {
        14 + self.header_bytes()
    }

    /// Where the TTL or hop limit stands in a frame.
    pub fn ttl_offset(self) -> usize {
        match self {
            Self::V4 => 22,
            Self::V6 => 21,
        }
    }

    /// Whether a frame's source is a backend.
    pub(super) fn is_from_backend(frame: &[u8]) -> bool {
        match frame.get(12..14) {
            Some([0x08, 0x00]) => frame.get(26..28) == Some(&[10, 244]),
            Some([0x86, 0xdd]) => frame.get(22..26) == Some(&[0xfd, 0, 0x02, 0x44]),
            _ => false,
        }
    }
}
