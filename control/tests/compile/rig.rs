//! A gateway without kernel, and manifests for it.

use crate::{dump, twin};
use ipnet::IpNet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use tidegate_control::compile::{Attached, Compiled, Compiler, Reports, ServiceReport};
use tidegate_control::config::{Config, InterfaceConfig, Role};
use tidegate_control::model::{ClusterState, Store};
use tidegate_control::netlink::{
    InterfaceAddress, Link, Neighbour, NeighbourState, NetworkState, Route, RouteKind,
};
use tidegate_control::source::load_once;
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, MacAddress, ServiceId};

/// A gateway `gw`: clients behind eth0 (10.0.0.1/24), nodes behind eth1 (192.168.1.1/24) that
/// route 10.244.1.0/24, and two own pods behind veth-a and veth-b. The same in IPv6 ([`twin`]).
pub(crate) struct Rig {
    store: Store,
    compiler: Compiler,
    pub(crate) network: NetworkState,
    pub(crate) attached: Attached,
    pub(crate) config: Config,
}

/// What a compilation gave, and the reports after it.
pub(crate) struct Compilation {
    pub(crate) compiled: Compiled,
    pub(crate) report: Vec<ServiceReport>,
}

impl Deref for Compilation {
    type Target = Compiled;

    fn deref(&self) -> &Compiled {
        &self.compiled
    }
}

pub(crate) const ETH0: IfIndex = IfIndex(2);
pub(crate) const ETH1: IfIndex = IfIndex(3);
pub(crate) const VETH_A: IfIndex = IfIndex(4);
pub(crate) const VETH_B: IfIndex = IfIndex(5);
pub(crate) const CNI0: IfIndex = IfIndex(6);

impl Rig {
    pub(crate) fn new() -> Self {
        let mut rig = Self {
            store: Store::new("gw"),
            compiler: Compiler::default(),
            network: NetworkState::default(),
            attached: Attached::new(),
            config: Config::default(),
        };
        rig.config.interfaces = vec![
            InterfaceConfig { role: Role::Client, ..InterfaceConfig::named("eth0") },
            InterfaceConfig::named("eth1"),
            InterfaceConfig { role: Role::Backend, ..InterfaceConfig::named("veth*") },
        ];
        for (index, name) in
            [(ETH0, "eth0"), (ETH1, "eth1"), (VETH_A, "veth-a"), (VETH_B, "veth-b")]
        {
            rig.add_link(index, name);
        }
        rig.add_address(ETH1, "192.168.1.1");
        rig.add_address(ETH0, "10.0.0.1");
        rig.add_route("10.0.0.0/24", ETH0, None);
        rig.add_route("192.168.1.0/24", ETH1, None);
        rig.add_route("10.244.1.0/24", ETH1, Some("192.168.1.2"));
        rig.add_route("10.244.0.5/32", VETH_A, None);
        rig.add_route("10.244.0.6/32", VETH_B, None);
        for (index, address) in
            [(ETH1, "192.168.1.2"), (VETH_A, "10.244.0.5"), (VETH_B, "10.244.0.6")]
        {
            rig.set_neighbour(index, address, NeighbourState::Known(mac(index)));
        }
        rig.add_ipv6();
        rig
    }

    /// The twin of each address and route; the way to the other nodes' pods is by a link-local
    /// gateway.
    fn add_ipv6(&mut self) {
        for (interface, address) in [(ETH1, "192.168.1.1"), (ETH0, "10.0.0.1")] {
            self.add_own(InterfaceAddress {
                is_global: false,
                ..own(interface, &format!("fe80::{}", interface.0))
            });
            self.add_address(interface, &twin::of(address));
        }
        for (net, interface) in [("10.0.0.0/24", ETH0), ("192.168.1.0/24", ETH1)] {
            self.add_route(&twin::of(net), interface, None);
        }
        self.add_route(&twin::of("10.244.1.0/24"), ETH1, Some("fe80::9"));
        self.set_neighbour(ETH1, "fe80::9", NeighbourState::Known(mac(ETH1)));
        for (interface, address) in [(VETH_A, "10.244.0.5"), (VETH_B, "10.244.0.6")] {
            let address = twin::of(address);
            self.add_route(&format!("{address}/128"), interface, None);
            self.set_neighbour(interface, &address, NeighbourState::Known(mac(interface)));
        }
    }

