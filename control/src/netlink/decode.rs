//! From the kernel's messages to our tables.

use super::state::{InterfaceAddress, Link, Neighbour, NeighbourState, Route, RouteKind, Routes};
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage,
    NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RoutePreference, RouteType, RouteVia,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tidegate_dataplane::types::{IfIndex, MacAddress};

pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        mtu_bytes: 0,
        is_admin_up: flags.contains(LinkFlags::Up),
        // LowerUp is carrier: the kernel's own fib ignores a link without it.
        is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        is_loopback: flags.contains(LinkFlags::Loopback),
        ..Link::ethernet(IfIndex(message.header.index), "")
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu_bytes = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(IfIndex(*index)),
            LinkAttribute::NumRxQueues(count) => link.rx_queue_count = *count,
            LinkAttribute::Link(index) => link.peer = Some(IfIndex(*index)),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = kind(infos);
                link.vlan = vlan(infos);
            }
            _ => {}
        }
    }
    link
}

fn kind(infos: &[LinkInfo]) -> Box<str> {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind.to_string()),
        _ => None,
    });
    kind.unwrap_or_default().into()
}

/// The VLAN of a VLAN's interface. An 802.1ad one's packets are never ours, whatever its number.
fn vlan(infos: &[LinkInfo]) -> Option<u16> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    });
    data?.iter().find_map(|field| match field {
        InfoVlan::Id(id) => Some(*id),
        _ => None,
    })
}

fn mac(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress)
}

/// `None` for an address that is not in use: duplicate address detection has not ended yet, or has
/// found another owner. An optimistic one is (RFC 4429).
pub(super) fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    let flags = address_flags(message);
    let is_optimistic = flags.contains(AddressFlags::Optimistic);
    if flags.contains(AddressFlags::Dadfailed)
        || (flags.contains(AddressFlags::Tentative) && !is_optimistic)
    {
        return None;
    }
    // On a point-to-point link `Address` is the other end; `Local` is ours wherever it is given.
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let address = local.or(any)?;
    // One bit means "secondary" for IPv4 and "temporary" for IPv6.
    let is_temporary = address.is_ipv6() && flags.contains(AddressFlags::Secondary);
    Some(InterfaceAddress {
        interface: IfIndex(message.header.index),
        address,
        prefix_length: message.header.prefix_len,
        is_global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
        is_preferred: !is_temporary && !flags.contains(AddressFlags::Deprecated),
    })
}

/// The attribute where there is one: the header has room for eight flags alone.
fn address_flags(message: &AddressMessage) -> AddressFlags {
    let flags = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Flags(flags) => Some(*flags),
        _ => None,
    });
    flags.unwrap_or(AddressFlags::from_bits_retain(message.header.flags.bits().into()))
}

/// The main table's routes by prefix, the lowest metric first, and among equal ones the router
/// that prefers itself most (RFC 4191).
pub(super) fn routes(messages: &[RouteMessage]) -> Routes {
    let mut routes = Routes::default();
    // What the kernel learnt about a single destination, as its path MTU, is no route of its own.
    let is_own = |message: &&RouteMessage| !message.header.flags.contains(RouteFlags::Cloned);
    let mut messages: Vec<_> = messages.iter().filter(is_own).collect();
    messages.sort_by_key(|message| preference(message));
    for (net, route) in messages.into_iter().flat_map(route) {
        match net {
            IpNet::V4(net) => routes.v4.entry(net).or_default().push(route),
            IpNet::V6(net) => routes.v6.entry(net).or_default().push(route),
        }
    }
    routes.v4.values_mut().for_each(|list| list.sort_by_key(|route| route.metric));
    routes.v6.values_mut().for_each(|list| list.sort_by_key(|route| route.metric));
    routes
}

fn preference(message: &RouteMessage) -> u8 {
    let preference = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Preference(preference) => Some(*preference),
        _ => None,
    });
    match preference {
        Some(RoutePreference::High) => 0,
        Some(RoutePreference::Low) => 2,
        _ => 1,
    }
}

