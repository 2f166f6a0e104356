//! The world that addresses are resolved in.

use crate::compile::Attached;
use crate::compile::interfaces;
use crate::config::{InterfaceConfig, Role, interface_config};
use crate::netlink::{Link, NetworkState, NextHopResolution};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{NextHop, NextHopState};
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, IpAddress, MacAddress};

/// What ways depend on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::compile) struct World {
    pub(in crate::compile) network: NetworkState,
    pub(in crate::compile) attached: Attached,
    pub(in crate::compile) interfaces: Vec<InterfaceConfig>,
    /// Bytes of a frame.
    pub(in crate::compile) frame_size: u32,
}

/// A world with what was found out about its links so far.
pub(in crate::compile) struct WorldView<'a> {
    world: &'a World,
    ways_out: BTreeMap<IfIndex, Option<WayOut<'a>>>,
}

struct WayOut<'a> {
    link: &'a Link,
    /// The node's link address there.
    mac: MacAddress,
    /// Backends may be behind it.
    is_for_backends: bool,
    /// Its slot, if packets may leave by it, else why not.
    slot: Result<InterfaceSlot, Arc<str>>,
}

/// The way of packets to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) entry: NextHop,
    /// The route's interface, whose neighbours are asked.
    pub(super) interface: Option<IfIndex>,
    /// The interface that frames leave by: of a bridge the port.
    pub(super) egress: Option<IfIndex>,
    pub(super) neighbour: Option<IpAddr>,
    /// Flows may leave by the interface once it is attached, so it is wanted.
    pub(super) is_for_backends: bool,
    /// The kernel must be asked for the neighbour.
    pub(super) is_to_be_probed: bool,
    /// Why packets cannot leave.
    pub(super) reason: Option<Arc<str>>,
}

impl World {
    /// Whether the kernel's tables are the very same; what differs may still be equal.
    pub(in crate::compile) fn is_same(&self, other: &Self) -> bool {
        let (a, b) = (&self.network, &other.network);
        let is_same_network = Arc::ptr_eq(&a.links, &b.links)
            && Arc::ptr_eq(&a.addresses, &b.addresses)
            && Arc::ptr_eq(&a.routes, &b.routes)
            && Arc::ptr_eq(&a.neighbours, &b.neighbours)
            && Arc::ptr_eq(&a.bridge_ports, &b.bridge_ports);
        is_same_network && self.attached == other.attached && self.interfaces == other.interfaces
    }
}

impl<'a> WorldView<'a> {
    pub(in crate::compile) fn new(world: &'a World) -> Self {
        Self { world, ways_out: BTreeMap::new() }
    }

    /// The way to `address`; `before` is the one so far.
    pub(super) fn way(&mut self, address: IpAddress, before: &Way) -> Way {
        match self.world.network.resolve(address.into()) {
            NextHopResolution::Local => {
                let reason = "an address of this node: left to the kernel";
                Way::none(address, NextHopState::Local, reason)
            }
            NextHopResolution::NoRoute => Way::none(address, NextHopState::NoRoute, "no route"),
            via @ NextHopResolution::Via { .. } => self.via(address, &via, before),
        }
    }

    fn via(&mut self, address: IpAddress, via: &NextHopResolution, before: &Way) -> Way {
        let NextHopResolution::Via { interface, neighbour, mac, is_managed, source, mtu_bytes } =
            via
        else {
            return Way::none(address, NextHopState::NoRoute, "no route");
        };
        let (interface, neighbour) = (*interface, *neighbour);
        // Sticky: once known, a link address outlives the kernel's entry, as long as the way is
        // the same. A backend that answers must not fall out because ARP is late.
        let is_same = before.interface == Some(interface) && before.neighbour == Some(neighbour);
        let is_known = is_same && before.entry.state == NextHopState::Resolved;
        let mac = mac.or(is_known.then_some(before.entry.destination_mac));
        let is_there = is_same && mac == Some(before.entry.destination_mac);
        let egress = self.egress(interface, mac, before.egress.filter(|_| is_there));
        let gone = || format!("interface {} is gone", interface.0);
        let Some(way_out) = self.way_out(egress.unwrap_or(interface)) else {
            return Way::none(address, NextHopState::NotAttached, &gone());
        };
        let entry = NextHop {
            source_mac: way_out.mac,
            snat_address: source.map(Into::into),
            mtu_bytes: interfaces::mtu(mtu_bytes.unwrap_or(u32::MAX).min(way_out.link.mtu_bytes)),
            ..unusable(address, NextHopState::Resolved)
        };
        let (entry, reason) = match egress {
            Some(_) => way_out.complete(&entry, mac, neighbour),
            None => way_out.unlearnt(&entry, mac, neighbour),
        };
        Way {
            entry,
            interface: Some(interface),
            egress,
            neighbour: Some(neighbour),
            is_for_backends: way_out.is_for_backends,
            // Asked before its interface is attached, a neighbour is known by then; on interfaces
            // that no backend may be behind, it is not ours to ask.
            is_to_be_probed: way_out.is_for_backends && !is_managed,
            reason,
        }
    }

