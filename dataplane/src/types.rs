//! The small types that every module shares. Values that travel on the wire keep wire order inside
//! the type; the name never says so.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::num::NonZeroU16;
use zerocopy::{Immutable, IntoBytes};

/// An IPv4 or IPv6 address in 16 bytes; IPv4 as its IPv4-mapped form (RFC 4291 section 2.5.5.2).
///
/// One form for both families keeps keys, entries and maps of one size; the steering maps in
/// `bpf/steer.bpf.c` hold the same 16 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct IpAddress([u8; 16]);

/// The twelve bytes before a mapped IPv4 address, as the low bits of a little-endian number.
const V4_PREFIX_BITS: u128 = 0xffff << 80;

impl IpAddress {
    /// The address from its 16 wire bytes (IPv4 in mapped form).
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The IPv4 address with these four wire bytes.
    #[inline]
    pub const fn v4(b: [u8; 4]) -> Self {
        // As one number: put together of smaller parts in memory, it could not be read back as a
        // whole before all of them have left the CPU's store buffer.
        Self((V4_PREFIX_BITS | (u32::from_le_bytes(b) as u128) << 96).to_le_bytes())
    }

    /// The 16 wire bytes.
    #[inline]
    pub const fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The last four wire bytes: the whole address if it is IPv4.
    #[inline]
    pub const fn v4_bytes(&self) -> [u8; 4] {
        [self.0[12], self.0[13], self.0[14], self.0[15]]
    }

    /// Whether this is an IPv4 address.
    #[inline]
    pub fn is_v4(&self) -> bool {
        u128::from_le_bytes(self.0) << 32 == V4_PREFIX_BITS << 32
    }

    /// The address whose [`IpAddress::halves`] these are.
    pub fn from_halves(high: u64, low: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&high.to_ne_bytes());
        bytes[8..].copy_from_slice(&low.to_ne_bytes());
        Self(bytes)
    }

    /// The two halves as native integers; only for hashing, comparing and storing.
    #[inline]
    pub fn halves(&self) -> (u64, u64) {
        let (high, low) = self.0.split_at(8);
        let half = |b: &[u8]| u64::from_ne_bytes(b.try_into().unwrap_or_default());
        (half(high), half(low))
    }
}

impl From<Ipv4Addr> for IpAddress {
    fn from(address: Ipv4Addr) -> Self {
        Self::v4(address.octets())
    }
}

impl From<Ipv6Addr> for IpAddress {
    fn from(address: Ipv6Addr) -> Self {
        Self(address.octets())
    }
}

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => v4.into(),
            IpAddr::V6(v6) => v6.into(),
        }
    }
}

impl From<IpAddress> for IpAddr {
    fn from(address: IpAddress) -> Self {
        Ipv6Addr::from(address.0).to_canonical()
    }
}

impl fmt::Display for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        IpAddr::from(*self).fmt(f)
    }
}

impl fmt::Debug for IpAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A TCP or UDP port, 0 to 65535. Held in wire order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, IntoBytes, Immutable)]
#[repr(C)]
pub struct L4Port([u8; 2]);

impl L4Port {
    /// The port with this number.
    #[inline]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be_bytes())
    }

    /// The port from its two wire bytes.
    #[inline]
    pub const fn from_bytes(bytes: [u8; 2]) -> Self {
        Self(bytes)
    }

    /// The two wire bytes.
    #[inline]
    pub const fn bytes(self) -> [u8; 2] {
        self.0
    }

    /// The number, 0 to 65535.
    #[inline]
    pub const fn number(self) -> u16 {
        u16::from_be_bytes(self.0)
    }
}

impl fmt::Display for L4Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

impl fmt::Debug for L4Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number().fmt(f)
    }
}

/// The transport protocols that tidegate forwards. The value is the IANA protocol number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, IntoBytes, Immutable)]
#[repr(u8)]
pub enum Protocol {
    /// RFC 9293.
    Tcp = 6,
    /// RFC 768.
    Udp = 17,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        })
    }
}

/// A packet's five-tuple. Its 40 bytes are the key of the XDP program's flow map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, IntoBytes, Immutable)]
#[repr(C)]
pub struct FlowKey {
    /// Source address.
    pub src: IpAddress,
    /// Destination address.
    pub dst: IpAddress,
    /// Source port.
    pub src_port: L4Port,
    /// Destination port.
    pub dst_port: L4Port,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Always zero: the kernel compares whole keys.
    zero: [u8; 3],
}

impl FlowKey {
    /// The tuple of a packet from `src` to `dst`.
    #[inline]
    pub const fn new(
        protocol: Protocol,
        src: (IpAddress, L4Port),
        dst: (IpAddress, L4Port),
    ) -> Self {
        Self { src: src.0, dst: dst.0, src_port: src.1, dst_port: dst.1, protocol, zero: [0; 3] }
    }

