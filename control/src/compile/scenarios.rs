//! Manifests in, fronts and what a new flow meets out.

use super::*;
use crate::config::{Config, InterfaceConfig, Role};
use crate::model::ClusterState;
use crate::netlink::{
    InterfaceAddress, Link, Neighbour, NeighbourState, NetworkState, Route, RouteKind,
};
use crate::source::load_once;
use std::fmt::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use tidegate_dataplane::snapshot::{NextHopState, Picker, Selection};
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, MacAddress};

/// A gateway `gw`: clients behind eth0 (10.0.0.1/24), nodes behind eth1 (192.168.1.1/24) that
/// route 10.244.1.0/24, and two own pods behind veth-a and veth-b.
struct Rig {
    compiler: Compiler,
    network: NetworkState,
    attached: Attached,
    config: Config,
}

const ETH0: IfIndex = IfIndex(2);
const ETH1: IfIndex = IfIndex(3);
const VETH_A: IfIndex = IfIndex(4);
const VETH_B: IfIndex = IfIndex(5);

impl Rig {
    fn new() -> Self {
        let mut rig = Self {
            compiler: Compiler::new("gw"),
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
        rig
    }

    /// All interfaces that could be wanted, attached.
    fn attached() -> Self {
        let mut rig = Self::new();
        let interfaces = [ETH0, ETH1, VETH_A, VETH_B];
        let slots = (1..).map(InterfaceSlot);
        rig.attached = slots.zip(interfaces).collect();
        rig
    }

    fn add_link(&mut self, index: IfIndex, name: &str) {
        let link = Link {
            index,
            name: name.into(),
            mac: MacAddress([2, 0, 0, 0, 0, u8::try_from(index.0).unwrap()]),
            mtu_bytes: 1500,
            is_admin_up: true,
            is_up: true,
            is_ethernet: true,
            is_loopback: false,
            kind: if name.starts_with("veth") { "veth".into() } else { "".into() },
            master: None,
            rx_queue_count: 2,
            peer: None,
        };
        Arc::make_mut(&mut self.network.links).insert(index, link);
    }

    fn add_address(&mut self, interface: IfIndex, address: &str) {
        let address = address.parse().unwrap();
        let own = InterfaceAddress { interface, address, prefix_length: 24, is_global: true };
        Arc::make_mut(&mut self.network.addresses).push(own);
    }

    fn add_route(&mut self, net: &str, interface: IfIndex, gateway: Option<&str>) {
        let gateway = gateway.map(|address| address.parse().unwrap());
        let kind = RouteKind::Via { interface, gateway, source: None };
        let routes = Arc::make_mut(&mut self.network.routes);
        routes.v4.entry(net.parse().unwrap()).or_default().push(Route { metric: 0, kind });
    }

    fn set_neighbour(&mut self, interface: IfIndex, address: &str, state: NeighbourState) {
        let address: IpAddr = address.parse().unwrap();
        let neighbour = Neighbour { state, is_managed: true };
        Arc::make_mut(&mut self.network.neighbours).insert((interface, address), neighbour);
    }

    fn forget_neighbour(&mut self, interface: IfIndex, address: &str) {
        let key = (interface, address.parse().unwrap());
        Arc::make_mut(&mut self.network.neighbours).remove(&key);
    }

    fn compile(&mut self, manifest: &str) -> Compiled {
        self.compiler.compile(&state(manifest), &self.network, &self.attached, &self.config)
    }

    fn dump(&mut self, manifest: &str) -> String {
        self.compile(manifest).dump()
    }
}

fn mac(interface: IfIndex) -> MacAddress {
    MacAddress([6, 0, 0, 0, 0, u8::try_from(interface.0).unwrap()])
}

fn state(manifest: &str) -> ClusterState {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.yaml");
    std::fs::write(&file, manifest).unwrap();
    load_once(&[file]).unwrap()
}

fn textbook(policy: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/frontend-svc.yaml");
    let text = std::fs::read_to_string(file).unwrap();
    assert!(text.contains("externalTrafficPolicy: Local"));
    text.replace("externalTrafficPolicy: Local", &format!("externalTrafficPolicy: {policy}"))
}

/// A NodePort Service `web` without selector.
fn web(extra: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: {{type: NodePort, \
         ports: [{{port: 80, nodePort: 30080}}]{extra}}}\n"
    )
}

