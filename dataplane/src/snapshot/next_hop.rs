//! Layer 2 and routes as the control side resolved them (T12).

use crate::types::{IfIndex, InterfaceSlot, IpAddress, MacAddress};

/// Whether packets can leave to a next hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum NextHopState {
    /// Interface attached, neighbour known.
    Resolved,
    /// The kernel was asked for the neighbour and has not answered.
    Unresolved,
    /// The route's interface is none of the attached ones.
    NotAttached,
    /// No route.
    #[default]
    NoRoute,
    /// The address is one of this node's own.
    Local,
}

/// Where a backend is: interface, link addresses, and the source address for masquerading. The
/// default leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NextHop {
    /// The backend's address; a [`crate::types::NextHopId`] keeps it while a flow names it.
    pub address: IpAddress,
    /// Whether it can be used.
    pub state: NextHopState,
    /// The interface to leave by; slot 0 unless resolved.
    pub egress: InterfaceSlot,
    /// The Ethernet source: the egress interface's own address.
    pub source_mac: MacAddress,
    /// The Ethernet destination: the backend's or its gateway's.
    pub destination_mac: MacAddress,
    /// The node's address on the egress side, for SNAT (semantics F9); `None` where it has none.
    pub snat_address: Option<IpAddress>,
    /// The largest IP packet that leaves by the egress interface, in bytes.
    pub mtu_bytes: u16,
}

/// Whose traffic enters by an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// Clients' too. Cluster IPs are no fronts here: nobody outside shall reach them through us.
    #[default]
    Clients,
    /// That of pods and nodes alone: cluster IPs are fronts here.
    Pods,
}

/// An attached interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number.
    pub index: IfIndex,
    /// The kernel's name, for people.
    pub name: Box<str>,
    /// Its own link address.
    pub mac: MacAddress,
    /// Its MTU in bytes.
    pub mtu_bytes: u16,
    /// Whose traffic enters by it.
    pub side: Side,
}
