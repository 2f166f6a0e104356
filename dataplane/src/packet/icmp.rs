//! ICMP and ICMPv6, as far as errors go.

/// Bytes of an ICMP error before the packet that it quotes (RFC 792, RFC 4443 section 2.1).
pub const ICMP_BYTES: usize = 8;

/// Bytes of the quoted L4 header that every error has (RFC 792): with them, the ports.
pub const QUOTED_L4_BYTES: usize = 8;

/// Types of ICMP messages (RFC 792).
pub mod v4 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 3;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const BAD_PARAMETER: u8 = 12;
    /// Code of [`UNREACHABLE`]: nobody listens.
    pub const PORT_UNREACHABLE: u8 = 3;
    /// Code of [`UNREACHABLE`]: too big, and not to be fragmented (RFC 1191).
    pub const FRAGMENTATION_NEEDED: u8 = 4;

    /// Whether a message of this type quotes a packet that met an error.
    #[inline]
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | TIME_EXCEEDED | BAD_PARAMETER)
    }
}

/// Types of ICMPv6 messages (RFC 4443).
pub mod v6 {
    /// Destination unreachable.
    pub const UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const BAD_PARAMETER: u8 = 4;
    /// Code of [`UNREACHABLE`]: nobody listens.
    pub const PORT_UNREACHABLE: u8 = 4;

    /// Whether a message of this type quotes a packet that met an error.
    #[inline]
    pub const fn is_error(kind: u8) -> bool {
        matches!(kind, UNREACHABLE | TOO_BIG | TIME_EXCEEDED | BAD_PARAMETER)
    }
}