/// A slice of `web`; each endpoint is `address node condition`.
fn slice(name: &str, endpoints: &[&str]) -> String {
    let mut text = format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, \
         labels: {{kubernetes.io/service-name: web}}}}\naddressType: IPv4\nports: [{{name: \"\", \
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

#[test]
fn the_textbook_manifest_is_served_as_it_is() {
    let mut rig = Rig::attached();
    let cluster = rig.compile(&textbook("Cluster"));
    assert_eq!(
        cluster.dump(),
        "10.0.0.1:30080/TCP NodePort default/frontend-svc: \
         snat 10.244.0.5:5000 10.244.0.6:5000 10.244.1.7:5000\n"
    );
    assert_eq!(cluster.reasons(), "frontend-svc: 10.244.1.8:5000 not ready\n");
    let report = &cluster.report[0];
    assert_eq!((report.ready_count, report.draining_count), (3, 0));
    assert_eq!(report.backends[0].pod.as_deref(), Some("frontend-0"));
    let local = rig.compile(&textbook("Local"));
    assert_eq!(
        local.dump(),
        "10.0.0.1:30080/TCP NodePort default/frontend-svc: dnat 10.244.0.5:5000 10.244.0.6:5000\n"
    );
    assert!(local.reasons().contains("10.244.1.7:5000 on another node"), "{}", local.reasons());
}

#[test]
fn an_empty_set_is_rejected_and_a_set_elsewhere_is_dropped() {
    let mut rig = Rig::attached();
    let local = ", externalTrafficPolicy: Local";
    let front = "10.0.0.1:30080/TCP NodePort default/web:";
    for (extra, endpoints, expected) in [
        ("", &[][..], "reject NO_ENDPOINTS"),
        (local, &[], "reject NO_ENDPOINTS"),
        ("", &["10.244.1.7 n1 unready"], "reject NO_ENDPOINTS"),
        ("", &["10.244.1.7 n1 dead"], "reject NO_ENDPOINTS"),
        (local, &["10.244.1.7 n1 ready"], "drop NO_LOCAL_ENDPOINTS"),
        (local, &["10.244.1.7 n1 draining"], "drop NO_LOCAL_ENDPOINTS"),
        ("", &["10.244.1.7 n1 draining"], "snat 10.244.1.7:8080"),
        ("", &["10.244.1.7 n1 draining", "10.244.0.5 gw ready"], "snat 10.244.0.5:8080"),
        (local, &["10.244.1.7 n1 ready", "10.244.0.5 gw draining"], "dnat 10.244.0.5:8080"),
    ] {
        let text = web(extra) + &slice("web-1", endpoints);
        assert_eq!(rig.dump(&text), format!("{front} {expected}\n"), "{text}");
    }
}

#[test]
fn slices_are_joined_and_doubles_count_once() {
    let text = web(", externalTrafficPolicy: Local")
        + &slice("web-1", &["10.244.0.5 n1 unready", "10.244.0.6 gw ready"])
        + &slice("web-2", &["10.244.0.5 gw ready"]);
    assert_eq!(
        Rig::attached().dump(&text),
        "10.0.0.1:30080/TCP NodePort default/web: dnat 10.244.0.5:8080 10.244.0.6:8080\n"
    );
}

#[test]
fn slices_win_over_the_selectors_pods() {
    let text = textbook("Cluster")
        + &slice("x", &["10.244.1.9 n1 ready"])
            .replace("service-name: web", "service-name: frontend-svc");
    let dump = Rig::attached().dump(&text);
    assert!(dump.ends_with("snat 10.244.1.9:8080\n"), "{dump}");
}

#[test]
fn a_named_target_port_is_each_pods_own() {
    let pod = |name: &str, address: &str, port: u16| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: x}}}}\nspec: \
             {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: {port}}}]}}]}}\n\
             status: {{podIP: {address}}}\n"
        )
    };
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {type: NodePort, \
                   selector: {app: x}, ports: [{port: 80, targetPort: http, nodePort: 30001}]}\n";
    let text = service.to_owned()
        + &pod("a", "10.244.0.5", 8080)
        + &pod("b", "10.244.0.6", 9090)
        + &pod("c", "10.244.1.7", 1).replace("name: http", "name: other");
    assert_eq!(
        Rig::attached().dump(&text),
        "10.0.0.1:30001/TCP NodePort default/x: snat 10.244.0.5:8080 10.244.0.6:9090\n"
    );
}

