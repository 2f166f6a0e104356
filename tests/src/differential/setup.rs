//! What both worlds serve: the Services, as manifests for one and as rules for the other.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tidegate_control::demo::rig::{NatRule, Node, Unserved, gateway_of};
use tidegate_control::model::Family;
use tidegate_dataplane::types::Protocol;

/// Where packets go in and come out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// All clients, on one link with the gateway.
    Client,
    /// The other node: every backend there is an address behind its link.
    Node2,
    /// The first local pod.
    PodA,
    /// The second local pod.
    PodB,
    /// The third: behind a narrow link.
    PodC,
}

/// What the narrow link takes, in bytes of IP.
pub(super) const NARROW_MTU: usize = 1300;

impl Place {
    pub(super) const ALL: [Self; 5] =
        [Self::Client, Self::Node2, Self::PodA, Self::PodB, Self::PodC];
    /// Where backends are.
    pub(super) const INSIDE: [Self; 4] = [Self::Node2, Self::PodA, Self::PodB, Self::PodC];

    /// A router beside a host: the host's address but for its last number.
    pub(super) const fn router(host: IpAddr) -> IpAddr {
        match host {
            IpAddr::V4(host) => {
                let [a, b, c, _] = host.octets();
                IpAddr::V4(Ipv4Addr::new(a, b, c, 250))
            }
            IpAddr::V6(host) => IpAddr::V6(Ipv6Addr::from_bits(host.to_bits() & !0xffff | 0xfa)),
        }
    }

    /// The address that packets to here are masqueraded with: the one of the gateway's interface.
    pub(super) fn masquerade(self, family: Family) -> IpAddr {
        match (self, family) {
            (Self::Client, _) => gateway_of(family),
            (Self::Node2, Family::V4) => Ipv4Addr::new(10, 0, 0, 1).into(),
            (Self::Node2, Family::V6) => Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1).into(),
            (_, Family::V4) => Node::Gateway.pod_gateway().into(),
            (_, Family::V6) => Node::Gateway.pod_gateway_v6().into(),
        }
    }
}

pub(super) const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// A backend: where it is, and the last number of its addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Endpoint {
    pub(super) place: Place,
    host: u8,
}

/// The rig gives its pods these addresses, in the order in which they are added.
pub(super) const POD_A: Endpoint = Endpoint { place: Place::PodA, host: 10 };
pub(super) const POD_B: Endpoint = Endpoint { place: Place::PodB, host: 11 };
pub(super) const POD_C: Endpoint = Endpoint { place: Place::PodC, host: 12 };
const FAR_1: Endpoint = Endpoint { place: Place::Node2, host: 101 };
const FAR_2: Endpoint = Endpoint { place: Place::Node2, host: 102 };
const FAR_3: Endpoint = Endpoint { place: Place::Node2, host: 103 };

impl Endpoint {
    /// In the pod network of its node.
    pub(super) fn address(self, family: Family) -> IpAddr {
        let network = if self.place == Place::Node2 { 2 } else { 1 };
        match family {
            Family::V4 => Ipv4Addr::new(10, 244, network, self.host).into(),
            Family::V6 => {
                let (network, host) = (network.into(), self.host.into());
                Ipv6Addr::new(0xfd00, 0x244, network, 0, 0, 0, 0, host).into()
            }
        }
    }
}

/// The pods that are clients too.
pub(super) const POD_CLIENTS: [Endpoint; 2] = [POD_A, POD_B];

const EVERYWHERE: &[Endpoint] = &[POD_A, FAR_1, POD_B, FAR_2];
const FAR: &[Endpoint] = &[FAR_1, FAR_2, FAR_3];

/// What kind of address a front has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrontKind {
    NodePort,
    /// Of a load balancer: source ranges guard it.
    Vip,
    ExternalIp,
}

/// A Service: a node port of the same number for TCP and for UDP. Where it has them, a VIP and an
/// external IP with port 80 for TCP and 81 for UDP.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) node_port: u16,
    /// externalTrafficPolicy Local.
    pub(super) is_local: bool,
    /// ClientIP affinity.
    pub(super) is_sticky: bool,
    /// The last number of its VIP and of its external IP.
    addresses: Option<u8>,
    /// `loadBalancerSourceRanges` lets in half of the clients.
    is_ranged: bool,
    endpoints: &'static [Endpoint],
    /// The endpoints' TCP port; the UDP port is the next one.
    target_port: u16,
}

const fn service(
    name: &'static str,
    node_port: u16,
    (is_local, is_sticky): (bool, bool),
    endpoints: &'static [Endpoint],
) -> Service {
    Service {
        name,
        node_port,
        is_local,
        is_sticky,
        addresses: None,
        is_ranged: false,
        endpoints,
        target_port: 5000,
    }
}

