//! Which interfaces take VLAN tags out of what they receive, before an XDP program sees it (T9).

use super::dump;
use super::error::NetlinkError;
use ethtool::{EthtoolAttr, EthtoolFeatureAttr, EthtoolHeader, EthtoolMessage};
use std::collections::BTreeSet;
use tidegate_dataplane::types::IfIndex;

/// The kernel's name of the feature (`net/ethtool/common.c`); the command calls it
/// `rx-vlan-offload`.
const STRIPPING: &str = "rx-vlan-hw-parse";

/// Those interfaces. None where the kernel has no ethtool netlink.
///
/// # Errors
/// As [`dump::table`].
pub(super) async fn tag_stripping() -> Result<BTreeSet<IfIndex>, NetlinkError> {
    let request = EthtoolMessage::new_feature_get(None);
    let told = dump::ethtool("the interfaces' features", &request).await?;
    Ok(told.iter().filter_map(|message| stripping(&message.nlas)).collect())
}

/// The interface, if it does.
fn stripping(attributes: &[EthtoolAttr]) -> Option<IfIndex> {
    let (mut index, mut is_on) = (None, false);
    for attribute in attributes {
        match attribute {
            EthtoolAttr::Feature(EthtoolFeatureAttr::Header(header)) => {
                index = header.iter().find_map(|field| match field {
                    EthtoolHeader::DevIndex(index) => Some(IfIndex(*index)),
                    _ => None,
                });
            }
            EthtoolAttr::Feature(EthtoolFeatureAttr::Active(bits)) => {
                is_on = bits.iter().any(|bit| bit.name == STRIPPING && bit.value);
            }
            _ => {}
        }
    }
    index.filter(|_| is_on)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ethtool::EthtoolFeatureBit;

    #[test]
    fn an_interface_strips_tags_where_the_feature_is_active() {
        let header = EthtoolFeatureAttr::Header(vec![EthtoolHeader::DevIndex(7)]);
        let of = |name: &str, value| {
            let bit = EthtoolFeatureBit { index: 8, name: name.to_owned(), value };
            let active = EthtoolFeatureAttr::Active(vec![bit]);
            stripping(&[EthtoolAttr::Feature(header.clone()), EthtoolAttr::Feature(active)])
        };
        assert_eq!(of(STRIPPING, true), Some(IfIndex(7)));
        assert_eq!(of(STRIPPING, false), None);
        assert_eq!(of("rx-gro", true), None);
    }
}