#[test]
fn a_terminating_pod_drains_and_a_finished_one_is_gone() {
    let text = textbook("Cluster");
    let deleted = text.replace(
        "name: frontend-0\n",
        "name: frontend-0\n    deletionTimestamp: \"2026-01-01T00:00:00Z\"\n",
    );
    let compiled = Rig::attached().compile(&deleted);
    assert!(!compiled.dump().contains("10.244.0.5"), "{}", compiled.dump());
    assert_eq!(compiled.report[0].draining_count, 1);
    let service = compiled.snapshot.services.values().next().unwrap();
    assert_eq!(service.serving.len(), 3, "a draining pod still serves its UDP flows");
    let finished = text.replace("phase: Running", "phase: Succeeded");
    assert!(Rig::attached().compile(&finished).report[0].backends.is_empty());
}

#[test]
fn a_host_network_backend_leaves_the_front_to_the_kernel() {
    let text = web("") + &slice("web-1", &["10.0.0.1 gw ready", "10.244.1.7 n1 ready"]);
    let compiled = Rig::attached().compile(&text);
    assert!(compiled.dump().ends_with("pass LOCAL_BACKEND\n"), "{}", compiled.dump());
    let reasons = compiled.reasons();
    assert!(reasons.contains("10.0.0.1:8080 an address of this node"), "{reasons}");
    assert!(reasons.contains("10.244.1.7:8080 another endpoint is"), "{reasons}");
}

#[test]
fn vips_and_external_addresses_are_fronts_and_the_first_service_keeps_a_shared_one() {
    let text = web(", externalIPs: [198.51.100.9]")
        + "---\napiVersion: v1\nkind: Service\nmetadata: {name: zoo}\nspec: {type: LoadBalancer, \
           externalIPs: [198.51.100.9], ports: [{port: 80, nodePort: 30081}]}\nstatus: \
           {loadBalancer: {ingress: [{ip: 198.51.100.1}, {ip: 198.51.100.2, ipMode: Proxy}]}}\n";
    let compiled = Rig::attached().compile(&text);
    assert_eq!(
        compiled.dump(),
        "10.0.0.1:30080/TCP NodePort default/web: reject NO_ENDPOINTS\n\
         10.0.0.1:30081/TCP NodePort default/zoo: reject NO_ENDPOINTS\n\
         198.51.100.1:80/TCP LoadBalancer default/zoo: reject NO_ENDPOINTS\n\
         198.51.100.9:80/TCP ExternalIp default/web: reject NO_ENDPOINTS\n"
    );
    assert_eq!(compiled.report[1].warnings, ["198.51.100.9:80/TCP belongs to another Service"]);
}

#[test]
fn labelled_headless_and_cluster_ip_services_have_no_front() {
    let label = "name: web, labels: {service.kubernetes.io/service-proxy-name: x}";
    for text in [
        web("").replace("name: web", label),
        web("").replace("type: NodePort", "type: NodePort, clusterIP: None"),
        web("").replace("type: NodePort", "type: ExternalName"),
        web("").replace("type: NodePort", "type: ClusterIP").replace(", nodePort: 30080", ""),
    ] {
        assert_eq!(Rig::attached().dump(&text), "", "{text}");
    }
}

#[test]
fn node_port_addresses_choose_the_fronts() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: gw}\nstatus: {addresses: [{type: \
                ExternalIP, address: 203.0.113.1}, {type: InternalIP, address: 192.168.1.1}]}\n";
    let addresses = |list: &str, node: &str| {
        let mut rig = Rig::attached();
        let head = "apiVersion: tidegate.dev/v1alpha1\nkind: LoadBalancerConfiguration\n";
        let text = format!("{head}nodePortAddresses: [{list}]\n");
        let parsed = Config::from_text(&text, Path::new("x")).unwrap();
        rig.config.node_port_addresses = parsed.node_port_addresses;
        let dump = rig.dump(&(web("") + node));
        let hosts = dump.lines().filter_map(|line| line.split(':').next());
        hosts.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(addresses("primary", ""), "10.0.0.1", "the first configured interface's");
    assert_eq!(addresses("primary", node), "192.168.1.1", "internal before external");
    assert_eq!(addresses("all", node), "10.0.0.1 192.168.1.1");
    assert_eq!(addresses("192.168.0.0/16", ""), "192.168.1.1");
    assert_eq!(addresses("192.168.0.0/16, primary", ""), "10.0.0.1 192.168.1.1");
    assert_eq!(addresses("2001:db8::/32", ""), "10.0.0.1 192.168.1.1", "semantics I4");
}

