//! From the kernel's messages to our tables.

use super::state::{InterfaceAddress, Link, Neighbour, NeighbourState, Route, RouteKind, Routes};
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage,
    NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteType, RouteVia,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tidegate_dataplane::types::{IfIndex, MacAddress};

pub(super) fn link(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: IfIndex(message.header.index),
        name: "".into(),
        mac: MacAddress::default(),
        mtu_bytes: 0,
        is_admin_up: flags.contains(LinkFlags::Up),
        // LowerUp is carrier: the kernel's own fib ignores a link without it.
        is_up: flags.contains(LinkFlags::Up) && flags.contains(LinkFlags::LowerUp),
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
        is_loopback: flags.contains(LinkFlags::Loopback),
        kind: "".into(),
        master: None,
        rx_queue_count: 1,
        peer: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name.as_str().into(),
            LinkAttribute::Address(bytes) => link.mac = mac(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(mtu) => link.mtu_bytes = *mtu,
            LinkAttribute::Controller(index) => link.master = Some(IfIndex(*index)),
            LinkAttribute::NumRxQueues(count) => link.rx_queue_count = *count,
            LinkAttribute::Link(index) => link.peer = Some(IfIndex(*index)),
            LinkAttribute::LinkInfo(infos) => link.kind = kind(infos),
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

fn mac(bytes: &[u8]) -> Option<MacAddress> {
    bytes.try_into().ok().map(MacAddress)
}

pub(super) fn address(message: &AddressMessage) -> Option<InterfaceAddress> {
    // On a point-to-point link `Address` is the other end; `Local` is ours wherever it is given.
    let local = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = message.attributes.iter().find_map(|a| match a {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    Some(InterfaceAddress {
        interface: IfIndex(message.header.index),
        address: local.or(any)?,
        prefix_length: message.header.prefix_len,
        is_global: matches!(message.header.scope, AddressScope::Universe | AddressScope::Site),
    })
}

/// The main table's routes by prefix, the lowest metric first.
pub(super) fn routes(messages: &[RouteMessage]) -> Routes {
    let mut routes = Routes::default();
    for (net, route) in messages.iter().flat_map(route) {
        match net {
            IpNet::V4(net) => routes.v4.entry(net).or_default().push(route),
            IpNet::V6(net) => routes.v6.entry(net).or_default().push(route),
        }
    }
    routes.v4.values_mut().for_each(|list| list.sort_by_key(|route| route.metric));
    routes.v6.values_mut().for_each(|list| list.sort_by_key(|route| route.metric));
    routes
}

/// A route of several paths gives one entry per path: the first whose link is up is used.
fn route(message: &RouteMessage) -> Vec<(IpNet, Route)> {
    let Some(net) = main_table_prefix(message) else { return Vec::new() };
    let metric = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    let source = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    });
    let kinds = match message.header.kind {
        RouteType::Unicast => paths(message, source),
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

fn paths(message: &RouteMessage, source: Option<IpAddr>) -> Vec<RouteKind> {
    let hops = message.attributes.iter().find_map(|a| match a {
        RouteAttribute::MultiPath(hops) => Some(hops),
        _ => None,
    });
    let via = |interface, attributes: &[RouteAttribute]| RouteKind::Via {
        interface: IfIndex(interface),
        gateway: attributes.iter().find_map(gateway),
        source,
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

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
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
