//! The next-hop table: one entry per backend address, for the process's life (T12).

use super::compiled::Attached;
use super::interfaces;
use crate::config::{InterfaceConfig, Role, interface_config};
use crate::netlink::{Link, NetworkState, NextHopResolution};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use tidegate_dataplane::snapshot::{Chunked, NextHop, NextHopState};
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, IpAddress, MacAddress, NextHopId};

/// The table and what people are told about its entries. Entries are never removed: flows name
/// them by number. 64 bytes for every address that ever was a backend.
#[derive(Debug, Default)]
pub(super) struct NextHops {
    ids: BTreeMap<IpAddress, NextHopId>,
    hops: Vec<Hop>,
    table: Chunked<NextHop>,
}

/// An entry with what the snapshot has no use for.
#[derive(Debug)]
struct Hop {
    entry: NextHop,
    interface: Option<IfIndex>,
    neighbour: Option<IpAddr>,
    reason: Option<String>,
}

/// The world that addresses are resolved in.
pub(super) struct World<'a> {
    pub(super) network: &'a NetworkState,
    /// Every link: its slot, if packets may leave by it, else why not.
    ways_out: BTreeMap<IfIndex, WayOut<'a>>,
}

struct WayOut<'a> {
    link: &'a Link,
    /// Backends may be behind it.
    is_for_backends: bool,
    slot: Result<InterfaceSlot, String>,
}

impl<'a> World<'a> {
    pub(super) fn new(
        network: &'a NetworkState,
        attached: &Attached,
        interfaces: &[InterfaceConfig],
    ) -> Self {
        let slots: BTreeMap<IfIndex, InterfaceSlot> =
            attached.iter().map(|(slot, index)| (*index, *slot)).collect();
        let way_out = |link: &'a Link| {
            let entry = interface_config(interfaces, &link.name);
            let slot = slots.get(&link.index).copied();
            (
                link.index,
                WayOut {
                    link,
                    is_for_backends: entry.is_some_and(|entry| entry.role != Role::Client),
                    slot: usable_slot(link, slot, entry),
                },
            )
        };
        Self { network, ways_out: network.links.values().map(way_out).collect() }
    }

    /// Whether flows may leave by this interface once it is attached.
    pub(super) fn is_for_backends(&self, interface: IfIndex) -> bool {
        self.ways_out.get(&interface).is_some_and(|way_out| way_out.is_for_backends)
    }
}

fn usable_slot(
    link: &Link,
    slot: Option<InterfaceSlot>,
    entry: Option<&InterfaceConfig>,
) -> Result<InterfaceSlot, String> {
    let name = &link.name;
    if entry.is_some_and(|entry| entry.role == Role::Client) {
        return Err(format!("interface {name} has role client"));
    }
    let not_attached = || format!("interface {name} not attached");
    slot.ok_or_else(|| interfaces::obstacle(link).unwrap_or_else(not_attached))
}

impl NextHops {
    /// The number of the entry for `address`, from 0.
    pub(super) fn id(&mut self, address: IpAddress) -> NextHopId {
        if let Some(id) = self.ids.get(&address) {
            return *id;
        }
        let id = NextHopId(u32::try_from(self.hops.len()).unwrap_or(u32::MAX));
        let entry = unusable(address, NextHopState::NoRoute);
        self.hops.push(Hop { entry, interface: None, neighbour: None, reason: None });
        self.ids.insert(address, id);
        id
    }

    /// Resolves every entry anew. Neighbours to be asked for are added to `probes`: those of
    /// `used` addresses that the kernel does not keep known by itself.
    pub(super) fn resolve(
        &mut self,
        world: &World<'_>,
        used: &BTreeSet<IpAddress>,
        probes: &mut BTreeSet<(IfIndex, IpAddr)>,
    ) {
        for hop in &mut self.hops {
            let resolution = world.network.resolve(hop.entry.address.into());
            let is_used = used.contains(&hop.entry.address);
            // Asked before its interface is attached, a neighbour is known by then; on interfaces
            // that no backend may be behind, it is not ours to ask.
            if let NextHopResolution::Via { interface, neighbour, is_managed: false, .. } =
                &resolution
                && is_used
                && world.is_for_backends(*interface)
            {
                probes.insert((*interface, *neighbour));
            }
            hop.update(&resolution, world);
        }
        for (index, hop) in self.hops.iter().enumerate() {
            if self.table.get(index) != Some(&hop.entry) {
                self.table.set(index, hop.entry.clone());
            }
        }
    }

