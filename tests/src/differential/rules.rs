//! What the kernel needs beside the node ports' rules: VIPs and external IPs, source ranges, and
//! pods, for whom policy Local is no matter. Shaped as kube-proxy's mode `nftables` has them.

use super::setup::{FAMILIES, FrontKind, SERVICES, Service};
use core::net::SocketAddr;
use tidegate_control::demo::rig::Node;
use tidegate_control::model::Family;
use tidegate_dataplane::types::Protocol;

/// The table that the node ports' rules are in.
const TABLE: &str = "tidegate-nat";

/// The script for `nft -f`.
pub(super) fn script() -> String {
    FAMILIES.map(script_of).concat()
}

/// One protocol of a Service, in one family.
struct Port {
    service: &'static Service,
    protocol: Protocol,
    family: Family,
}

fn script_of(family: Family) -> String {
    let (ip, address, pods) = words(family);
    let ports: Vec<Port> = SERVICES
        .iter()
        .filter(|service| service.is_served())
        .flat_map(|service| {
            [Protocol::Tcp, Protocol::Udp].map(|protocol| Port { service, protocol, family })
        })
        .collect();
    let chains: String = ports.iter().map(Port::chains).collect();
    let fronts = ports.iter().flat_map(Port::fronts).collect::<Vec<_>>().join(", ");
    let local = ports.iter().filter(|port| port.service.is_local);
    let dialled = |port: &Port| format!("{} : goto pods-{}", port.dialled(), port.name());
    let dialled = local.map(dialled).collect::<Vec<_>>().join(", ");
    // The last that is inserted is the first that is asked: VIPs and external IPs, then pods.
    format!(
        "table {ip} {TABLE} {{\n{chains}\
         map service-ips {{ type {address} . inet_proto . inet_service : verdict; \
         elements = {{ {fronts} }}; }}\n\
         map pod-ports {{ type inet_proto . inet_service : verdict; \
         elements = {{ {dialled} }}; }}\n}}\n\
         insert rule {ip} {TABLE} prerouting {ip} saddr {pods} fib daddr type local \
         meta l4proto . th dport vmap @pod-ports\n\
         insert rule {ip} {TABLE} prerouting {ip} daddr . meta l4proto . th dport \
         vmap @service-ips\n"
    )
}

/// How nftables calls the family, its addresses, and the network of this node's pods.
const fn words(family: Family) -> (&'static str, &'static str, &'static str) {
    match family {
        Family::V4 => ("ip", "ipv4_addr", Node::Gateway.pod_network()),
        Family::V6 => ("ip6", "ipv6_addr", Node::Gateway.pod_network_v6()),
    }
}

impl Port {
    const fn protocol(&self) -> &'static str {
        match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }

    /// What its chains' names end with, as those of the node ports do.
    fn name(&self) -> String {
        format!("{}-{}", self.protocol(), self.service.node_port)
    }

    fn dialled(&self) -> String {
        format!("{} . {}", self.protocol(), self.service.node_port)
    }

    /// The elements of its VIP and its external IP; node ports have rules of their own.
    fn fronts(&self) -> Vec<String> {
        let element = |(kind, front): (FrontKind, SocketAddr)| {
            let chain = match kind {
                FrontKind::NodePort => return None,
                FrontKind::ExternalIp => "outer",
                FrontKind::Vip => "guard",
            };
            let (address, protocol, port) = (front.ip(), self.protocol(), front.port());
            Some(format!("{address} . {protocol} . {port} : goto {chain}-{}", self.name()))
        };
        self.service.fronts(self.family, self.protocol).into_iter().filter_map(element).collect()
    }

    /// The guard before its VIP, the choice between pods and others, and what pods meet under
    /// policy Local.
    fn chains(&self) -> String {
        let ((ip, _, pods), name) = (words(self.family), self.name());
        let range = self.service.range(self.family);
        let drop = range.map(|range| format!("{ip} saddr != {range} drop; ")).unwrap_or_default();
        let guard = format!("chain guard-{name} {{ {drop}goto outer-{name}; }}\n");
        if !self.service.is_local {
            return format!("{guard}chain outer-{name} {{ goto svc-{name}; }}\n");
        }
        let by_pods = format!("{ip} saddr {pods} goto pods-{name}; ");
        let outer = format!("chain outer-{name} {{ {by_pods}goto svc-{name}; }}\n");
        guard + &outer + &self.pods_chains(ip)
    }

    /// Any endpoint, wherever it is, and the pod's own address, but for hairpin.
    fn pods_chains(&self, ip: &str) -> String {
        let (name, protocol) = (self.name(), self.protocol());
        let target = self.service.target_port(self.protocol);
        let (mut chains, mut choices) = (Vec::new(), Vec::new());
        for (index, endpoint) in self.service.all().enumerate() {
            let address = endpoint.address(self.family);
            let to = SocketAddr::new(address, target);
            chains.push(format!(
                "chain pods-{name}-{index} {{ {ip} saddr {address} meta mark set meta mark or \
                 0x4000; meta l4proto {protocol} dnat to {to}; }}\n"
            ));
            choices.push(format!("{index} : goto pods-{name}-{index}"));
        }
        let (count, choices) = (choices.len(), choices.join(", "));
        chains.concat()
            + &format!("chain pods-{name} {{ numgen random mod {count} vmap {{ {choices} }}; }}\n")
    }
}
