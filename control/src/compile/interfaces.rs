//! Which interfaces are to be attached, and their slots (T7).

use super::compiled::{Attached, LeftOut, WantedInterface};
use crate::config::{ClusterIp, Config, InterfaceConfig, Queues, Role, interface_config};
use crate::netlink::{Link, NetworkState, ROAD_DEVICE, ROAD_PEER};
use std::collections::{BTreeMap, BTreeSet};
use tidegate_dataplane::engine::AttachRequest;
use tidegate_dataplane::snapshot::{Interface, Side};
use tidegate_dataplane::types::{INTERFACES_MAX, IfIndex, InterfaceSlot, MacAddress};

/// Gives interfaces their slots. A slot that becomes free is given again as late as possible, so
/// that packets and counters of the old interface are not taken for the new one's.
#[derive(Debug, Default)]
pub(super) struct Slots {
    by_interface: BTreeMap<IfIndex, InterfaceSlot>,
    last: u16,
}

impl Slots {
    /// Frees the slots of interfaces that are neither in `wanted` nor attached.
    fn free_all_but(&mut self, wanted: &BTreeSet<IfIndex>, attached: &Attached) {
        self.by_interface
            .retain(|index, slot| wanted.contains(index) || attached.get(slot) == Some(index));
    }

    /// The slot of an interface, 1 to 255; `None` when all are given.
    fn slot(&mut self, interface: IfIndex) -> Option<InterfaceSlot> {
        if let Some(slot) = self.by_interface.get(&interface) {
            return Some(*slot);
        }
        let count = u16::try_from(INTERFACES_MAX).ok()? - 1;
        let taken: BTreeSet<_> = self.by_interface.values().copied().collect();
        let mut candidates = (0..count).map(|i| (self.last + i) % count + 1).map(InterfaceSlot);
        let slot = candidates.find(|slot| !taken.contains(slot))?;
        self.last = slot.0;
        self.by_interface.insert(interface, slot);
        Some(slot)
    }
}

/// The interfaces that may be attached, by slot. Exact names always; a glob of role `backend` is
/// needed only where a backend in use is behind it (`egress` holds those), or where pods' cluster
/// IPs are served. One that is down has no routes: it stays as it is until it is up again.
pub(super) fn wanted(
    slots: &mut Slots,
    network: &NetworkState,
    config: &Config,
    (egress, attached): (&BTreeSet<IfIndex>, &Attached),
    (left_out, warnings): (&mut Vec<LeftOut>, &mut Vec<String>),
) -> Vec<WantedInterface> {
    missing(network, config, warnings);
    let attached_now: BTreeSet<_> = attached.values().copied().collect();
    let mut chosen = Vec::new();
    for link in network.links.values() {
        let Some(entry) = interface_config(&config.interfaces, &link.name) else { continue };
        let is_attached = attached_now.contains(&link.index);
        let is_needed = entry.is_exact()
            || entry.role != Role::Backend
            || config.cluster_ip == ClusterIp::Serve
            || egress.contains(&link.index)
            || (is_attached && !link.is_up);
        let is_chosen = is_needed || is_attached;
        let reason = reason(network, link, config.memory.frame_size);
        match (obstacle(link), reason) {
            (None, Some(reason)) if is_chosen => left_out.push(leave_out(link, reason)),
            (None, None) if is_chosen => chosen.push((link, entry, is_needed)),
            (Some(obstacle), _) if entry.is_exact() => warnings.push(obstacle),
            _ => {}
        }
    }
    let indexes = chosen.iter().map(|(link, ..)| link.index).collect();
    slots.free_all_but(&indexes, attached);
    let mut wanted = Vec::new();
    for (link, entry, is_needed) in chosen {
        let Some(slot) = slots.slot(link.index) else {
            let reason = format!("all {} slots are taken", INTERFACES_MAX - 1);
            left_out.push(leave_out(link, reason));
            continue;
        };
        let given = (slot, network.own_mac(link), vlans(network, link));
        let request = request(given, link, entry, warnings);
        wanted.extend(request.map(|request| WantedInterface {
            request,
            role: entry.role,
            is_required: entry.is_exact(),
            is_needed,
            link: link.clone(),
        }));
    }
    wanted.sort_by_key(|wanted| wanted.request.slot);
    wanted
}

/// Tells of interfaces that backends are behind and flows may not leave by: every Service there
/// would time out while all else looks well.
pub(super) fn barred(
    network: &NetworkState,
    config: &Config,
    interfaces: &BTreeSet<IfIndex>,
) -> Vec<String> {
    let links = interfaces.iter().filter_map(|index| network.links.get(index));
    let words = |link: &Link| {
        let name = &link.name;
        let why = match interface_config(&config.interfaces, name) {
            Some(_) => "has role client: set role both, if they are meant to be served",
            None => "is not among `interfaces`: add it, with role backend or both",
        };
        format!("backends get no flows: the route to them is by {name}, which {why}")
    };
    links.map(words).collect()
}