/// A route of several paths gives one entry per path: the first whose link is up is used.
fn route(message: &RouteMessage) -> Vec<(IpNet, Route)> {
    let Some(net) = main_table_prefix(message) else { return Vec::new() };
    let metric = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let kinds = match message.header.kind {
        RouteType::Unicast => paths(message),
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit => {
            vec![RouteKind::Refused]
        }
        _ => Vec::new(),
    };
    let entry = |kind| (net, Route { metric: metric.unwrap_or(0), kind });
    kinds.into_iter().map(entry).collect()
}

fn main_table_prefix(message: &RouteMessage) -> Option<IpNet> {
    let table = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    let table = table.unwrap_or(u32::from(message.header.table));
    let destination = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    let any: IpAddr = match message.header.address_family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let length = message.header.destination_prefix_length;
    let net = IpNet::new(destination.unwrap_or(any), length).ok()?;
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(net)
}

fn paths(message: &RouteMessage) -> Vec<RouteKind> {
    let source = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    });
    let mtu_bytes = message.attributes.iter().find_map(mtu);
    let hops = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let via = |interface, attributes: &[RouteAttribute]| RouteKind::Via {
        interface: IfIndex(interface),
        gateway: attributes.iter().find_map(gateway),
        source,
        mtu_bytes,
    };
    if let Some(hops) = hops {
        let path = |hop: &RouteNextHop| via(hop.interface_index, &hop.attributes);
        return hops.iter().map(path).collect();
    }
    let interface = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    interface.map(|index| via(index, &message.attributes)).into_iter().collect()
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some((*v4).into()),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some((*v6).into()),
        _ => None,
    }
}

fn mtu(attribute: &RouteAttribute) -> Option<u32> {
    let RouteAttribute::Metrics(metrics) = attribute else { return None };
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// Behind which port of which bridge a link address is. `None` for the ports' own addresses and for
/// what is no bridge's, as a VXLAN device's own table.
pub(super) fn bridge_port(message: &NeighbourMessage) -> Option<((IfIndex, MacAddress), IfIndex)> {
    let (mut bridge, mut link_address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Controller(index) => bridge = Some(IfIndex(*index)),
            NeighbourAttribute::LinkLayerAddress(bytes) => link_address = mac(bytes),
            _ => {}
        }
    }
    let port = IfIndex(message.header.ifindex);
    let is_learnt = message.header.state != KernelState::Permanent;
    is_learnt.then_some(((bridge?, link_address?), port))
}