    /// Entries of a service port's Maglev tables that got another backend so far.
    pub(crate) fn moved_slots(&self, id: ServiceId) -> u64 {
        self.compiler.reports().moved_slots(id)
    }

    /// All interfaces that could be wanted, attached.
    pub(crate) fn attached() -> Self {
        let mut rig = Self::new();
        let interfaces = [ETH0, ETH1, VETH_A, VETH_B];
        let slots = (1..).map(InterfaceSlot);
        rig.attached = slots.zip(interfaces).collect();
        rig
    }

    /// Sets `nodePortAddresses`, as a configuration file has them.
    pub(crate) fn serve_node_ports_at(&mut self, list: &str) {
        let head = "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n";
        let text = format!("{head}nodePortAddresses: [{list}]\n");
        let parsed = Config::from_text(&text, Path::new("x")).unwrap();
        self.config.node_port_addresses = parsed.node_port_addresses;
    }

    pub(crate) fn add_link(&mut self, index: IfIndex, name: &str) {
        let link = Link {
            mac: MacAddress([2, 0, 0, 0, 0, u8::try_from(index.0).unwrap()]),
            kind: match name.get(..3) {
                Some("vet") => "veth".into(),
                Some("cni") => "bridge".into(),
                _ => "".into(),
            },
            rx_queue_count: 2,
            ..Link::ethernet(index, name)
        };
        Arc::make_mut(&mut self.network.links).insert(index, link);
    }

    pub(crate) fn remove_routes(&mut self) {
        self.network.routes = Arc::default();
    }

    pub(crate) fn forget_ports(&mut self) {
        self.network.bridge_ports = Arc::default();
    }

    /// Makes a link a port of a bridge.
    pub(crate) fn enslave(&mut self, port: IfIndex, bridge: IfIndex) {
        let links = Arc::make_mut(&mut self.network.links);
        links.get_mut(&port).unwrap().master = Some(bridge);
    }

    /// What a bridge has learnt: behind which port a link address is.
    pub(crate) fn teach(&mut self, bridge: IfIndex, mac: MacAddress, port: IfIndex) {
        Arc::make_mut(&mut self.network.bridge_ports).insert((bridge, mac), port);
    }

    /// The link with this name, to change it.
    pub(crate) fn link_mut(&mut self, name: &str) -> &mut Link {
        let links = Arc::make_mut(&mut self.network.links);
        links.values_mut().find(|link| &*link.name == name).unwrap()
    }

    pub(crate) fn set_up(&mut self, index: IfIndex, is_up: bool) {
        let link = Arc::make_mut(&mut self.network.links).get_mut(&index).unwrap();
        (link.is_admin_up, link.is_up) = (is_up, is_up);
    }

    pub(crate) fn add_address(&mut self, interface: IfIndex, address: &str) {
        self.add_own(own(interface, address));
    }

    pub(crate) fn add_own(&mut self, own: InterfaceAddress) {
        Arc::make_mut(&mut self.network.addresses).push(own);
    }

    pub(crate) fn add_route(&mut self, net: &str, interface: IfIndex, gateway: Option<&str>) {
        let gateway = gateway.map(|address| address.parse().unwrap());
        let kind = RouteKind::Via { interface, gateway, source: None, mtu_bytes: None };
        let routes = Arc::make_mut(&mut self.network.routes);
        let list = match net.parse().unwrap() {
            IpNet::V4(net) => routes.v4.entry(net).or_default(),
            IpNet::V6(net) => routes.v6.entry(net).or_default(),
        };
        list.push(Route { metric: 0, kind });
    }

    pub(crate) fn clear_addresses(&mut self) {
        Arc::make_mut(&mut self.network.addresses).clear();
    }