#[test]
fn a_backend_takes_new_flows_once_it_is_resolved_and_stays_when_it_goes_stale() {
    let mut rig = Rig::attached();
    let text = web("") + &slice("web-1", &["10.244.0.5 gw ready", "10.244.1.7 n1 ready"]);
    rig.forget_neighbour(VETH_A, "10.244.0.5");
    let compiled = rig.compile(&text);
    assert!(compiled.dump().ends_with("snat 10.244.1.7:8080\n"), "{}", compiled.dump());
    assert_eq!(compiled.probes, [(VETH_A, "10.244.0.5".parse().unwrap())]);
    assert_eq!(
        compiled.reasons(),
        "web: 10.244.0.5:8080 neighbour 10.244.0.5 unresolved on veth-a\n"
    );
    rig.set_neighbour(VETH_A, "10.244.0.5", NeighbourState::Known(mac(VETH_A)));
    let both = "snat 10.244.0.5:8080 10.244.1.7:8080\n";
    assert!(rig.dump(&text).ends_with(both));
    rig.set_neighbour(VETH_A, "10.244.0.5", NeighbourState::Failed);
    assert!(rig.dump(&text).ends_with(both), "sticky");
    rig.forget_neighbour(VETH_A, "10.244.0.5");
    assert!(rig.dump(&text).ends_with(both), "sticky");
    rig.attached.retain(|_, index| *index != VETH_A);
    let compiled = rig.compile(&text);
    assert!(compiled.dump().ends_with("snat 10.244.1.7:8080\n"));
    assert_eq!(compiled.reasons(), "web: 10.244.0.5:8080 interface veth-a not attached\n");
}

#[test]
fn a_set_of_which_nothing_is_resolved_stays_whole() {
    let mut rig = Rig::new();
    let text = web("") + &slice("web-1", &["10.244.0.5 gw ready", "172.16.0.1 n1 ready"]);
    let compiled = rig.compile(&text);
    assert!(compiled.dump().ends_with("snat 10.244.0.5:8080* 172.16.0.1:8080*\n"));
    assert_eq!(
        compiled.reasons(),
        "web: 10.244.0.5:8080 interface veth-a not attached\nweb: 172.16.0.1:8080 no route\n"
    );
    let states: Vec<_> = compiled.snapshot.next_hops.iter().map(|hop| hop.state).collect();
    assert_eq!(states, [NextHopState::NotAttached, NextHopState::NoRoute]);
}

#[test]
fn a_resolved_next_hop_holds_link_addresses_source_and_mtu() {
    let text = web("") + &slice("web-1", &["10.244.1.7 n1 ready"]);
    let compiled = Rig::attached().compile(&text);
    let hop = &compiled.snapshot.next_hops[0];
    assert_eq!(hop.egress, InterfaceSlot(2));
    assert_eq!(hop.source_mac, MacAddress([2, 0, 0, 0, 0, 3]));
    assert_eq!(hop.destination_mac, mac(ETH1), "the gateway's");
    assert_eq!(
        hop.snat_address,
        Some([192, 168, 1, 1].map(u8::from))
            .map(|b: [u8; 4]| { tidegate_dataplane::types::IpAddress::v4(b) })
    );
    assert_eq!(hop.mtu_bytes, 1500);
    let interface = compiled.snapshot.interface(InterfaceSlot(2)).unwrap();
    assert_eq!((interface.index, &*interface.name), (ETH1, "eth1"));
}

