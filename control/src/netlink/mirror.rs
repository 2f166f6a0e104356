//! Keeps a [`NetworkState`] like the kernel's.

use super::error::NetlinkError;
use super::read::read;
use super::state::NetworkState;
use futures::{StreamExt, stream};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::neighbour::{
    NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourState as KernelState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage as Message};
use rtnetlink::{Handle, MulticastGroup};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tidegate_dataplane::types::IfIndex;
use tokio::sync::{Notify, watch};
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

/// The longest wait before ethtool is asked again.
const RETRY_MAX: Duration = Duration::from_secs(8);

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
    again: Arc<Notify>,
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
        let (mut connection, handle, _no_events) = rtnetlink::new_connection()?;
        connection.set_forward_done(true);
        let mut tasks = vec![tokio::spawn(listener), tokio::spawn(connection)];
        let mut first = NetworkState::default();
        let untold = read(&handle, Tables::ALL, &mut first).await?;
        let untold = untold.as_ref().map(Untold::first);
        first.version = 1;
        let (sender, state) = watch::channel(first);
        let again = Arc::new(Notify::new());
        let events = events.map(|(message, _)| Tables::of(&message));
        let events = stream::select(events, requests(Arc::clone(&again)));
        tasks.push(tokio::spawn(follow(handle.clone(), untold, Box::pin(events), sender)));
        Ok(Self { handle, state, again, tasks })
    }

    /// The state now.
    pub fn state(&self) -> NetworkState {
        self.state.borrow().clone()
    }

    /// Tells of every change. Values in between may be skipped.
    pub fn subscribe(&self) -> watch::Receiver<NetworkState> {
        self.state.clone()
    }

    /// Reads the links once more, for what the kernel changes without an event: with an XDP
    /// program a driver may receive on more queues than before. What differs comes as a change of
    /// the state.
    pub fn read_links_again(&self) {
        self.again.notify_one();
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
pub(super) struct Tables {
    pub(super) links: bool,
    pub(super) addresses: bool,
    pub(super) routes: bool,
    pub(super) neighbours: bool,
    pub(super) bridge_ports: bool,
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

/// What [`Mirror::read_links_again`] asks for; asking twice before it is read asks once.
fn requests(again: Arc<Notify>) -> impl futures::Stream<Item = Tables> + Send {
    stream::unfold(again, async |again| {
        again.notified().await;
        Some((Tables { links: true, ..Tables::default() }, again))
    })
}

type Events = std::pin::Pin<Box<dyn futures::Stream<Item = Tables> + Send>>;

/// Of the links ethtool did not tell all: they are read again.
#[derive(Debug)]
struct Untold {
    at: time::Instant,
    wait: Duration,
}

impl Untold {
    fn first(error: &NetlinkError) -> Self {
        tracing::warn!(%error, "what is known of the interfaces holds; trying again");
        Self { at: time::Instant::now() + RETRY, wait: RETRY }
    }

    /// Told once, and asked ever more seldom: a driver may refuse for good.
    fn again(self, error: &NetlinkError) -> Self {
        tracing::debug!(%error, "what is known of the interfaces holds; trying again");
        let wait = (self.wait * 2).min(RETRY_MAX);
        Self { at: time::Instant::now() + wait, wait }
    }
}

/// What is to be read next; `None` when the events end.
async fn next_change(events: &mut Events, untold: Option<&Untold>) -> Option<Tables> {
    let Some(untold) = untold else { return events.next().await };
    let links = Tables { links: true, ..Tables::default() };
    time::timeout_at(untold.at, events.next()).await.unwrap_or(Some(links))
}

/// Reads what events name and publishes it where it differs, until nobody listens.
async fn follow(
    handle: Handle,
    mut untold: Option<Untold>,
    mut events: Events,
    sender: watch::Sender<NetworkState>,
) {
    let mut dirty = Tables::default();
    let mut quiet_from = time::Instant::now();
    let mut failures = 0;
    loop {
        if dirty == Tables::default() {
            let Some(changed) = next_change(&mut events, untold.as_ref()).await else { return };
            dirty = changed;
        }
        while let Ok(Some(more)) = time::timeout_at(quiet_from, events.next()).await {
            dirty = dirty.with(more);
        }
        quiet_from = time::Instant::now() + GATHER;
        let mut next = sender.borrow().clone();
        next.removals += u64::from(dirty.is_removal);
        match read(&handle, dirty, &mut next).await {
            Ok(error) => {
                if dirty.links {
                    untold = error.map(|error| match untold.take() {
                        Some(before) => before.again(&error),
                        None => Untold::first(&error),
                    });
                }
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
