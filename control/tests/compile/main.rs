//! Manifests in, fronts and what a new flow meets out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod bridges;
mod dump;
mod incremental;
mod moved;
mod rig;
mod rows;
mod rows_cluster;
mod rows_events;
mod rows_families;
mod rows_fronts;
mod rows_health;
mod rows_sources;
mod twin;
mod world;

use rig::{Compilation, ETH0, ETH1, Rig, VETH_A, VETH_B, mac, slice, textbook, web};
use std::sync::Arc;
use tidegate_control::config::{Algorithm, InterfaceConfig, Role};
use tidegate_control::netlink::NeighbourState;
use tidegate_dataplane::snapshot::{NextHopState, Picker, Selection};
use tidegate_dataplane::types::{IfIndex, InterfaceSlot, IpAddress, MacAddress};

#[test]
fn the_textbook_manifest_is_served_as_it_is() {
    let mut rig = Rig::attached();
    let cluster = rig.compile(&textbook("Cluster"));
    assert_eq!(
        dump::fronts(&cluster),
        "10.0.0.1:30080/TCP NodePort default/frontend-svc: \
         snat 10.244.0.5:5000 10.244.0.6:5000 10.244.1.7:5000\n"
    );
    assert_eq!(dump::reasons(&cluster), "frontend-svc: 10.244.1.8:5000 not ready\n");
    let report = &cluster.report[0];
    assert_eq!((report.ready_count, report.draining_count), (3, 0));
    assert_eq!(report.backends[0].pod.as_deref(), Some("frontend-0"));
    let local = rig.compile(&textbook("Local"));
    assert_eq!(
        dump::fronts(&local),
        "10.0.0.1:30080/TCP NodePort default/frontend-svc: dnat 10.244.0.5:5000 10.244.0.6:5000\n"
    );
    let reasons = dump::reasons(&local);
    assert!(reasons.contains("10.244.1.7:5000 on another node"), "{reasons}");
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
             {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: \
             {port}}}]}}]}}\n\
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
    assert!(!dump::fronts(&compiled).contains("10.244.0.5"), "{}", dump::fronts(&compiled));
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
    let fronts = dump::fronts(&compiled);
    assert!(fronts.ends_with("pass LOCAL_BACKEND\n"), "{fronts}");
    let reasons = dump::reasons(&compiled);
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
        dump::fronts(&compiled),
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
        rig.serve_node_ports_at(list);
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
    let fronts = dump::fronts(&compiled);
    assert!(fronts.ends_with("snat 10.244.1.7:8080\n"), "{fronts}");
    assert_eq!(*compiled.probes, [(VETH_A, "10.244.0.5".parse().unwrap())]);
    assert_eq!(
        dump::reasons(&compiled),
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
    assert!(dump::fronts(&compiled).ends_with("snat 10.244.1.7:8080\n"));
    assert_eq!(dump::reasons(&compiled), "web: 10.244.0.5:8080 interface veth-a not attached\n");
}

#[test]
fn backends_behind_an_interface_that_is_not_named_are_told() {
    let mut rig = Rig::attached();
    let text = web("") + &slice("web-1", &["10.244.1.7 n1 ready"]);
    assert_eq!(rig.compile(&text).warnings, [""; 0]);
    let eth1 = rig.config.interfaces.remove(1);
    rig.attached.retain(|_, index| *index != ETH1);
    let words = "backends get no flows: the route to them is by eth1, which ";
    let warnings = rig.compile(&text).warnings.clone();
    assert_eq!(
        warnings,
        [format!("{words}is not among `interfaces`: add it, with role backend or both")]
    );
    rig.config.interfaces.push(InterfaceConfig { role: Role::Client, ..eth1 });
    let warnings = rig.compile(&text).warnings.clone();
    assert!(warnings[0].starts_with(&format!("{words}has role client")), "{warnings:?}");
    assert_eq!(rig.compile(&web("")).warnings, [""; 0], "no backend is there any more");
}

#[test]
fn a_set_of_which_nothing_is_resolved_stays_whole() {
    let mut rig = Rig::new();
    let text = web("") + &slice("web-1", &["10.244.0.5 gw ready", "172.16.0.1 n1 ready"]);
    let compiled = rig.compile(&text);
    assert!(dump::fronts(&compiled).ends_with("snat 10.244.0.5:8080* 172.16.0.1:8080*\n"));
    assert_eq!(
        dump::reasons(&compiled),
        "web: 10.244.0.5:8080 interface veth-a not attached\nweb: 172.16.0.1:8080 no route\n"
    );
    let states: Vec<_> = compiled.snapshot.next_hops.iter().map(|hop| hop.state).collect();
    assert_eq!(states, [NextHopState::NotAttached, NextHopState::NoRoute]);
}

