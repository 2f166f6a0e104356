//! What the XDP programs and this side share: `bpf/steer.h` in Rust. The tests below read that
//! file, so a limit, a reason or a size that changes on one side only is found at once.

use crate::snapshot::{FrontKey, Side};
use crate::types::{IfIndex, InterfaceSlot, MacAddress};
use crate::verdict::PassReason;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// (interface, queue) pairs, and sockets, at once. At the limit a further bind is refused.
pub const QUEUES_MAX: u32 = 1024;

/// Fronts at once, draining ones included. At the limit a publication is refused. 20 bytes of key
/// and about 64 of the kernel's overhead each.
pub const FRONTS_MAX: u32 = 131_072;

/// VLANs with an interface of their own on this host, at once. At the limit an attach is refused.
pub const VLANS_MAX: u32 = 4096;

/// Set in a front's flags while it drains.
pub const FRONT_DRAINING: u32 = 1;

/// Set in a front's flags where it is a cluster IP: it is a front for pods alone.
pub const FRONT_CLUSTER: u32 = 2;

/// First word of [`Metadata`]: "tide".
pub const METADATA_MAGIC: u32 = 0x7469_6465;

/// [`Metadata::owner`] of a packet to a front.
pub const OWNER_NONE: u16 = 0xffff;

/// What stands in the 16 bytes before a redirected frame (T16).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Metadata {
    /// [`METADATA_MAGIC`], else the program found no room for metadata.
    pub magic: u32,
    /// The worker that owns the reply's flow, or [`OWNER_NONE`].
    pub owner: u16,
    /// Always zero.
    pub zero: u16,
    /// `CLOCK_MONOTONIC` nanoseconds when the program saw the packet; 0 where not sampled.
    pub stamp_ns: u64,
}

/// The last 8 bytes of a frame on the road back to the kernel (T8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RoadTrailer {
    /// The random number that the road's program was loaded with.
    pub magic: u32,
    /// The number of the interface that the frame came from.
    pub ifindex: u32,
}

/// Bytes that a frame needs behind it to go back to the kernel. The road's devices need an MTU
/// larger by as much than that of any attached interface.
pub const ROAD_TRAILER_BYTES: usize = size_of::<RoadTrailer>();

impl RoadTrailer {
    /// The trailer of a frame that came from `from`.
    pub const fn new(magic: u32, from: IfIndex) -> Self {
        Self { magic, ifindex: from.0 }
    }
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct SteerConfig {
    pub(crate) stale_ns: u64,
    pub(crate) latency_sample: u32,
    pub(crate) fallback_drop: u32,
    pub(crate) road_mac: [u8; 6],
    pub(crate) zero: [u8; 2],
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct RoadConfig {
    pub(crate) magic: u32,
    pub(crate) road_mac: [u8; 6],
    pub(crate) zero: [u8; 2],
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct GuardConfig {
    pub(crate) first_port: u16,
    pub(crate) last_port: u16,
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Front {
    address: [u8; 16],
    port: [u8; 2],
    protocol: u8,
    zero: u8,
}

impl From<&FrontKey> for Front {
    fn from(key: &FrontKey) -> Self {
        Self {
            address: *key.address.bytes(),
            port: key.port.bytes(),
            protocol: key.protocol as u8,
            zero: 0,
        }
    }
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Interface {
    slot: u16,
    mac: [u8; 6],
    is_for_pods: u8,
    zero: u8,
}

impl Interface {
    pub(crate) fn new(slot: InterfaceSlot, mac: MacAddress, side: Side) -> Self {
        Self { slot: slot.0, mac: mac.0, is_for_pods: (side == Side::Pods).into(), zero: 0 }
    }
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct VlanKey {
    pub(crate) ifindex: u32,
    pub(crate) id: u16,
    pub(crate) zero: u16,
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct QueueKey {
    pub(crate) ifindex: u32,
    pub(crate) queue: u32,
}

#[derive(Debug, IntoBytes, Immutable)]
#[repr(C)]
pub(crate) struct Queue {
    pub(crate) xsk_index: u32,
    pub(crate) worker: u32,
}

/// One CPU's counters of one interface.
#[derive(Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(crate) struct Counters {
    pub(crate) received_packets: u64,
    pub(crate) received_bytes: u64,
    pub(crate) redirected_packets: u64,
    pub(crate) stale_dropped_packets: u64,
    pub(crate) passed_packets: [u64; PassReason::COUNT],
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datagrams::{DATAGRAMS_MAX, LIFETIME_MS};
    use crate::host_flows::{HASH_FACTOR, HOST_SLOTS};
    use crate::packet::extension::IPV6_EXTENSIONS_MAX;
    use crate::types::{INTERFACES_MAX, WORKERS_MAX};

    const HEADER: &str = include_str!("../../bpf/steer.h");

    fn defined(name: &str) -> u64 {
        let line = HEADER.lines().find_map(|l| l.strip_prefix(&format!("#define {name} ")));
        let number = line.unwrap().split_whitespace().next().unwrap();
        match number.strip_prefix("0x") {
            Some(hex) => u64::from_str_radix(hex, 16).unwrap(),
            None => number.parse().unwrap(),
        }
    }

    #[test]
    fn pass_reasons_have_the_numbers_of_the_header() {
        let list = HEADER.split_once("enum pass_reason {").unwrap().1.split_once('}').unwrap().0;
        let names: Vec<_> =
            list.split(',').filter_map(|l| l.trim().strip_prefix("PASS_")).collect();
        let ours: Vec<_> = PassReason::ALL.iter().map(|r| r.name()).chain(["REASONS"]).collect();
        assert_eq!(names, ours);
        for (number, reason) in PassReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, number);
        }
    }

    #[test]
    fn limits_are_those_of_the_header() {
        assert_eq!(defined("INTERFACES_MAX"), INTERFACES_MAX as u64);
        assert_eq!(defined("WORKERS_MAX"), WORKERS_MAX as u64);
        assert_eq!(defined("QUEUES_MAX"), u64::from(QUEUES_MAX));
        assert_eq!(defined("FRONTS_MAX"), u64::from(FRONTS_MAX));
        assert_eq!(defined("FRONT_DRAINING"), u64::from(FRONT_DRAINING));
        assert_eq!(defined("FRONT_CLUSTER"), u64::from(FRONT_CLUSTER));
        assert_eq!(defined("METADATA_MAGIC"), u64::from(METADATA_MAGIC));
        assert_eq!(defined("OWNER_NONE"), u64::from(OWNER_NONE));
        assert_eq!(defined("VLANS_MAX"), u64::from(VLANS_MAX));
        assert_eq!(defined("HOST_SLOTS"), HOST_SLOTS as u64);
        assert_eq!(defined("HOST_HASH_FACTOR"), HASH_FACTOR);
        assert_eq!(defined("DATAGRAMS_MAX"), u64::from(DATAGRAMS_MAX));
        assert_eq!(defined("DATAGRAM_LIFETIME_NS"), LIFETIME_MS * 1_000_000);
        assert_eq!(defined("IPV6_EXTENSIONS_MAX"), IPV6_EXTENSIONS_MAX as u64);
    }
}
