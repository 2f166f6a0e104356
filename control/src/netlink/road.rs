//! The veth pair by which packets return to the kernel (T8).

use super::error::NetlinkError;
use super::state::Link;
use super::{Mirror, decode, read};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute, LinkMessage,
};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use tidegate_dataplane::engine::KernelRoad;
use tidegate_dataplane::types::IfIndex;

/// The end that workers transmit on.
pub const ROAD_DEVICE: &str = "tidegate0";

/// The end whose tc program redirects to the original interface.
pub const ROAD_PEER: &str = "tidegate1";

/// Marks the pair as ours, so that a pair left by a crash may be removed and a foreign device of
/// the same name never is.
const ALIAS: &str = "tidegate: road back to the kernel";

/// Room for the largest frame of an attached interface and the trailer that names its origin.
const MTU_BYTES: u32 = 9_000;

/// The pair, made by [`KernelRoadDevices::create`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoadDevices {
    /// `tidegate0`.
    pub device: IfIndex,
    /// `tidegate1`.
    pub peer: IfIndex,
}

impl KernelRoadDevices {
    /// Makes the pair with `queues` queues at both ends, without addresses, up. A pair that a
    /// crash left behind is removed first.
    ///
    /// # Errors
    /// The kernel refused, or a device of that name is not ours.
    pub async fn create(mirror: &Mirror, queues: u32) -> Result<Self, NetlinkError> {
        let handle = mirror.handle();
        remove_stale(handle, ROAD_DEVICE).await?;
        remove_stale(handle, ROAD_PEER).await?;
        let what = format!("create the veth pair {ROAD_DEVICE}, {ROAD_PEER}");
        let added = handle.link().add(pair(queues)).execute().await;
        added.map_err(NetlinkError::request(what))?;
        let mut ends = [IfIndex(0); 2];
        for (end, name) in ends.iter_mut().zip([ROAD_DEVICE, ROAD_PEER]) {
            let link = find(handle, name).await?.ok_or(NetlinkError::Missing(name.into()))?;
            set_up(handle, name, link.0.index).await?;
            *end = link.0.index;
        }
        Ok(Self { device: ends[0], peer: ends[1] })
    }

    /// The pair in the packet path's words.
    pub fn kernel_road(&self) -> KernelRoad {
        KernelRoad {
            device: ROAD_DEVICE.to_owned(),
            device_index: self.device,
            peer_index: self.peer,
        }
    }

    /// Removes the pair.
    ///
    /// # Errors
    /// The kernel refused; a pair that is gone already is no error.
    pub async fn remove(self, mirror: &Mirror) -> Result<(), NetlinkError> {
        remove_stale(mirror.handle(), ROAD_DEVICE).await
    }
}

fn pair(queues: u32) -> LinkMessage {
    let queues = [LinkAttribute::NumTxQueues(queues), LinkAttribute::NumRxQueues(queues)];
    let end = |name: &str| {
        let mut message = LinkMessageBuilder::<LinkUnspec>::new().name(name).mtu(MTU_BYTES).build();
        message.attributes.extend(queues.clone());
        message
    };
    let mut message = LinkVeth::new(ROAD_DEVICE, ROAD_PEER)
        .mtu(MTU_BYTES)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(end(ROAD_PEER))))
        .build();
    message.attributes.extend(queues.clone());
    message
}

/// Up, marked as ours, and without a link-local address: nothing but our packets shall travel
/// there.
async fn set_up(handle: &Handle, name: &str, index: IfIndex) -> Result<(), NetlinkError> {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    let quiet = LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]);
    let quiet = LinkUnspec::new_with_index(index.0).append_extra_attribute(quiet).build();
    if let Err(error) = handle.link().set(quiet).execute().await {
        // A kernel without IPv6 knows no such mode, and needs none.
        tracing::debug!(%error, name, "cannot turn IPv6 address generation off");
    }
    let up = LinkUnspec::new_with_index(index.0).alias(ALIAS).up().build();
    let what = format!("set {name} up");
    handle.link().set(up).execute().await.map_err(NetlinkError::request(what))
}

async fn remove_stale(handle: &Handle, name: &str) -> Result<(), NetlinkError> {
    let Some((link, alias)) = find(handle, name).await? else { return Ok(()) };
    if alias.as_deref() != Some(ALIAS) {
        let kind = if link.kind.is_empty() { "hardware".into() } else { link.kind };
        return Err(NetlinkError::ForeignDevice { name: name.to_owned(), kind: kind.into() });
    }
    let what = format!("remove the stale device {name}");
    let removed = handle.link().del(link.index.0).execute().await;
    removed.map_err(NetlinkError::request(what))
}

/// The device of this name and its alias.
async fn find(handle: &Handle, name: &str) -> Result<Option<(Link, Option<String>)>, NetlinkError> {
    let links = read::link_messages(handle).await?;
    let alias = |message: &LinkMessage| {
        message.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::IfAlias(alias) => Some(alias.clone()),
            _ => None,
        })
    };
    let mut found = links.iter().map(|message| (decode::link(message), alias(message)));
    Ok(found.find(|(link, _)| &*link.name == name))
}
