//! Which of the node's addresses serve node ports (semantics I1-I4).

use ipnet::IpNet;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// One entry of `nodePortAddresses`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub enum NodePortAddress {
    /// The node's first IPv4 and first IPv6 address.
    Primary,
    /// Every address of the node but loopback and link-local ones.
    All,
    /// The node's addresses inside this network.
    Network(IpNet),
}

impl TryFrom<String> for NodePortAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.as_str() {
            "primary" => Ok(Self::Primary),
            "all" => Ok(Self::All),
            "localhost" => Err("`localhost` cannot be served: loopback traffic never passes an \
                                XDP hook; leave it to kube-proxy"
                .to_owned()),
            network => network.parse().map(Self::Network).map_err(|_e| {
                format!("`{network}` is neither primary, all nor a network such as 10.0.0.0/8")
            }),
        }
    }
}

impl From<NodePortAddress> for String {
    fn from(value: NodePortAddress) -> Self {
        match value {
            NodePortAddress::Primary => "primary".to_owned(),
            NodePortAddress::All => "all".to_owned(),
            NodePortAddress::Network(network) => network.to_string(),
        }
    }
}

/// Whether networks alone decide about `address` and let it in: a family that no network names is
/// unrestricted (semantics I4).
pub(crate) fn networks_allow(entries: &[NodePortAddress], address: IpAddr) -> bool {
    let mut of_family = entries.iter().filter_map(|entry| match entry {
        NodePortAddress::Network(net) if net.addr().is_ipv4() == address.is_ipv4() => Some(net),
        _ => None,
    });
    let Some(first) = of_family.next() else {
        return entries.iter().all(|e| matches!(e, NodePortAddress::Network(_)));
    };
    first.contains(&address) || of_family.any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_without_networks_is_unrestricted_only_if_nothing_else_is_said() {
        let net = NodePortAddress::Network("10.0.0.0/8".parse().unwrap());
        let (inside, outside, v6) = ("10.1.1.1", "192.0.2.1", "2001:db8::1");
        let allow = |list: &[_], a: &str| networks_allow(list, a.parse().unwrap());
        assert!(allow(&[net], inside));
        assert!(!allow(&[net], outside));
        assert!(allow(&[net], v6));
        assert!(!allow(&[net, NodePortAddress::Primary], v6));
    }
}
