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
}

impl Place {
    pub(super) const ALL: [Self; 4] = [Self::Client, Self::Node2, Self::PodA, Self::PodB];
    /// Where backends are.
    pub(super) const INSIDE: [Self; 3] = [Self::Node2, Self::PodA, Self::PodB];

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

const EVERYWHERE: &[Endpoint] = &[POD_A, FAR_1, POD_B, FAR_2];
const FAR: &[Endpoint] = &[FAR_1, FAR_2, FAR_3];

/// A Service: a node port of the same number for TCP and for UDP.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) node_port: u16,
    /// externalTrafficPolicy Local.
    pub(super) is_local: bool,
    /// ClientIP affinity.
    pub(super) is_sticky: bool,
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
    Service { name, node_port, is_local, is_sticky, endpoints, target_port: 5000 }
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
];

/// The Services by whose flows [`super::arena`] knows that a place has heard everything: one for
/// each place of [`Place::INSIDE`], in that order.
pub(super) const FENCES: &[Service] = &[
    service("fence-far", 31_100, (false, false), &[FAR_3]),
    service("fence-a", 31_101, (false, false), &[POD_A]),
    service("fence-b", 31_102, (false, false), &[POD_B]),
];

impl Service {
    /// Those that new flows may get.
    pub(super) fn usable(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| !self.is_local || e.place != Place::Node2)
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

    /// Whether `backend` is one of this Service's, and at that place.
    pub(super) fn has(&self, place: Place, protocol: Protocol, backend: SocketAddr) -> bool {
        let port = self.target_port(protocol);
        let family = Family::of(backend.ip());
        let is_it = |e: &Endpoint| SocketAddr::new(e.address(family), port) == backend;
        self.usable().any(|e| e.place == place && is_it(e))
    }

    fn manifest(&self) -> String {
        let (name, port) = (self.name, self.node_port);
        let policy = if self.is_local { "Local" } else { "Cluster" };
        let affinity = if self.is_sticky { "ClientIP" } else { "None" };
        let service = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec:\n  \
             type: NodePort\n  ipFamilyPolicy: PreferDualStack\n  \
             externalTrafficPolicy: {policy}\n  sessionAffinity: {affinity}\n  ports:\n  \
             - {{name: tcp, protocol: TCP, port: 80, nodePort: {port}}}\n  \
             - {{name: udp, protocol: UDP, port: 81, nodePort: {port}}}\n---\n"
        );
        service + &FAMILIES.map(|family| self.slice(family)).join("---\n")
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
