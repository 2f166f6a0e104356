//! What shape the rig shall have, and its addresses.

use super::{RigError, Topology};
use core::net::Ipv4Addr;

/// The client's address.
pub const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

/// The gateway's address towards the client: where node ports are dialled.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

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
    /// Queues of the veths between client, gateway and node2, each direction.
    pub queues: u32,
}

impl RigPlan {
    /// Two arms, one queue. `kind` is a word such as `demo`; leftovers of the same kind whose
    /// process is gone are removed at build.
    pub const fn new(kind: &'static str) -> Self {
        Self { kind, arms: Arms::Two, queues: 1 }
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

    /// Builds it.
    ///
    /// # Errors
    /// We are not root, `ip` is missing, or a command fails; what was made is removed then.
    pub fn build(&self) -> Result<Topology, RigError> {
        Topology::build(self)
    }
}