/// The Services that packets are made for.
pub(super) const SERVICES: &[Service] = &[
    service("cluster", 31_000, (false, false), EVERYWHERE),
    service("local", 31_001, (true, false), EVERYWHERE),
    service("sticky", 31_002, (false, true), EVERYWHERE),
    service("sticky-local", 31_003, (true, true), EVERYWHERE),
    service("far", 31_004, (false, false), FAR),
    service("nobody", 31_005, (false, false), &[]),
    service("nobody-local", 31_006, (true, false), &[]),
    service("elsewhere", 31_007, (true, false), FAR),
    service("balanced", 31_008, (false, false), EVERYWHERE).with_addresses(8, false),
    service("balanced-local", 31_009, (true, false), EVERYWHERE).with_addresses(9, false),
    service("balanced-sticky", 31_010, (false, true), EVERYWHERE).with_addresses(10, false),
    service("ranged", 31_011, (false, false), EVERYWHERE).with_addresses(11, true),
    service("ranged-local", 31_012, (true, false), EVERYWHERE).with_addresses(12, true),
    service("narrow", 31_013, (false, false), &[POD_C]),
    service("narrow-local", 31_014, (true, false), &[POD_C]),
];

/// The Services by whose flows [`super::arena`] knows that a place has heard everything: one for
/// each place of [`Place::INSIDE`], in that order.
pub(super) const FENCES: &[Service] = &[
    service("fence-far", 31_100, (false, false), &[FAR_3]),
    service("fence-a", 31_101, (false, false), &[POD_A]),
    service("fence-b", 31_102, (false, false), &[POD_B]),
    service("fence-c", 31_103, (false, false), &[POD_C]),
];

impl Service {
    const fn with_addresses(mut self, number: u8, is_ranged: bool) -> Self {
        (self.addresses, self.is_ranged) = (Some(number), is_ranged);
        self
    }

    /// All of its endpoints.
    pub(super) fn all(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter()
    }

    /// Whether its endpoints are behind the narrow link.
    pub(super) fn is_narrow(&self) -> bool {
        self.endpoints.iter().any(|endpoint| endpoint.place == Place::PodC)
    }

    /// What clients may dial.
    pub(super) fn fronts(
        &self,
        family: Family,
        protocol: Protocol,
    ) -> Vec<(FrontKind, SocketAddr)> {
        let node_port = SocketAddr::new(gateway_of(family), self.node_port);
        let mut fronts = vec![(FrontKind::NodePort, node_port)];
        let port = if protocol == Protocol::Tcp { 80 } else { 81 };
        for kind in [FrontKind::Vip, FrontKind::ExternalIp] {
            let address = self.addresses.map(|number| front_address(kind, family, number));
            fronts.extend(address.map(|address| (kind, SocketAddr::new(address, port))));
        }
        fronts
    }

