//! How many receive queues an interface has in use. rtnetlink tells how many were allocated, and a
//! default veth is given one per CPU of which it uses one; ethtool's channels tell the truth.

use ethtool::{EthtoolAttr, EthtoolChannelAttr, EthtoolHeader};
use futures::TryStreamExt;
use std::collections::BTreeMap;
use tidegate_dataplane::types::IfIndex;

/// Receive queues in use, by interface; without those whose driver does not tell. Nothing where
/// the kernel has no ethtool netlink.
pub(super) async fn receive_queues() -> BTreeMap<IfIndex, u32> {
    let Ok((connection, mut handle, _no_events)) = ethtool::new_connection() else {
        return BTreeMap::new();
    };
    let connection = tokio::spawn(connection);
    let told: Vec<_> = match handle.channel().get(None).execute().await {
        Ok(answers) => answers.try_collect().await.unwrap_or_default(),
        Err(error) => {
            tracing::debug!(%error, "ethtool does not tell channels");
            Vec::new()
        }
    };
    connection.abort();
    told.iter().filter_map(|message| queues(&message.payload.nlas)).collect()
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
