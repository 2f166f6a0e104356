//! Reads the kernel's tables into a [`NetworkState`].

use super::channels;
use super::decode;
use super::dump;
use super::error::NetlinkError;
use super::features;
use super::mirror::Tables;
use super::state::{Link, NetworkState};
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use tidegate_dataplane::types::IfIndex;

type Links = BTreeMap<IfIndex, Link>;

/// Reads these tables. Returns why not all is known of the links, where that is so: they are to be
/// read again some time later.
///
/// # Errors
/// A table could not be listed. Those before it are new in `state`, the others as they were.
pub(super) async fn read(
    handle: &Handle,
    tables: Tables,
    state: &mut NetworkState,
) -> Result<Option<NetlinkError>, NetlinkError> {
    let mut untold = None;
    if tables.links {
        let (links, error) = links(handle, &state.links).await?;
        (state.links, untold) = (Arc::new(links), error);
    }
    if tables.addresses {
        let told = dump::table(handle, "addresses", Message::GetAddress(AddressMessage::default()));
        let told = told.await?.into_iter().filter_map(|message| match message {
            Message::NewAddress(message) => decode::address(&message),
            _ => None,
        });
        state.addresses = Arc::new(told.collect());
    }
    if tables.routes {
        state.routes = Arc::new(decode::routes(&routes(handle).await?));
    }
    if tables.neighbours {
        let told = neighbours(handle, "neighbours", AddressFamily::Unspec).await?;
        state.neighbours = Arc::new(told.iter().filter_map(decode::neighbour).collect());
    }
    if tables.bridge_ports {
        let what = "the bridges' forwarding tables";
        let told = neighbours(handle, what, AddressFamily::Bridge).await?;
        state.bridge_ports = Arc::new(told.iter().filter_map(decode::bridge_port).collect());
    }
    Ok(untold)
}

/// The links as rtnetlink tells them.
pub(super) async fn link_messages(handle: &Handle) -> Result<Vec<LinkMessage>, NetlinkError> {
    let told = dump::table(handle, "links", Message::GetLink(LinkMessage::default())).await?;
    let link = |message| match message {
        Message::NewLink(message) => Some(message),
        _ => None,
    };
    Ok(told.into_iter().filter_map(link).collect())
}

/// The links, with what ethtool tells of them, and why it did not tell all.
async fn links(
    handle: &Handle,
    before: &Links,
) -> Result<(Links, Option<NetlinkError>), NetlinkError> {
    let messages = link_messages(handle).await?;
    let mut links: Links =
        messages.iter().map(decode::link).map(|link| (link.index, link)).collect();
    let queues = with_queues(&mut links, before, channels::receive_queues().await);
    if !links.values().any(|link| link.vlan.is_some()) {
        return Ok((links, queues));
    }
    let stripping = with_stripping(&mut links, before, features::tag_stripping().await);
    Ok((links, queues.or(stripping)))
}

/// Puts in the receive queues in use. Where they are not told, an interface keeps those it had:
/// rtnetlink's number is the allocated ones', and with that many its sockets would be bound anew.
fn with_queues(
    links: &mut Links,
    before: &Links,
    told: Result<BTreeMap<IfIndex, u32>, NetlinkError>,
) -> Option<NetlinkError> {
    let count = |link: &Link| (link.index, link.rx_queue_count);
    let (counts, error) = match told {
        Ok(counts) => (counts, None),
        Err(error) => (before.values().map(count).collect(), Some(error)),
    };
    for (index, count) in counts {
        if let Some(link) = links.get_mut(&index) {
            link.rx_queue_count = count;
        }
    }
    error
}

/// Puts in which devices take tags out; the same as before where that is not told.
fn with_stripping(
    links: &mut Links,
    before: &Links,
    told: Result<BTreeSet<IfIndex>, NetlinkError>,
) -> Option<NetlinkError> {
    let strips = || before.values().filter(|link| link.strips_tags).map(|link| link.index);
    let (stripping, error) = match told {
        Ok(stripping) => (stripping, None),
        Err(error) => (strips().collect(), Some(error)),
    };
    for index in stripping {
        if let Some(link) = links.get_mut(&index) {
            link.strips_tags = true;
        }
    }
    error
}

