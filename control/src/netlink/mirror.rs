//! Keeps a [`NetworkState`] like the kernel's.

use super::channels;
use super::decode;
use super::error::NetlinkError;
use super::features;
use super::state::NetworkState;
use futures::{StreamExt, TryStreamExt};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourState as KernelState,
};
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;
use tidegate_dataplane::types::IfIndex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time;

/// The first event after a quiet time is followed at once: until then packets may go astray. Those
/// after it are gathered for so long. Shorter reads more often while a node starts a hundred pods;
/// longer delays the first packet to a new pod.
const GATHER: Duration = Duration::from_millis(10);

/// Failures in a row that are not told.
const FAILURES_QUIET: u32 = 2;

/// After a failed read, how long to wait before the next.
const RETRY: Duration = Duration::from_millis(500);

const GROUPS: [MulticastGroup; 6] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];

/// A mirror of the kernel's tables. An event says which table changed, and that table is read
/// anew: IPv4 routes vanish with their link or address without an event of their own, so events
/// alone would not do, and a lost event costs nothing but a full read.
#[derive(Debug)]
pub struct Mirror {
    handle: Handle,
    state: watch::Receiver<NetworkState>,
    tasks: Vec<JoinHandle<()>>,
}

impl Mirror {
    /// Reads the tables of this network namespace and follows them from now on. To be called
    /// inside a tokio runtime.
    ///
    /// # Errors
    /// No netlink socket, or the kernel refused the first read.
    pub async fn start() -> Result<Self, NetlinkError> {
        // Listening before reading: a change in between is then read twice, never missed.
        let (listener, _unused, events) = rtnetlink::new_multicast_connection(&GROUPS)?;
        let (connection, handle, _no_events) = rtnetlink::new_connection()?;
        let mut tasks = vec![tokio::spawn(listener), tokio::spawn(connection)];
        let mut first = NetworkState::default();
        read(&handle, Tables::ALL, &mut first).await?;
        first.version = 1;
        let (sender, state) = watch::channel(first);
        let events = events.map(|(message, _)| Tables::of(&message));
        tasks.push(tokio::spawn(follow(handle.clone(), Box::pin(events), sender)));
        Ok(Self { handle, state, tasks })
    }

    /// The state now.
    pub fn state(&self) -> NetworkState {
        self.state.borrow().clone()
    }

    /// Tells of every change. Values in between may be skipped.
    pub fn subscribe(&self) -> watch::Receiver<NetworkState> {
        self.state.clone()
    }

    /// A handle to the same socket, for requests.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Asks the kernel to find `address` on an interface and, where it can (Linux 5.16), to keep
    /// it known. The answer comes as a change of the state.
    ///
    /// # Errors
    /// The kernel refused: the interface is gone, or has no neighbours.
    pub async fn probe_neighbour(
        &self,
        interface: IfIndex,
        address: IpAddr,
    ) -> Result<(), NetlinkError> {
        let managed = self.ask(interface, address, true).await;
        if managed.is_ok() {
            return Ok(());
        }
        let what = format!("ask for neighbour {address} on interface {}", interface.0);
        let asked = self.ask(interface, address, false).await;
        asked.map_err(NetlinkError::request(what))
    }

    async fn ask(
        &self,
        interface: IfIndex,
        address: IpAddr,
        is_managed: bool,
    ) -> Result<(), rtnetlink::Error> {
        let request = self.handle.neighbours().add(interface.0, address).replace();
        let mut request = request.state(KernelState::None).flags(NeighbourFlags::Use);
        if is_managed {
            // The kernel takes "managed" alone or with "use"; both ask at once.
            let managed = NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed);
            request.message_mut().attributes.push(managed);
        }
        request.execute().await
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Which tables are to be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "a set of six")]
struct Tables {
    links: bool,
    addresses: bool,
    routes: bool,
    neighbours: bool,
    bridge_ports: bool,
    /// A link went, or may have.
    is_removal: bool,
}

impl Tables {
    const ALL: Self = Self {
        links: true,
        addresses: true,
        routes: true,
        neighbours: true,
        bridge_ports: true,
        is_removal: false,
    };

    /// What an event may have changed. A link that goes down takes routes and neighbours along.
    fn of(message: &NetlinkMessage<Message>) -> Self {
        let none = Self::default();
        match &message.payload {
            NetlinkPayload::InnerMessage(Message::NewLink(_)) => Self::ALL,
            NetlinkPayload::InnerMessage(Message::DelLink(_)) | NetlinkPayload::Overrun(_) => {
                Self { is_removal: true, ..Self::ALL }
            }
            NetlinkPayload::InnerMessage(Message::NewAddress(_) | Message::DelAddress(_)) => {
                Self { addresses: true, routes: true, ..none }
            }
            NetlinkPayload::InnerMessage(Message::NewRoute(_) | Message::DelRoute(_)) => {
                Self { routes: true, ..none }
            }
            NetlinkPayload::InnerMessage(
                Message::NewNeighbour(message) | Message::DelNeighbour(message),
            ) => {
                let is_bridge = message.header.family == AddressFamily::Bridge;
                Self { neighbours: !is_bridge, bridge_ports: is_bridge, ..none }
            }
            _ => none,
        }
    }