    /// The table for the snapshot; the same as last time where nothing changed.
    pub(super) fn table(&self) -> Chunked<NextHop> {
        self.table.clone()
    }

    /// The interface that packets to `address` leave by, attached or not.
    pub(super) fn interface(&self, address: IpAddress) -> Option<IfIndex> {
        self.hop(address)?.interface
    }

    /// Whether packets to `address` can leave.
    pub(super) fn state(&self, address: IpAddress) -> NextHopState {
        self.hop(address).map_or(NextHopState::NoRoute, |hop| hop.entry.state)
    }

    /// Why packets to `address` cannot leave; `None` where they can.
    pub(super) fn reason(&self, address: IpAddress) -> Option<String> {
        self.hop(address)?.reason.clone()
    }

    fn hop(&self, address: IpAddress) -> Option<&Hop> {
        self.hops.get(self.ids.get(&address)?.0 as usize)
    }
}

impl Hop {
    fn update(&mut self, resolution: &NextHopResolution, world: &World<'_>) {
        let address = self.entry.address;
        let (interface, neighbour) = match resolution {
            NextHopResolution::Local | NextHopResolution::NoRoute => (None, None),
            NextHopResolution::Via { interface, neighbour, .. } => {
                (Some(*interface), Some(*neighbour))
            }
        };
        // Sticky: once known, a link address outlives the kernel's entry, as long as the way is
        // the same. A backend that answers must not fall out because ARP is late.
        let is_same_way = self.interface == interface && self.neighbour == neighbour;
        let is_known = self.entry.state == NextHopState::Resolved && is_same_way;
        let known = is_known.then_some(self.entry.destination_mac);
        (self.entry, self.reason) = match resolution {
            NextHopResolution::Local => {
                let reason = "an address of this node: left to the kernel";
                (unusable(address, NextHopState::Local), Some(reason.to_owned()))
            }
            NextHopResolution::NoRoute => {
                (unusable(address, NextHopState::NoRoute), Some("no route".to_owned()))
            }
            NextHopResolution::Via { interface, neighbour, mac, source, mtu_bytes, .. } => {
                let way = Way {
                    interface: *interface,
                    neighbour: *neighbour,
                    source: *source,
                    mtu_bytes: *mtu_bytes,
                };
                way.entry(address, mac.or(known), world)
            }
        };
        (self.interface, self.neighbour) = (interface, neighbour);
    }
}

/// A way out of this node.
struct Way {
    interface: IfIndex,
    neighbour: IpAddr,
    source: Option<IpAddr>,
    mtu_bytes: Option<u32>,
}

impl Way {
    fn entry(
        &self,
        address: IpAddress,
        mac: Option<MacAddress>,
        world: &World<'_>,
    ) -> (NextHop, Option<String>) {
        let way_out = world.ways_out.get(&self.interface);
        let (link, slot) = match way_out.map(|way_out| (way_out.link, &way_out.slot)) {
            Some((link, Ok(slot))) => (link, *slot),
            Some((_, Err(reason))) => {
                return (unusable(address, NextHopState::NotAttached), Some(reason.clone()));
            }
            None => {
                let reason = format!("interface {} is gone", self.interface.0);
                return (unusable(address, NextHopState::NotAttached), Some(reason));
            }
        };
        let Some(mac) = mac else {
            let reason = format!("neighbour {} unresolved on {}", self.neighbour, link.name);
            return (unusable(address, NextHopState::Unresolved), Some(reason));
        };
        let entry = NextHop {
            address,
            state: NextHopState::Resolved,
            egress: slot,
            source_mac: link.mac,
            destination_mac: mac,
            snat_address: self.source.map(Into::into),
            mtu_bytes: interfaces::mtu(self.mtu_bytes.unwrap_or(u32::MAX).min(link.mtu_bytes)),
        };
        (entry, None)
    }
}

fn unusable(address: IpAddress, state: NextHopState) -> NextHop {
    NextHop {
        address,
        state,
        egress: InterfaceSlot::default(),
        source_mac: MacAddress::default(),
        destination_mac: MacAddress::default(),
        snat_address: None,
        mtu_bytes: 0,
    }
}