pub(super) fn neighbour(message: &NeighbourMessage) -> Option<((IfIndex, IpAddr), Neighbour)> {
    let (mut address, mut link_address, mut flags) = (None, None, NeighbourExtFlags::empty());
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::from(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::from(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => link_address = mac(bytes),
            NeighbourAttribute::ExtFlags(given) => flags = *given,
            _ => {}
        }
    }
    let kernel = message.header.state;
    let state = match (kernel, link_address) {
        (KernelState::Failed, _) => NeighbourState::Failed,
        (KernelState::Incomplete | KernelState::None, _) | (_, None) => NeighbourState::Asking,
        (_, Some(mac)) => NeighbourState::Known(mac),
    };
    let is_managed = flags.contains(NeighbourExtFlags::Managed)
        || matches!(kernel, KernelState::Permanent | KernelState::Noarp);
    let key = (IfIndex(message.header.ifindex), address?);
    Some((key, Neighbour { state, is_managed }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_route::link::InfoKind;

    #[test]
    fn addresses_that_are_not_in_use_are_left_out_and_passing_ones_marked() {
        let decoded = |of: &str, flags: AddressFlags| {
            let mut message = AddressMessage::default();
            message.attributes.push(AddressAttribute::Address(of.parse().unwrap()));
            message.attributes.push(AddressAttribute::Flags(flags));
            address(&message).map(|own| own.is_preferred)
        };
        let none = AddressFlags::empty();
        let (tentative, optimistic) = (AddressFlags::Tentative, AddressFlags::Optimistic);
        for (of, flags, expected) in [
            ("2001:db8::1", none, Some(true)),
            ("2001:db8::1", AddressFlags::Permanent, Some(true)),
            ("2001:db8::1", tentative, None),
            ("2001:db8::1", tentative | optimistic, Some(true)),
            ("2001:db8::1", tentative | AddressFlags::Dadfailed, None),
            ("2001:db8::1", optimistic | AddressFlags::Dadfailed, None),
            ("2001:db8::1", AddressFlags::Deprecated, Some(false)),
            ("2001:db8::1", AddressFlags::Secondary, Some(false)),
            ("10.0.0.1", AddressFlags::Secondary, Some(true)),
        ] {
            assert_eq!(decoded(of, flags), expected, "{of} {flags:?}");
        }
    }

    #[test]
    fn an_interface_of_a_vlan_tells_which_and_on_what() {
        let mut message = LinkMessage::default();
        let data = InfoData::Vlan(vec![InfoVlan::Id(7)]);
        let infos = vec![LinkInfo::Kind(InfoKind::Vlan), LinkInfo::Data(data)];
        message.attributes.push(LinkAttribute::LinkInfo(infos));
        message.attributes.push(LinkAttribute::Link(3));
        let decoded = link(&message);
        assert_eq!((&*decoded.kind, decoded.vlan), ("vlan", Some(7)));
        assert_eq!(decoded.peer, Some(IfIndex(3)));
    }

    #[test]
    fn a_bridge_tells_behind_which_port_others_are_and_not_of_its_ports_own_addresses() {
        let told = |state, bridge: Option<u32>| {
            let mut message = NeighbourMessage::default();
            (message.header.ifindex, message.header.state) = (7, state);
            let of = NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 9]);
            message.attributes.push(of);
            message.attributes.extend(bridge.map(NeighbourAttribute::Controller));
            bridge_port(&message)
        };
        let behind = Some(((IfIndex(3), MacAddress([2, 0, 0, 0, 0, 9])), IfIndex(7)));
        // What is learnt is reachable or stale, what is configured needs no ARP.
        for state in [KernelState::Reachable, KernelState::Stale, KernelState::Noarp] {
            assert_eq!(told(state, Some(3)), behind);
            assert_eq!(told(state, None), None, "a device's own table");
        }
        assert_eq!(told(KernelState::Permanent, Some(3)), None, "the port itself");
    }

    fn default_by(interface: u32, more: Vec<RouteAttribute>) -> RouteMessage {
        let mut message = RouteMessage::default();
        message.header.address_family = AddressFamily::Inet6;
        message.header.table = RouteHeader::RT_TABLE_MAIN;
        message.header.kind = RouteType::Unicast;
        message.attributes.push(RouteAttribute::Oif(interface));
        message.attributes.extend(more);
        message
    }

    #[test]
    fn of_equal_routers_the_one_that_prefers_itself_comes_first_and_the_kernels_notes_are_none() {
        let mut noted = default_by(9, vec![]);
        noted.header.flags = RouteFlags::Cloned;
        let preference = |p| vec![RouteAttribute::Preference(p)];
        let mtu = RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]);
        let decoded = routes(&[
            noted,
            default_by(1, preference(RoutePreference::Low)),
            default_by(2, preference(RoutePreference::Medium)),
            default_by(3, [preference(RoutePreference::High), vec![mtu]].concat()),
            default_by(4, vec![RouteAttribute::Priority(7)]),
        ]);
        let list = decoded.v6.values().next().unwrap();
        let via = list.iter().map(|route| match route.kind {
            RouteKind::Via { interface, mtu_bytes, .. } => (interface.0, mtu_bytes),
            RouteKind::Refused => (0, None),
        });
        assert_eq!(via.collect::<Vec<_>>(), [(3, Some(1400)), (2, None), (1, None), (4, None)]);
    }
}