    /// Where frames to `mac` leave, if the route says `interface`: of a bridge the port behind
    /// which it is, and where the bridge has forgotten a silent pod, the port it was behind
    /// `before`.
    fn egress(
        &self,
        interface: IfIndex,
        mac: Option<MacAddress>,
        before: Option<IfIndex>,
    ) -> Option<IfIndex> {
        let network = &self.world.network;
        if !network.links.get(&interface).is_some_and(Link::is_bridge) {
            return Some(interface);
        }
        let learnt = network.bridge_ports.get(&(interface, mac?)).copied();
        let is_port = |link: &Link| link.is_up && link.master == Some(interface);
        learnt.or(before).filter(|port| network.links.get(port).is_some_and(is_port))
    }

    fn way_out(&mut self, interface: IfIndex) -> Option<&WayOut<'a>> {
        let world = self.world;
        let found = self.ways_out.entry(interface).or_insert_with(|| WayOut::of(world, interface));
        found.as_ref()
    }
}

impl<'a> WayOut<'a> {
    fn of(world: &'a World, interface: IfIndex) -> Option<Self> {
        let link = world.network.links.get(&interface)?;
        let entry = interface_config(&world.interfaces, &link.name);
        let is_backends = |name: &str| {
            let entry = interface_config(&world.interfaces, name);
            entry.is_some_and(|entry| entry.role != Role::Client)
        };
        let is_for_backends = if link.is_bridge() {
            let mut ports = world.network.links.values();
            ports.any(|port| port.master == Some(interface) && is_backends(&port.name))
        } else {
            is_backends(&link.name)
        };
        let mut attached = world.attached.iter();
        let slot = attached.find(|(_, index)| **index == interface).map(|(slot, _)| *slot);
        let mac = world.network.own_mac(link);
        let or = || interfaces::refusal(&world.network, link, world.frame_size);
        let refusal = || interfaces::obstacle(link).or_else(or);
        let slot = usable_slot(link, slot, (entry, refusal));
        Some(Self { link, mac, is_for_backends, slot })
    }

    /// Of a bridge, while it is not known behind which port the neighbour is.
    fn unlearnt(
        &self,
        entry: &NextHop,
        mac: Option<MacAddress>,
        neighbour: IpAddr,
    ) -> (NextHop, Option<Arc<str>>) {
        let name = &self.link.name;
        let reason = match mac {
            None => self.unresolved(neighbour),
            Some(mac) => format!("bridge {name} does not know the port of {neighbour} ({mac})"),
        };
        (unusable(entry.address, NextHopState::Unresolved), Some(reason.into()))
    }

    fn unresolved(&self, neighbour: IpAddr) -> String {
        format!("neighbour {neighbour} unresolved on {}", self.link.name)
    }

    fn complete(
        &self,
        entry: &NextHop,
        mac: Option<MacAddress>,
        neighbour: IpAddr,
    ) -> (NextHop, Option<Arc<str>>) {
        match (&self.slot, mac) {
            (Ok(slot), Some(mac)) => {
                (NextHop { egress: *slot, destination_mac: mac, ..entry.clone() }, None)
            }
            (Ok(_), None) => {
                let reason = self.unresolved(neighbour);
                (unusable(entry.address, NextHopState::Unresolved), Some(reason.into()))
            }
            (Err(reason), _) => {
                (unusable(entry.address, NextHopState::NotAttached), Some(Arc::clone(reason)))
            }
        }
    }
}

fn usable_slot(
    link: &Link,
    slot: Option<InterfaceSlot>,
    (entry, refusal): (Option<&InterfaceConfig>, impl Fn() -> Option<String>),
) -> Result<InterfaceSlot, Arc<str>> {
    let name = &link.name;
    if entry.is_some_and(|entry| entry.role == Role::Client) {
        return Err(format!("interface {name} has role client").into());
    }
    let not_attached = || format!("interface {name} not attached");
    slot.ok_or_else(|| refusal().unwrap_or_else(not_attached).into())
}

impl Way {
    /// No way.
    pub(super) fn none(address: IpAddress, state: NextHopState, reason: &str) -> Self {
        Self {
            entry: unusable(address, state),
            interface: None,
            egress: None,
            neighbour: None,
            is_for_backends: false,
            is_to_be_probed: false,
            reason: Some(reason.into()),
        }
    }
}

fn unusable(address: IpAddress, state: NextHopState) -> NextHop {
    NextHop { address, state, ..NextHop::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BRIDGE: IfIndex = IfIndex(1);
    const PORT: IfIndex = IfIndex(2);

    /// Where frames leave by, if the bridge knows their address to be behind this port.
    fn egress(port: Link) -> Option<IfIndex> {
        let mac = MacAddress([2, 0, 0, 0, 0, 9]);
        let bridge = Link { kind: "bridge".into(), ..Link::ethernet(BRIDGE, "cni0") };
        let network = NetworkState {
            links: Arc::new([(BRIDGE, bridge), (PORT, port)].into()),
            bridge_ports: Arc::new([((BRIDGE, mac), PORT)].into()),
            ..NetworkState::default()
        };
        let world = World { network, ..World::default() };
        WorldView::new(&world).egress(BRIDGE, Some(mac), None)
    }

    /// The tables are told one after the other: the bridge's may be older than the links.
    #[test]
    fn frames_leave_by_what_is_up_and_the_bridges_port_still() {
        let port = Link { master: Some(BRIDGE), ..Link::ethernet(PORT, "veth1") };
        assert_eq!(egress(port.clone()), Some(PORT));
        assert_eq!(egress(Link { is_up: false, ..port.clone() }), None);
        assert_eq!(egress(Link { master: Some(IfIndex(3)), ..port.clone() }), None);
        assert_eq!(egress(Link { master: None, ..port }), None);
    }
}
