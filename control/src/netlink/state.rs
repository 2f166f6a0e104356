//! What the kernel said last, as one value.

use ipnet::{Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::types::{IfIndex, MacAddress};

/// The node's network. Cheap to clone: the tables are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkState {
    /// Grows by one with every change.
    pub version: u64,
    /// Grows whenever links went: one with the number and name of another may not be that one.
    pub removals: u64,
    /// The links, by number.
    pub links: Arc<BTreeMap<IfIndex, Link>>,
    /// The addresses that the kernel answers for, in its order: per interface, primary ones first.
    /// Without those that duplicate address detection is still at, or has refused (RFC 4862).
    pub addresses: Arc<Vec<InterfaceAddress>>,
    /// The main table.
    pub routes: Arc<Routes>,
    /// Neighbours by interface and address.
    pub neighbours: Arc<BTreeMap<(IfIndex, IpAddr), Neighbour>>,
    /// Bridges' forwarding tables: by bridge and link address the port behind which it is.
    pub bridge_ports: Arc<BTreeMap<(IfIndex, MacAddress), IfIndex>>,
}

/// The main table: prefix to routes, the lowest metric first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Routes {
    /// IPv4.
    pub v4: PrefixMap<Ipv4Net, Vec<Route>>,
    /// IPv6.
    pub v6: PrefixMap<Ipv6Net, Vec<Route>>,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "the kernel's own flags, not states of ours")]
pub struct Link {
    /// The kernel's number.
    pub index: IfIndex,
    /// Its name.
    pub name: Box<str>,
    /// Its link address; zero where it has none.
    pub mac: MacAddress,
    /// Its MTU in bytes.
    pub mtu_bytes: u32,
    /// Set up by the administrator; a link may be up without carrier.
    pub is_admin_up: bool,
    /// Up and with carrier.
    pub is_up: bool,
    /// Speaks Ethernet.
    pub is_ethernet: bool,
    /// The loopback device.
    pub is_loopback: bool,
    /// The kernel's kind, as `veth` or `bridge`; empty for hardware.
    pub kind: Box<str>,
    /// The bridge, bond or VRF that it belongs to.
    pub master: Option<IfIndex>,
    /// Receive queues in use.
    pub rx_queue_count: u32,
    /// The device below (VLAN, macvlan) or at the other end (veth), where in this namespace or
    /// told by number.
    pub peer: Option<IfIndex>,
    /// Of a VLAN's interface, which VLAN.
    pub vlan: Option<u16>,
    /// The device takes VLAN tags out of what it receives (`rx-vlan-offload`), so that an XDP
    /// program does not see them. Asked only where VLANs have interfaces.
    pub strips_tags: bool,
}

impl Link {
    /// An Ethernet link that is up, with one queue; no address yet.
    pub fn ethernet(index: IfIndex, name: &str) -> Self {
        Self {
            index,
            name: name.into(),
            mac: MacAddress::default(),
            mtu_bytes: 1500,
            is_admin_up: true,
            is_up: true,
            is_ethernet: true,
            is_loopback: false,
            kind: "".into(),
            master: None,
            rx_queue_count: 1,
            peer: None,
            vlan: None,
            strips_tags: false,
        }
    }
}

/// An address of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// On which interface.
    pub interface: IfIndex,
    /// The address.
    pub address: IpAddr,
    /// Its prefix length in bits.
    pub prefix_length: u8,
    /// Valid beyond this host and link.
    pub is_global: bool,
    /// May be chosen for new flows: neither deprecated, nor one of IPv6's temporary addresses
    /// (RFC 8981), which change by the day.
    pub is_preferred: bool,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Lower wins.
    pub metric: u32,
    /// What becomes of the packets.
    pub kind: RouteKind,
}

/// What becomes of a route's packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteKind {
    /// They leave by an interface.
    Via {
        /// Which.
        interface: IfIndex,
        /// The gateway; `None` where the destination is on the link itself.
        gateway: Option<IpAddr>,
        /// The source address that the route prefers.
        source: Option<IpAddr>,
        /// The route's own MTU in bytes, where it has one: told by a router, or configured.
        mtu_bytes: Option<u32>,
    },
    /// Blackhole, unreachable or prohibit: lookup ends here.
    Refused,
}

/// A neighbour's entry. Reachable, stale, delay and probe are one to us: the link address is
/// known, and a change among them is no change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour {
    /// Known or not.
    pub state: NeighbourState,
    /// The kernel keeps it known by itself (`NTF_EXT_MANAGED`, or permanent).
    pub is_managed: bool,
}

/// Whether a neighbour's link address is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NeighbourState {
    /// This one.
    Known(MacAddress),
    /// The kernel has asked and waits.
    Asking,
    /// Nobody answered.
    Failed,
}

impl Link {
    /// A bridge of the kernel's.
    pub fn is_bridge(&self) -> bool {
        &*self.kind == "bridge"
    }
}

impl NetworkState {
    /// The bridge that a link is a port of.
    pub fn bridge_of(&self, link: &Link) -> Option<&Link> {
        self.links.get(&link.master?).filter(|master| master.is_bridge())
    }

    /// The link address that this node has on a link, in both directions: a port of a bridge
    /// receives for the bridge.
    pub fn own_mac(&self, link: &Link) -> MacAddress {
        self.bridge_of(link).unwrap_or(link).mac
    }

    /// The link with this name.
    pub fn link_named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| &*link.name == name)
    }

    /// Whether `address` is one of this node's.
    pub fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.iter().any(|own| own.address == address)
    }
}
