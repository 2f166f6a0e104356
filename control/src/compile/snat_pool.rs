//! The addresses to masquerade with that the operator named (T5).

use crate::config::LoadBalancer;
use crate::model::Family;
use crate::netlink::NetworkState;
use std::net::IpAddr;
use tidegate_dataplane::snapshot::SnatPool;

/// Those of the named addresses that this node has now: answers to others would not come here.
pub(super) fn pool(network: &NetworkState, config: &LoadBalancer) -> SnatPool {
    SnatPool::new(own(network, config).map(Into::into))
}

/// What became of the others.
pub(super) fn warnings(network: &NetworkState, config: &LoadBalancer) -> Vec<String> {
    let foreign = config.snat_addresses.iter().filter(|address| !network.is_own(**address));
    let warning = |address: &IpAddr| {
        let family = Family::of(*address);
        let has_others = own(network, config).any(|own| Family::of(own) == family);
        let instead = if has_others { "the others are" } else { "the outgoing interface's is" };
        format!(
            "loadBalancer.snatAddresses: {address} is not an address of this node: {instead} used; \
             ip addr add {address}, or leave it out"
        )
    };
    foreign.map(warning).collect()
}

fn own(network: &NetworkState, config: &LoadBalancer) -> impl Iterator<Item = IpAddr> {
    config.snat_addresses.iter().copied().filter(|address| network.is_own(*address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::InterfaceAddress;
    use std::sync::Arc;
    use tidegate_dataplane::snapshot::NextHop;
    use tidegate_dataplane::types::IfIndex;

    fn network(own: &[&str]) -> NetworkState {
        let address = |text: &&str| InterfaceAddress {
            interface: IfIndex(1),
            address: text.parse().unwrap(),
            prefix_length: 24,
            is_global: true,
            is_preferred: true,
        };
        let addresses = Arc::new(own.iter().map(address).collect());
        NetworkState { addresses, ..NetworkState::default() }
    }

    fn named(addresses: &[&str]) -> LoadBalancer {
        let snat_addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        LoadBalancer { snat_addresses, ..LoadBalancer::default() }
    }

    /// What a flow over a next hop with an IPv4 address of its own is masqueraded with.
    fn used(network: &NetworkState, config: &LoadBalancer, is_v4: bool) -> Vec<String> {
        let own: IpAddr = "10.0.0.1".parse().unwrap();
        let hop = NextHop { snat_address: Some(own.into()), ..NextHop::default() };
        let pool = pool(network, config);
        pool.towards(&hop, is_v4).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn named_addresses_are_used_where_the_node_has_them_each_family_for_itself() {
        let network = network(&["10.0.0.1", "10.0.0.8", "fd00::8"]);
        let config = named(&["10.0.0.8", "10.0.0.9", "fd00::8"]);
        assert_eq!(used(&network, &config, true), ["10.0.0.8"]);
        assert_eq!(used(&network, &config, false), ["fd00::8"]);
        let [warning] = &warnings(&network, &config)[..] else { panic!("one is foreign") };
        assert!(warning.contains("10.0.0.9") && warning.contains("the others are used"));
    }

    #[test]
    fn without_any_the_outgoing_interfaces_address_is_used_and_that_is_told() {
        let network = network(&["10.0.0.1"]);
        assert_eq!(used(&network, &named(&[]), true), ["10.0.0.1"]);
        assert_eq!(used(&network, &named(&[]), false), [""; 0]);
        assert_eq!(warnings(&network, &named(&[])), [""; 0]);
        let foreign = named(&["10.0.0.9"]);
        assert_eq!(used(&network, &foreign, true), ["10.0.0.1"]);
        assert!(warnings(&network, &foreign)[0].contains("the outgoing interface's is used"));
    }
}