#[test]
fn exact_interfaces_are_always_wanted_and_veths_with_a_backend_behind_them() {
    let names = |compiled: &Compiled| {
        let names =
            compiled.wanted.iter().map(|w| format!("{}={}", w.request.slot.0, w.request.name));
        names.collect::<Vec<_>>().join(" ")
    };
    let mut rig = Rig::new();
    assert_eq!(names(&rig.compile("")), "1=eth0 2=eth1");
    let text = web("") + &slice("web-1", &["10.244.0.6 gw ready"]);
    let compiled = rig.compile(&text);
    assert_eq!(names(&compiled), "1=eth0 2=eth1 3=veth-b");
    let veth = &compiled.wanted[2];
    assert!(veth.request.is_small && !veth.is_required && veth.request.queues == [0, 1]);
    let draining = web("") + &slice("web-1", &["10.244.0.6 gw draining", "10.244.0.5 gw ready"]);
    assert_eq!(names(&rig.compile(&draining)), "1=eth0 2=eth1 3=veth-b 4=veth-a");
    rig.config.interfaces[0].name = "eth7".to_owned();
    let compiled = rig.compile("");
    assert_eq!(compiled.warnings[0], "interface eth7 not found");
}

#[test]
fn numbers_are_stable_and_what_did_not_change_is_shared() {
    let mut rig = Rig::attached();
    let other = web("").replace("name: web", "name: other").replace("30080", "30081");
    let web_with = |endpoints: &[&str]| web("") + &slice("web-1", endpoints) + &other;
    let first = rig.compile(&web_with(&["10.244.0.5 gw ready", "10.244.0.6 gw ready"]));
    let same = rig.compile(&web_with(&["10.244.0.6 gw ready", "10.244.0.5 gw ready"]));
    for (key, front) in &first.snapshot.fronts {
        assert!(Arc::ptr_eq(front, &same.snapshot.fronts[key]), "{key:?}");
    }
    assert!(Arc::ptr_eq(&first.snapshot.next_hops, &same.snapshot.next_hops));
    assert!(Arc::ptr_eq(&first.snapshot.interfaces, &same.snapshot.interfaces));
    let fewer = rig.compile(&web_with(&["10.244.0.6 gw ready"]));
    let shared = |name: &str| {
        let mut fronts = first.snapshot.fronts.iter();
        let (key, front) = fronts.find(|(_, front)| &*front.service.name == name).unwrap();
        Arc::ptr_eq(front, &fewer.snapshot.fronts[key])
    };
    assert!(shared("other") && !shared("web"));
    let (old, new) = (&first.report[1].backends[1], &fewer.report[1].backends[0]);
    assert_eq!((old.slot, old.next_hop), (new.slot, new.next_hop));
    assert_eq!(first.report[1].id, fewer.report[1].id);
}

#[test]
fn equal_sets_share_one_table_and_random_needs_none() {
    let mut rig = Rig::attached();
    let text = textbook("Cluster")
        + "---\n"
        + &textbook("Cluster").replace("frontend-svc", "second").replace("30080", "30082");
    let compiled = rig.compile(&text);
    let pickers: Vec<_> = compiled
        .snapshot
        .fronts
        .values()
        .filter_map(|front| match &front.outside {
            Selection::Forward { backends, .. } => Some(backends.picker().clone()),
            _ => None,
        })
        .collect();
    let [Picker::Maglev(a), Picker::Maglev(b)] = &pickers[..] else { panic!("{pickers:?}") };
    assert!(Arc::ptr_eq(a, b));
    assert_eq!(a.entries().len(), 1021);
    rig.config.load_balancer.algorithm = crate::config::Algorithm::Random;
    let compiled = rig.compile(&text);
    let front = compiled.snapshot.fronts.values().next().unwrap();
    let Selection::Forward { backends, .. } = &front.outside else { panic!() };
    assert!(matches!(backends.picker(), Picker::Random));
}

#[test]
fn a_removed_services_name_stays_for_its_flows_and_serves_nobody() {
    let mut rig = Rig::attached();
    let text = web("") + &slice("web-1", &["10.244.0.5 gw ready"]);
    let id = rig.compile(&text).report[0].id;
    for _ in 0..2 {
        let compiled = rig.compile("");
        assert!(compiled.snapshot.fronts.is_empty() && compiled.report.is_empty());
        let retired = &compiled.snapshot.services[&id];
        assert_eq!((&*retired.name, retired.serving.len()), ("web", 0));
    }
    let back = rig.compile(&text);
    assert_eq!(back.report[0].id, id);
    assert_eq!(back.snapshot.services[&id].serving.len(), 1);
}