#[test]
fn a_resolved_next_hop_holds_link_addresses_source_and_mtu() {
    let text = web("") + &slice("web-1", &["10.244.1.7 n1 ready"]);
    let compiled = Rig::attached().compile(&text);
    let hop = compiled.snapshot.next_hops.get(0).unwrap();
    assert_eq!(hop.egress, InterfaceSlot(2));
    assert_eq!(hop.source_mac, MacAddress([2, 0, 0, 0, 0, 3]));
    assert_eq!(hop.destination_mac, mac(ETH1), "the gateway's");
    assert_eq!(hop.snat_address, Some(IpAddress::v4([192, 168, 1, 1])));
    assert_eq!(hop.mtu_bytes, 1500);
    let interface = compiled.snapshot.interface(InterfaceSlot(2)).unwrap();
    assert_eq!((interface.index, &*interface.name), (ETH1, "eth1"));
}

#[test]
fn exact_interfaces_are_always_wanted_and_veths_with_a_backend_behind_them() {
    let names = |compiled: &Compilation| {
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
fn an_attached_veth_is_needed_while_it_is_down_and_kept_when_no_backend_is_behind_it() {
    let needed = |compiled: &Compilation| {
        let veth = compiled.wanted.iter().find(|w| w.request.index == VETH_B);
        veth.map(|veth| veth.is_needed)
    };
    let text = web("") + &slice("web-1", &["10.244.0.6 gw ready"]);
    let mut rig = Rig::new();
    rig.set_up(VETH_B, false);
    assert_eq!(needed(&rig.compile(&text)), None, "it has no route");
    rig.set_up(VETH_B, true);
    assert_eq!(needed(&rig.compile(&text)), Some(true));
    rig.attached.insert(InterfaceSlot(3), VETH_B);
    assert_eq!(needed(&rig.compile("")), Some(false));
    rig.set_up(VETH_B, false);
    assert_eq!(needed(&rig.compile("")), Some(true));
    rig.config.interfaces[0].name = "eth1".to_owned();
    rig.set_up(ETH1, false);
    let warnings = rig.compile("").warnings.join("; ");
    assert!(warnings.contains("interface eth1 is down"), "{warnings}");
}

#[test]
fn vlans_with_interfaces_are_the_kernels_and_hidden_tags_are_refused_with_the_fix() {
    let mut rig = Rig::attached();
    rig.add_link(IfIndex(9), "eth1.7");
    let child = rig.link_mut("eth1.7");
    (child.kind, child.vlan, child.peer) = ("vlan".into(), Some(7), Some(ETH1));
    let vlans = |compiled: &Compilation| {
        let eth1 = compiled.wanted.iter().find(|wanted| wanted.request.name == "eth1");
        eth1.map(|wanted| wanted.request.vlans.clone())
    };
    assert_eq!(vlans(&rig.compile("")), Some(vec![7]));
    rig.link_mut("eth1").strips_tags = true;
    let compiled = rig.compile("");
    assert_eq!(vlans(&compiled), None);
    let fix = "ethtool -K eth1 rxvlan off";
    assert!(compiled.warnings[0].ends_with(fix), "{:?}", compiled.warnings);
    rig.link_mut("eth1.7").peer = Some(ETH0);
    assert_eq!(vlans(&rig.compile("")), Some(vec![]), "no VLAN on it");
}

#[test]
fn numbers_are_stable_and_what_did_not_change_is_shared() {
    let mut rig = Rig::attached();
    let other = web("").replace("name: web", "name: other").replace("30080", "30081");
    let web_with = |endpoints: &[&str]| web("") + &slice("web-1", endpoints) + &other;
    let first = rig.compile(&web_with(&["10.244.0.5 gw ready", "10.244.0.6 gw ready"]));
    let same = rig.compile(&web_with(&["10.244.0.6 gw ready", "10.244.0.5 gw ready"]));
    for (key, front) in first.snapshot.fronts.iter() {
        assert!(Arc::ptr_eq(front, same.snapshot.fronts.get(key).unwrap()), "{key:?}");
    }
    assert!(first.snapshot.next_hops.is_same(&same.snapshot.next_hops));
    assert!(Arc::ptr_eq(&first.snapshot.interfaces, &same.snapshot.interfaces));
    let fewer = rig.compile(&web_with(&["10.244.0.6 gw ready"]));
    let shared = |name: &str| {
        let mut fronts = first.snapshot.fronts.iter();
        let (key, front) = fronts.find(|(_, front)| &*front.service.name == name).unwrap();
        Arc::ptr_eq(front, fewer.snapshot.fronts.get(key).unwrap())
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
    rig.config.load_balancer.algorithm = Algorithm::Random;
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
        let retired = compiled.snapshot.services.get(&id).unwrap();
        assert_eq!((&*retired.name, retired.serving.len()), ("web", 0));
    }
    let back = rig.compile(&text);
    assert_eq!(back.report[0].id, id);
    assert_eq!(back.snapshot.services.get(&id).unwrap().serving.len(), 1);
}
