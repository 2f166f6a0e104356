//! What shape the rig shall have, and its addresses.

use super::{Plumbing, RigError, Topology};
use crate::model::Family;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The gateway's address towards the client: where node ports are dialled.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The client's IPv6 address.
pub const CLIENT_V6: Ipv6Addr = segment_v6(1, 10);

/// As [`GATEWAY`], for IPv6.
pub const GATEWAY_V6: Ipv6Addr = segment_v6(1, 1);

/// A host of the segment before (1) or behind (2) the gateway.
const fn segment_v6(segment: u16, host: u16) -> Ipv6Addr {
    Ipv6Addr::new(0x2001, 0xdb8, segment, 0, 0, 0, 0, host)
}

/// The client's address of this family.
pub const fn client_of(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(CLIENT),
        Family::V6 => IpAddr::V6(CLIENT_V6),
    }
}

/// The gateway's address of this family towards the client.
pub const fn gateway_of(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(GATEWAY),
        Family::V6 => IpAddr::V6(GATEWAY_V6),
    }
}

/// The families that a rig on this machine has: both, unless the kernel knows no IPv6.
pub fn families() -> &'static [Family] {
    let all = &[Family::V4, Family::V6];
    if Path::new("/proc/sys/net/ipv6").exists() { all } else { &all[..1] }
}

/// By how many interfaces the gateway reaches client and other nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arms {
    /// By one: client, gateway and node2 share a bridged segment, as on a flat network.
    One,
    /// By two: the client behind `eth0`, node2 behind `eth1`.
    Two,
}

/// The rig's shape. All offloads stay as the kernel sets them.
#[derive(Debug, Clone)]
pub struct RigPlan {
    /// First part of all namespaces' names, `tidegate-KIND`.
    pub kind: &'static str,
    /// One interface or two.
    pub arms: Arms,
    /// Queues of all veths, each direction.
    pub queues: u32,
    /// How the nodes connect their pods.
    pub plumbing: Plumbing,
}

impl RigPlan {
    /// Two arms, one queue, pods as `ptp` connects them. `kind` is a word such as `demo`; leftovers
    /// of the same kind whose process is gone are removed at build.
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, arms: Arms::Two, queues: 1, plumbing: Plumbing::PointToPoint }
    }

    /// With this many queues.
    #[must_use]
    pub const fn queues(mut self, queues: u32) -> Self {
        self.queues = queues;
        self
    }

    /// With this many interfaces.
    #[must_use]
    pub const fn arms(mut self, arms: Arms) -> Self {
        self.arms = arms;
        self
    }

    /// With pods connected in this way.
    #[must_use]
    pub const fn plumbing(mut self, plumbing: Plumbing) -> Self {
        self.plumbing = plumbing;
        self
    }

    /// node2's address on the segment that it shares with the gateway.
    pub const fn node2(&self) -> Ipv4Addr {
        match self.arms {
            Arms::One => Ipv4Addr::new(192, 0, 2, 2),
            Arms::Two => Ipv4Addr::new(10, 0, 0, 2),
        }
    }

    /// The gateway's address on the segment that it shares with node2.
    pub const fn gateway_inside(&self) -> Ipv4Addr {
        match self.arms {
            Arms::One => GATEWAY,
            Arms::Two => Ipv4Addr::new(10, 0, 0, 1),
        }
    }

    /// As [`Self::node2`], for IPv6.
    pub const fn node2_v6(&self) -> Ipv6Addr {
        match self.arms {
            Arms::One => segment_v6(1, 2),
            Arms::Two => segment_v6(2, 2),
        }
    }

    /// As [`Self::gateway_inside`], for IPv6.
    pub const fn gateway_inside_v6(&self) -> Ipv6Addr {
        match self.arms {
            Arms::One => GATEWAY_V6,
            Arms::Two => segment_v6(2, 1),
        }
    }

    /// The words of `ip link add` for an end of a veth. Where only one queue is asked for, the
    /// kernel's own default (one active) stays.
    pub(super) fn queue_words(&self) -> String {
        match self.queues {
            0 | 1 => String::new(),
            n => format!("numrxqueues {n} numtxqueues {n}"),
        }
    }

    /// Builds it.
    ///
    /// # Errors
    /// We are not root, `ip` is missing, or a command fails; what was made is removed then.
    pub fn build(&self) -> Result<Topology, RigError> {
        Topology::build(self)
    }
}