    /// The network that its VIP lets in; `None`: everybody.
    pub(super) fn range(&self, family: Family) -> Option<&'static str> {
        let range = match family {
            Family::V4 => "192.0.2.16/28",
            Family::V6 => "2001:db8:1::10/124",
        };
        self.is_ranged.then_some(range)
    }

    /// Those that new flows of outside clients may get.
    pub(super) fn usable(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| !self.is_local || e.place != Place::Node2)
    }

    /// The endpoint that a backend's address is of, if new flows may get it: pods of this node get
    /// any (semantics E3).
    pub(super) fn backend(
        &self,
        place: Place,
        (protocol, is_pod): (Protocol, bool),
        backend: SocketAddr,
    ) -> Option<&Endpoint> {
        let port = self.target_port(protocol);
        let family = Family::of(backend.ip());
        let may_be = |e: &&Endpoint| is_pod || !self.is_local || e.place != Place::Node2;
        let is_it =
            |e: &&Endpoint| e.place == place && SocketAddr::new(e.address(family), port) == backend;
        self.endpoints.iter().filter(may_be).find(is_it)
    }

    /// Whether new flows get anywhere.
    pub(super) fn is_served(&self) -> bool {
        self.usable().next().is_some()
    }

    /// The endpoints' port.
    pub(super) const fn target_port(&self, protocol: Protocol) -> u16 {
        match protocol {
            Protocol::Tcp => self.target_port,
            Protocol::Udp => self.target_port + 1,
        }
    }

    /// Whether `backend` is one of this Service's for outside clients, and at that place.
    pub(super) fn has(&self, place: Place, protocol: Protocol, backend: SocketAddr) -> bool {
        self.backend(place, (protocol, false), backend).is_some()
    }

    fn manifest(&self) -> String {
        let (name, port) = (self.name, self.node_port);
        let policy = if self.is_local { "Local" } else { "Cluster" };
        let affinity = if self.is_sticky { "ClientIP" } else { "None" };
        let (kind, addresses, status) = self.addresses.map_or_else(
            || ("NodePort", String::new(), String::new()),
            |number| self.balancer(number),
        );
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
             type: {kind}\n  ipFamilyPolicy: PreferDualStack\n{addresses}  \
             externalTrafficPolicy: {policy}\n  sessionAffinity: {affinity}\n  ports:\n  \
             - {{name: tcp, protocol: TCP, port: 80, nodePort: {port}}}\n  \
             - {{name: udp, protocol: UDP, port: 81, nodePort: {port}}}\n{status}---\n"
        );
        service + &FAMILIES.map(|family| self.slice(family)).join("---\n")
    }

    /// Type, what the spec says of addresses, and the status.
    fn balancer(&self, number: u8) -> (&'static str, String, String) {
        let of = |kind| FAMILIES.map(|family| front_address(kind, family, number));
        let [external, external_v6] = of(FrontKind::ExternalIp);
        let [vip, vip_v6] = of(FrontKind::Vip);
        let ranges: Vec<_> = FAMILIES.into_iter().filter_map(|family| self.range(family)).collect();
        let ranges = format!("{ranges:?}");
        let addresses = format!(
            "  externalIPs: [{external}, \"{external_v6}\"]\n  \
             loadBalancerSourceRanges: {ranges}\n"
        );
        let ingress = format!("[{{ip: {vip}}}, {{ip: \"{vip_v6}\"}}]");
        let status = format!("status: {{loadBalancer: {{ingress: {ingress}}}}}\n");
        ("LoadBalancer", addresses, status)
    }

    fn slice(&self, family: Family) -> String {
        let (service, target) = (self.name, self.target_port);
        let (name, kind) = match family {
            Family::V4 => (format!("{service}-4"), "IPv4"),
            Family::V6 => (format!("{service}-6"), "IPv6"),
        };
        let endpoint = |endpoint: &Endpoint| {
            let node = if endpoint.place == Place::Node2 { Node::Node2 } else { Node::Gateway };
            let (address, node) = (endpoint.address(family), node.name());
            format!("{{addresses: [\"{address}\"], nodeName: {node}}}")
        };
        let endpoints: Vec<_> = self.endpoints.iter().map(endpoint).collect();
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}}\n\
             addressType: {kind}\nports:\n- {{name: tcp, protocol: TCP, port: {target}}}\n\
             - {{name: udp, protocol: UDP, port: {}}}\nendpoints: [{}]\n",
            target + 1,
            endpoints.join(", "),
        )
    }

    fn rule(&self, protocol: Protocol) -> NatRule {
        let port = self.target_port(protocol);
        NatRule {
            protocol,
            node_port: self.node_port,
            is_masqueraded: !self.is_local,
            backends: FAMILIES
                .into_iter()
                .flat_map(|family| {
                    self.usable().map(move |e| SocketAddr::new(e.address(family), port))
                })
                .collect(),
            unserved: if self.endpoints.is_empty() { Unserved::Reject } else { Unserved::Drop },
            is_sticky: self.is_sticky,
        }
    }
}

fn front_address(kind: FrontKind, family: Family, number: u8) -> IpAddr {
    let (v4, v6) = match kind {
        FrontKind::NodePort => return gateway_of(family),
        FrontKind::Vip => ([203, 0, 113], 0xcb),
        FrontKind::ExternalIp => ([198, 51, 100], 0xec),
    };
    match family {
        Family::V4 => Ipv4Addr::new(v4[0], v4[1], v4[2], number).into(),
        Family::V6 => Ipv6Addr::new(0x2001, 0xdb8, v6, 0, 0, 0, 0, number.into()).into(),
    }
}

/// The networks of VIPs and external IPs. No host has them, and routers are no matter here.
pub(super) const FRONT_NETWORKS: [&str; 4] =
    ["203.0.113.0/24", "198.51.100.0/24", "2001:db8:cb::/48", "2001:db8:ec::/48"];

/// The gateway's node: its addresses, and which pods are its own.
pub(super) fn node_manifest() -> String {
    let [v4, v6] = FAMILIES.map(gateway_of);
    let (pods, pods_v6) = (Node::Gateway.pod_network(), Node::Gateway.pod_network_v6());
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: gateway}}\n\
         spec: {{podCIDRs: [{pods}, \"{pods_v6}\"]}}\nstatus:\n  addresses:\n  \
         - {{type: InternalIP, address: {v4}}}\n  - {{type: InternalIP, address: \"{v6}\"}}\n"
    )
}

fn all() -> impl Iterator<Item = &'static Service> {
    SERVICES.iter().chain(FENCES)
}

/// For tidegate.
pub(super) fn manifests() -> String {
    all().map(Service::manifest).collect::<Vec<_>>().join("---\n")
}

/// For the kernel.
pub(super) fn rules() -> Vec<NatRule> {
    let both = [Protocol::Tcp, Protocol::Udp];
    all().flat_map(|service| both.map(|protocol| service.rule(protocol))).collect()
}