    fn with(self, other: Self) -> Self {
        Self {
            links: self.links | other.links,
            addresses: self.addresses | other.addresses,
            routes: self.routes | other.routes,
            neighbours: self.neighbours | other.neighbours,
            bridge_ports: self.bridge_ports | other.bridge_ports,
            is_removal: self.is_removal | other.is_removal,
        }
    }
}

type Events = std::pin::Pin<Box<dyn futures::Stream<Item = Tables> + Send>>;

/// Reads what events name and publishes it where it differs, until nobody listens.
async fn follow(handle: Handle, mut events: Events, sender: watch::Sender<NetworkState>) {
    let mut dirty = Tables::default();
    let mut quiet_from = time::Instant::now();
    let mut failures = 0;
    loop {
        if dirty == Tables::default() {
            let Some(changed) = events.next().await else { return };
            dirty = changed;
        }
        while let Ok(Some(more)) = time::timeout_at(quiet_from, events.next()).await {
            dirty = dirty.with(more);
        }
        quiet_from = time::Instant::now() + GATHER;
        let mut next = sender.borrow().clone();
        next.removals += u64::from(dirty.is_removal);
        match read(&handle, dirty, &mut next).await {
            Ok(()) => {
                (dirty, failures) = (Tables::default(), 0);
                publish(&sender, next);
            }
            Err(error) => {
                failures += 1;
                tell(failures, &error);
                time::sleep(RETRY).await;
            }
        }
        if sender.is_closed() {
            return;
        }
    }
}

/// The kernel answers EBUSY or EINTR where a table changes while it is read, as at every start:
/// that is no news unless it goes on.
fn tell(failures: u32, error: &NetlinkError) {
    if failures > FAILURES_QUIET {
        tracing::warn!(%error, failures, "cannot read the kernel's tables; trying again");
    } else {
        tracing::debug!(%error, "cannot read the kernel's tables; trying again");
    }
}

fn publish(sender: &watch::Sender<NetworkState>, mut next: NetworkState) {
    sender.send_if_modified(|state| {
        if *state == next {
            return false;
        }
        next.version = state.version + 1;
        std::mem::swap(state, &mut next);
        true
    });
}

async fn read(
    handle: &Handle,
    tables: Tables,
    state: &mut NetworkState,
) -> Result<(), NetlinkError> {
    let list = |what: &str| NetlinkError::request(format!("list {what}"));
    if tables.links {
        let links: Vec<_> =
            handle.link().get().execute().try_collect().await.map_err(list("links"))?;
        let mut links: BTreeMap<_, _> =
            links.iter().map(decode::link).map(|link| (link.index, link)).collect();
        for (index, count) in channels::receive_queues().await {
            if let Some(link) = links.get_mut(&index) {
                link.rx_queue_count = count;
            }
        }
        if links.values().any(|link| link.vlan.is_some()) {
            for index in features::tag_stripping().await {
                if let Some(link) = links.get_mut(&index) {
                    link.strips_tags = true;
                }
            }
        }
        state.links = Arc::new(links);
    }
    if tables.addresses {
        let messages = handle.address().get().execute().try_collect::<Vec<_>>().await;
        let messages = messages.map_err(list("addresses"))?;
        state.addresses = Arc::new(messages.iter().filter_map(decode::address).collect());
    }
    if tables.routes {
        let v4 = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let v6 = RouteMessageBuilder::<Ipv6Addr>::new().build();
        let mut messages: Vec<RouteMessage> =
            handle.route().get(v4).execute().try_collect().await.map_err(list("routes"))?;
        let more = handle.route().get(v6).execute().try_collect::<Vec<_>>().await;
        // Without IPv6 in the kernel this fails; then there are no such routes.
        messages.extend(more.unwrap_or_default());
        state.routes = Arc::new(decode::routes(&messages));
    }
    if tables.neighbours {
        let messages = handle.neighbours().get().execute().try_collect::<Vec<_>>().await;
        let messages = messages.map_err(list("neighbours"))?;
        state.neighbours = Arc::new(messages.iter().filter_map(decode::neighbour).collect());
    }
    if tables.bridge_ports {
        let request = handle.neighbours().get().set_address_family(AddressFamily::Bridge);
        let messages = request.execute().try_collect::<Vec<_>>().await;
        let messages = messages.map_err(list("the bridges' forwarding tables"))?;
        state.bridge_ports = Arc::new(messages.iter().filter_map(decode::bridge_port).collect());
    }
    Ok(())
}