fn missing(network: &NetworkState, config: &Config, warnings: &mut Vec<String>) {
    for entry in config.interfaces.iter().filter(|entry| entry.is_exact()) {
        match network.link_named(&entry.name) {
            None => warnings.push(format!("interface {} not found", entry.name)),
            Some(link) if !link.is_admin_up => {
                warnings.push(format!("interface {} is down", entry.name));
            }
            Some(_) => {}
        }
    }
}

/// Why a link can never be attached; told for exact names, a glob just does not mean it.
pub(super) fn obstacle(link: &Link) -> Option<String> {
    let name = &link.name;
    if link.is_loopback || [ROAD_DEVICE, ROAD_PEER].contains(&&**name) {
        return Some(format!("interface {name} is not for clients or backends"));
    }
    if link.is_bridge() {
        // Generic XDP on a bridge sees frames of up to 64 KiB (T9); natively on its ports it does
        // not.
        return Some(format!(
            "interface {name} is a bridge: it is served by its ports, so name those \
             (ip link show master {name})"
        ));
    }
    if !link.is_ethernet {
        return Some(format!("interface {name} is not Ethernet: not served in this release"));
    }
    None
}

/// Why a link that could be attached must not be.
pub(super) fn refusal(network: &NetworkState, link: &Link, frame_size: u32) -> Option<String> {
    reason(network, link, frame_size).map(|reason| sentence(&leave_out(link, reason)))
}

fn reason(network: &NetworkState, link: &Link, frame_size: u32) -> Option<String> {
    too_large(link, frame_size).or_else(|| hides_tags(network, link))
}

fn leave_out(link: &Link, reason: String) -> LeftOut {
    LeftOut { index: link.index, name: link.name.clone(), reason }
}

/// What is told of an interface that is left out, where it is not clear which one is meant.
pub(super) fn sentence(left_out: &LeftOut) -> String {
    format!("interface {} not attached: {}", left_out.name, left_out.reason)
}

/// The VLANs of which the host has interfaces on a link, or on the bridge or bond that it is of.
fn vlans(network: &NetworkState, link: &Link) -> Vec<u16> {
    let bearers = [Some(link.index), link.master];
    let is_on = |child: &&Link| child.peer.is_some() && bearers.contains(&child.peer);
    network.links.values().filter(is_on).filter_map(|child| child.vlan).collect()
}

/// Where the device takes tags out, what belongs to a VLAN's interface looks as if it were for the
/// link itself (T9).
fn hides_tags(network: &NetworkState, link: &Link) -> Option<String> {
    let vlans = if link.strips_tags { vlans(network, link) } else { Vec::new() };
    let id = vlans.first()?;
    let name = &link.name;
    let peer = if &*link.kind == "veth" { ", and on its peer txvlan off" } else { "" };
    Some(format!(
        "VLAN {id} has an interface on it, and tags are taken out before XDP sees them: \
         ethtool -K {name} rxvlan off{peer}"
    ))
}

/// What a frame holds beside the packet: the kernel's headroom, the Ethernet header and a VLAN tag.
const FRAME_OVERHEAD_BYTES: u32 = 256 + 14 + 4;

/// Why packets of this link do not fit a frame, and what to type. A packet is one frame: what is
/// larger would be lost at the socket, one by one.
fn too_large(link: &Link, frame_size: u32) -> Option<String> {
    let mtu_max = |frame_size: u32| frame_size - FRAME_OVERHEAD_BYTES;
    let (name, mtu, here) = (&link.name, link.mtu_bytes, mtu_max(frame_size));
    if mtu <= here {
        return None;
    }
    let larger = mtu_max(FRAME_SIZE_MAX);
    let fix = if mtu <= larger {
        format!("memory.frameSize: {FRAME_SIZE_MAX} takes an MTU of up to {larger}")
    } else {
        format!(
            "ip link set {name} mtu {here}, or up to {MTU_NATIVE_MAX} with memory.frameSize: \
             {FRAME_SIZE_MAX}; larger ones are not served"
        )
    };
    Some(format!("its MTU is {mtu}, and memory.frameSize {frame_size} takes {here}: {fix}"))
}

/// The larger of the two sizes that the kernel takes: a page.
const FRAME_SIZE_MAX: u32 = 4096;

/// What most drivers allow for native XDP without fragments: a page less headroom and tail.
const MTU_NATIVE_MAX: u32 = 3498;