async fn routes(handle: &Handle) -> Result<Vec<RouteMessage>, NetlinkError> {
    let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
    let mut told = dump::table(handle, "IPv4 routes", Message::GetRoute(v4)).await?;
    let v6 = dump::table(handle, "IPv6 routes", Message::GetRoute(v6)).await;
    told.extend(unless_unknown(v6)?);
    let route = |message| match message {
        Message::NewRoute(message) => Some(message),
        _ => None,
    };
    Ok(told.into_iter().filter_map(route).collect())
}

/// Nothing of a family that the kernel was built without.
fn unless_unknown<T>(told: Result<Vec<T>, NetlinkError>) -> Result<Vec<T>, NetlinkError> {
    match told {
        Err(NetlinkError::List { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) =>
        {
            Ok(Vec::new())
        }
        told => told,
    }
}

async fn neighbours(
    handle: &Handle,
    what: &'static str,
    family: AddressFamily,
) -> Result<Vec<NeighbourMessage>, NetlinkError> {
    let mut request = NeighbourMessage::default();
    request.header.family = family;
    let told = dump::table(handle, what, Message::GetNeighbour(request)).await?;
    let neighbour = |message| match message {
        Message::NewNeighbour(message) => Some(message),
        _ => None,
    };
    Ok(told.into_iter().filter_map(neighbour).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    fn refused<T>(errno: i32) -> Result<T, NetlinkError> {
        let source = io::Error::from_raw_os_error(errno);
        Err(NetlinkError::List { what: "things", source })
    }

    /// Interfaces 1 to 3; rtnetlink tells of each that eight queues were allocated.
    fn allocated() -> Links {
        let link = |index| Link {
            rx_queue_count: 8,
            ..Link::ethernet(IfIndex(index), &format!("eth{index}"))
        };
        (1..=3).map(|index| (IfIndex(index), link(index))).collect()
    }

    fn counts(links: &Links) -> Vec<u32> {
        links.values().map(|link| link.rx_queue_count).collect()
    }

    #[test]
    fn an_interface_keeps_its_queues_where_they_are_not_told() {
        let mut before = allocated();
        let told = Ok([(IfIndex(1), 1), (IfIndex(2), 4)].into());
        assert!(with_queues(&mut before, &Links::new(), told).is_none());
        assert_eq!(counts(&before), [1, 4, 8]);
        let mut after = allocated();
        let untold = with_queues(&mut after, &before, refused(libc::EBUSY));
        assert!(untold.is_some(), "to be read again");
        assert_eq!(counts(&after), [1, 4, 8]);
    }

    #[test]
    fn a_device_is_known_to_take_tags_out_where_that_is_not_told() {
        let strips = |links: &Links| {
            let stripping = links.values().filter(|link| link.strips_tags);
            stripping.map(|link| link.index.0).collect::<Vec<_>>()
        };
        let (mut before, mut after) = (allocated(), allocated());
        let untold = with_stripping(&mut before, &Links::new(), Ok([IfIndex(2)].into()));
        assert!(untold.is_none());
        let untold = with_stripping(&mut after, &before, refused(libc::EBUSY));
        assert!(untold.is_some(), "to be read again");
        assert_eq!((strips(&before), strips(&after)), (vec![2], vec![2]));
    }

    #[test]
    fn only_a_family_that_the_kernel_has_not_has_no_routes() {
        for errno in [libc::EAFNOSUPPORT, libc::EOPNOTSUPP] {
            assert!(unless_unknown::<u8>(refused(errno)).unwrap().is_empty());
        }
        for errno in [libc::ENOBUFS, libc::EBUSY, libc::EPERM] {
            assert!(unless_unknown::<u8>(refused(errno)).is_err());
        }
        let interrupted = Err(NetlinkError::Interrupted { what: "things", tries: 5 });
        assert!(unless_unknown::<u8>(interrupted).is_err());
        assert_eq!(unless_unknown(Ok(vec![1])).unwrap(), [1]);
    }
}
