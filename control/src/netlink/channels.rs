//! How many receive queues an interface has in use. rtnetlink tells how many were allocated, and a
//! default veth is given one per CPU of which it uses one; ethtool's channels tell the truth.

use super::dump;
use super::error::NetlinkError;
use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolHeader, EthtoolMessage};
use std::collections::BTreeMap;
use tidegate_dataplane::types::IfIndex;

/// Receive queues in use, by interface; without those whose driver does not tell. Nothing where
/// the kernel has no ethtool netlink.
///
/// # Errors
/// As [`dump::table`].
pub(super) async fn receive_queues() -> Result<BTreeMap<IfIndex, u32>, NetlinkError> {
    let request = EthtoolMessage::new_channel_get(None);
    let told = dump::ethtool("the interfaces' channels", &request).await?;
    Ok(told.iter().filter_map(|message| queues(&message.nlas)).collect())
}

/// An interface's number and its receive queues: those of their own and those that also send.
fn queues(attributes: &[EthtoolAttr]) -> Option<(IfIndex, u32)> {
    let (mut index, mut count) = (None, 0);
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Channel(EthtoolChannelAttr::Header(header)) => {
                index = header.iter().find_map(|field| match field {
                    EthtoolHeader::DevIndex(index) => Some(IfIndex(*index)),
                    _ => None,
                });
            }
            EthtoolAttr::Channel(
                EthtoolChannelAttr::RxCount(n) | EthtoolChannelAttr::CombinedCount(n),
            ) => count += n,
            _ => {}
        }
    }
    (count > 0).then_some((index?, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_and_combined_queues_add_up() {
        let channel = EthtoolAttr::Channel;
        let header = channel(EthtoolChannelAttr::Header(vec![EthtoolHeader::DevIndex(7)]));
        let rx = channel(EthtoolChannelAttr::RxCount(1));
        let maximum = channel(EthtoolChannelAttr::RxMax(8));
        let both = channel(EthtoolChannelAttr::CombinedCount(4));
        let told = queues(&[header.clone(), rx, maximum, both]);
        assert_eq!(told, Some((IfIndex(7), 5)));
        assert_eq!(queues(&[header]), None);
    }
}