fn request(
    (slot, mac, vlans): (InterfaceSlot, MacAddress, Vec<u16>),
    link: &Link,
    entry: &InterfaceConfig,
    warnings: &mut Vec<String>,
) -> Option<AttachRequest> {
    let count = link.rx_queue_count;
    let queues: Vec<u32> = match &entry.queues {
        Queues::All => (0..count).collect(),
        Queues::List(list) => list.numbers().iter().copied().filter(|q| *q < count).collect(),
    };
    if let Queues::List(list) = &entry.queues
        && queues.len() < list.numbers().len()
    {
        warnings.push(format!("interface {} has {count} queues, {list} asked for", link.name));
    }
    let request = AttachRequest {
        slot,
        name: link.name.to_string(),
        index: link.index,
        mac,
        queues,
        attach_mode: entry.attach_mode,
        copy_mode: entry.effective_copy_mode(),
        // The near end of a pod; an uplink that is a veth, as in a lab, carries more.
        is_small: &*link.kind == "veth" && entry.role == Role::Backend,
        side: side(entry),
        vlans,
    };
    (!request.queues.is_empty()).then_some(request)
}

/// Of role `both` is an uplink with clients behind it: only role `backend` promises that there are
/// none.
fn side(entry: &InterfaceConfig) -> Side {
    match entry.role {
        Role::Backend => Side::Pods,
        Role::Both | Role::Client => Side::Clients,
    }
}

/// The snapshot's table: the attached interfaces by slot.
pub(super) fn table(
    attached: &Attached,
    network: &NetworkState,
    entries: &[InterfaceConfig],
) -> Vec<Option<Interface>> {
    let mut table = vec![None; INTERFACES_MAX];
    for (slot, index) in attached {
        let Some(link) = network.links.get(index) else { continue };
        if let Some(entry) = table.get_mut(usize::from(slot.0)) {
            *entry = Some(Interface {
                index: link.index,
                name: link.name.clone(),
                mac: network.own_mac(link),
                mtu_bytes: mtu(link.mtu_bytes),
                side: interface_config(entries, &link.name).map(side).unwrap_or_default(),
            });
        }
    }
    table
}

/// An MTU as the snapshot holds it; no packet that we forward is larger than 65535 bytes anyway.
pub(super) fn mtu(mtu_bytes: u32) -> u16 {
    u16::try_from(mtu_bytes).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_vlans_of_a_port_are_those_on_it_and_on_its_bridge() {
        let bridge = Link::ethernet(IfIndex(1), "br0");
        let port = Link { master: Some(bridge.index), ..Link::ethernet(IfIndex(2), "eth1") };
        let vlan = |index, on: Option<Link>, id| Link {
            peer: on.map(|on| on.index),
            vlan: Some(id),
            ..Link::ethernet(IfIndex(index), "vlan")
        };
        let other = Link::ethernet(IfIndex(9), "eth2");
        let on = [Some(bridge.clone()), Some(port.clone()), Some(other), None];
        let on = (3_u16..).zip(on).map(|(id, on)| vlan(id.into(), on, id));
        let links = [bridge.clone(), port.clone()].into_iter().chain(on);
        let links = Arc::new(links.map(|link| (link.index, link)).collect());
        let network = NetworkState { links, ..NetworkState::default() };
        assert_eq!(vlans(&network, &port), [3, 4]);
        assert_eq!(vlans(&network, &bridge), [3]);
    }

    #[test]
    fn a_packet_must_fit_one_frame_and_the_refusal_says_what_to_type() {
        let link = |mtu_bytes| Link { mtu_bytes, ..Link::ethernet(IfIndex(1), "eth1") };
        assert_eq!(too_large(&link(1500), 2048), None);
        assert_eq!(too_large(&link(1774), 2048), None);
        assert_eq!(too_large(&link(3498), 4096), None);
        let words = too_large(&link(1775), 2048).unwrap();
        assert!(words.contains("1775") && words.contains("memory.frameSize: 4096"), "{words}");
        for frame_size in [2048, 4096] {
            let words = too_large(&link(9000), frame_size).unwrap();
            assert!(words.contains("9000") && words.contains("ip link set eth1 mtu"), "{words}");
        }
    }

    #[test]
    fn a_freed_slot_is_given_again_last() {
        let mut slots = Slots::default();
        let given = |slots: &mut Slots, n: u32| slots.slot(IfIndex(n)).map(|slot| slot.0);
        assert_eq!((given(&mut slots, 10), given(&mut slots, 11)), (Some(1), Some(2)));
        slots.free_all_but(&[IfIndex(11)].into(), &Attached::new());
        assert_eq!(given(&mut slots, 12), Some(3));
        assert_eq!(given(&mut slots, 11), Some(2));
        for n in 13..=264 {
            assert!(given(&mut slots, n).is_some(), "{n}");
        }
        assert_eq!(given(&mut slots, 265), Some(1), "the only one left");
        assert_eq!(given(&mut slots, 266), None);
    }

    #[test]
    fn an_attached_interface_keeps_its_slot_although_it_is_no_longer_wanted() {
        let mut slots = Slots::default();
        let slot = slots.slot(IfIndex(7)).unwrap();
        slots.free_all_but(&BTreeSet::new(), &[(slot, IfIndex(7))].into());
        assert_eq!(slots.slot(IfIndex(8)), Some(InterfaceSlot(2)));
        assert_eq!(slots.slot(IfIndex(7)), Some(slot));
    }
}