    /// The tuple of the answer.
    #[inline]
    #[must_use]
    pub const fn reversed(self) -> Self {
        Self::new(self.protocol, (self.dst, self.dst_port), (self.src, self.src_port))
    }
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The kernel's interface number. Never reused by the kernel within a namespace's life (nearly).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct IfIndex(pub u32);

/// Which of tidegate's attached interfaces: a small dense number, 1 to [`INTERFACES_MAX`] - 1,
/// given by the control side at attach and stable until detach. 0 means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct InterfaceSlot(pub u16);

/// Attached interfaces at once, plus one for "none". Also the size of the XDP program's counter
/// array. At the limit a further attach is refused with an error.
pub const INTERFACES_MAX: usize = 256;

/// Frames handled together: enough to hide a cache miss behind 63 others, few enough that the
/// burst's headers stay in the first-level cache.
pub const BURST_FRAMES_MAX: usize = 64;

/// Which worker: 0 to [`WORKERS_MAX`] - 1.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct WorkerId(pub u8);

/// Workers at once. Bounds the heartbeat map, the hand-off matrix and the owner directory's field.
pub const WORKERS_MAX: usize = 64;

/// Number of a service port, stable while the process lives; 0 means "none".
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct ServiceId(pub u32);

/// Number of a (service port, backend) pair's counters; 0 is the shared overflow slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct BackendSlot(pub u32);

/// (service port, backend) pairs with counters of their own; further ones share slot 0.
/// 48 bytes each per worker.
pub const BACKEND_SLOTS_MAX: usize = 65_536;

/// Service ports with counters of their own; further ones share slot 0, and none of their fronts
/// ends draining while any of them has flows. As many as fronts fit the XDP program's map, so that
/// each service port that has a front is told apart. 24 bytes each per worker.
pub const SERVICE_SLOTS_MAX: usize = crate::xdp::layout::FRONTS_MAX as usize;

/// Index into [`crate::snapshot::Snapshot::next_hops`]; stable while a backend or flow names it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct NextHopId(pub u32);

/// A range of L4 ports, both ends included, never empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    first: NonZeroU16,
    last: NonZeroU16,
}

impl PortRange {
    /// The range `first..=last`, or `None` if it is empty or starts at 0.
    pub const fn new_checked(first: u16, last: u16) -> Option<Self> {
        match (NonZeroU16::new(first), NonZeroU16::new(last)) {
            (Some(low), Some(high)) if first <= last => Some(Self { first: low, last: high }),
            _ => None,
        }
    }

    /// The first port's number.
    pub fn first(self) -> u16 {
        self.first.get()
    }

    /// The last port's number.
    pub fn last(self) -> u16 {
        self.last.get()
    }

    /// How many ports, 1 to 65535.
    pub fn count(self) -> u32 {
        u32::from(self.last()) - u32::from(self.first()) + 1
    }

    /// Part `index` of `count` equal slices, for one worker; `None` where the range is too small.
    pub fn slice(self, index: u32, count: u32) -> Option<Self> {
        let size = self.count().checked_div(count)?;
        let first = u32::from(self.first()) + size * index;
        let last = first + size.checked_sub(1)?;
        Self::new_checked(u16::try_from(first).ok()?, u16::try_from(last).ok()?)
    }
}

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of the XDP program's stamp (`bpf_ktime_get_ns`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
#[repr(transparent)]
pub struct Time(pub u64);

impl Time {
    /// Milliseconds, wrapping after 49 days; differences are to be taken with `wrapping_sub`.
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "wrapping by design")]
    pub const fn as_millis_wrapping(self) -> u32 {
        (self.0 / 1_000_000) as u32
    }

    /// Whole seconds.
    #[inline]
    pub const fn as_seconds(self) -> u64 {
        self.0 / 1_000_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_returns_in_its_own_family() {
        for text in ["10.0.0.1", "2001:db8::1", "255.255.255.255", "::1"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(IpAddress::from(address)), address);
            assert_eq!(IpAddress::from(address).is_v4(), address.is_ipv4());
        }
    }

    #[test]
    fn slices_of_a_range_are_disjoint_and_inside() {
        let range = PortRange::new_checked(15_000, 29_999).unwrap();
        let slices: Vec<_> = (0..7).map(|i| range.slice(i, 7).unwrap()).collect();
        assert!(slices.is_sorted_by(|a, b| a.last() < b.first()));
        assert_eq!(slices[0].first(), 15_000);
        assert!(slices[6].last() <= 29_999);
        assert_eq!(PortRange::new_checked(10, 11).unwrap().slice(0, 3), None);
    }
}