    /// Gives every IPv6 route an MTU of its own.
    pub(crate) fn limit_routes(&mut self, mtu: u32) {
        let routes = &mut Arc::make_mut(&mut self.network.routes).v6;
        for route in routes.values_mut().flatten() {
            if let RouteKind::Via { mtu_bytes, .. } = &mut route.kind {
                *mtu_bytes = Some(mtu);
            }
        }
    }

    pub(crate) fn set_neighbour(
        &mut self,
        interface: IfIndex,
        address: &str,
        state: NeighbourState,
    ) {
        let address: IpAddr = address.parse().unwrap();
        let neighbour = Neighbour { state, is_managed: true };
        Arc::make_mut(&mut self.network.neighbours).insert((interface, address), neighbour);
    }

    pub(crate) fn forget_neighbour(&mut self, interface: IfIndex, address: &str) {
        let key = (interface, address.parse().unwrap());
        Arc::make_mut(&mut self.network.neighbours).remove(&key);
    }

    pub(crate) fn compile(&mut self, manifest: &str) -> Compilation {
        self.store.replace(&state(manifest));
        let Self { store, compiler, network, attached, config } = self;
        let compiled = compiler.compile(store, network, attached, config);
        Compilation { compiled, report: self.compiler.reports().iter().cloned().collect() }
    }

    pub(crate) fn reports(&self) -> &Reports {
        self.compiler.reports()
    }

    pub(crate) fn dump(&mut self, manifest: &str) -> String {
        dump::fronts(&self.compile(manifest))
    }
}

fn own(interface: IfIndex, address: &str) -> InterfaceAddress {
    let address: IpAddr = address.parse().unwrap();
    let prefix_length = if address.is_ipv4() { 24 } else { 64 };
    InterfaceAddress { interface, address, prefix_length, is_global: true, is_preferred: true }
}

pub(crate) fn mac(interface: IfIndex) -> MacAddress {
    MacAddress([6, 0, 0, 0, 0, u8::try_from(interface.0).unwrap()])
}

pub(crate) fn state(manifest: &str) -> ClusterState {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.yaml");
    std::fs::write(&file, manifest).unwrap();
    load_once(&[file]).unwrap()
}

pub(crate) fn textbook(policy: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/frontend-svc.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("externalTrafficPolicy: Local"));
    text.replace("externalTrafficPolicy: Local", &format!("externalTrafficPolicy: {policy}"))
}

/// A NodePort Service `web` without selector.
pub(crate) fn web(extra: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{type: NodePort, \
         ports: [{{port: 80, nodePort: 30080}}]{extra}}}\n"
    )
}

/// A LoadBalancer Service with node port 30081 and these ingress points.
pub(crate) fn vip(name: &str, ingress: &str, extra: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {{type: \
         LoadBalancer, ports: [{{port: 80, nodePort: 30081}}]{extra}}}\nstatus: {{loadBalancer: \
         {{ingress: {ingress}}}}}\n"
    )
}

/// The gateway's Node, with its pods' network, in this zone.
pub(crate) fn node(zone: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: gw, labels: \
         {{topology.kubernetes.io/zone: {zone}}}}}\nspec: {{podCIDRs: [10.244.0.0/24]}}\n"
    )
}

/// A slice of `web`, of the first address's family; each endpoint is `address node condition`.
pub(crate) fn slice(name: &str, endpoints: &[&str]) -> String {
    let is_v6 = endpoints.first().is_some_and(|endpoint| endpoint.contains(':'));
    let family = if is_v6 { "IPv6" } else { "IPv4" };
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, \
         labels: {{kubernetes.io/service-name: web}}}}\naddressType: {family}\nports: [{{name: \
         \"\", \
         port: 8080}}]\nendpoints:\n"
    );
    for endpoint in endpoints {
        let words: Vec<_> = endpoint.split(' ').collect();
        let [address, node, condition] = words[..] else { panic!("{endpoint}") };
        let conditions = match condition {
            "ready" => "ready: true",
            "draining" => "ready: false, serving: true, terminating: true",
            "dead" => "ready: false, serving: false, terminating: true",
            _ => "ready: false",
        };
        writeln!(
            text,
            "- {{addresses: [{address}], nodeName: {node}, conditions: {{{conditions}}}}}"
        )
        .unwrap();
    }
    text
}
