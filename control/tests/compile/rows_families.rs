//! Row by row of `docs/semantics.md`: Services of two families, and what IPv6 alone has.

use crate::rig::{ETH0, ETH1, Rig, VETH_A, mac, slice, vip, web};
use crate::{dump, twin};
use std::net::IpAddr;
use tidegate_control::netlink::{InterfaceAddress, NeighbourState};
use tidegate_dataplane::types::InterfaceSlot;

/// Asks the API server for both families.
const DUAL: &str = ", ipFamilyPolicy: PreferDualStack";
const LOCAL: &str = ", externalTrafficPolicy: Local";
const V4: &str = "10.0.0.1:30080/TCP";
const V6: &str = "fd00:10::1:30080/TCP";
const POD: &str = "fd00:10:244:1::7";

/// What outside clients of each family meet.
fn met(text: &str) -> [String; 2] {
    let compiled = Rig::attached().compile(text);
    [("10.0.0.9", V4), ("fd00:10::9", V6)].map(|(from, to)| dump::met(&compiled, from, to))
}

fn both(v4: &[&str], v6: &[&str]) -> String {
    slice("web-4", v4) + &slice("web-6", v6)
}

#[test]
fn a5_each_family_with_a_cluster_ip_has_its_fronts() {
    let pods = both(&["10.244.1.7 n1 ready"], &[&format!("{POD} n1 ready")]);
    let served = ["snat 10.244.1.7:8080".to_owned(), format!("snat {POD}:8080")];
    let none = || "no front".to_owned();
    let [v4, v6] = served.clone();
    for (spec, expected) in [
        ("", [v4.clone(), none()]),
        (DUAL, served.clone()),
        (", ipFamilyPolicy: RequireDualStack", served.clone()),
        (", ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]", [none(), v6.clone()]),
        (", ipFamilies: [IPv6, IPv4]", served.clone()),
        (", clusterIP: 'fd00::1'", [none(), v6.clone()]),
        (", clusterIP: 'fd00::1', clusterIPs: ['fd00::1', 10.96.0.1]", served.clone()),
        (", ipFamilyPolicy: PreferDualStack, clusterIPs: [10.96.0.1]", [v4, none()]),
    ] {
        assert_eq!(met(&(web(spec) + &pods)), expected, "{spec}");
    }
}

#[test]
fn a5_vips_and_external_addresses_of_a_family_without_cluster_ip_are_none() {
    let ingress = "[{ip: 192.0.2.1}, {ip: '2001:db8::1'}]";
    let spec = ", externalIPs: [198.51.100.9, '2001:db8::9']";
    let places = |spec: &str| {
        let compiled = Rig::attached().compile(&vip("web", ingress, spec));
        dump::places(&compiled)
    };
    assert_eq!(places(spec), "10.0.0.1:30081/TCP 192.0.2.1:80/TCP 198.51.100.9:80/TCP");
    let v6 = "2001:db8::1:80/TCP 2001:db8::9:80/TCP fd00:10::1:30081/TCP";
    assert_eq!(places(&format!("{spec}, ipFamilies: [IPv6]")), v6);
    let all = places(&format!("{spec}{DUAL}"));
    assert_eq!(all.split(' ').count(), 6, "{all}");
}

#[test]
fn b6_endpoints_serve_the_fronts_of_their_own_family() {
    let pod = format!("{POD} n1 ready");
    let (v4, v6) = ("snat 10.244.1.7:8080".to_owned(), format!("snat {POD}:8080"));
    let reject = || "reject NO_ENDPOINTS".to_owned();
    let text = |v4: &[&str], v6: &[&str]| web(DUAL) + &both(v4, v6);
    assert_eq!(met(&text(&["10.244.1.7 n1 ready"], &[&pod])), [v4.clone(), v6.clone()]);
    assert_eq!(met(&text(&["10.244.1.7 n1 ready"], &[])), [v4, reject()]);
    assert_eq!(met(&text(&[], &[&pod])), [reject(), v6]);
    let local = web(&format!("{DUAL}{LOCAL}"));
    let here = both(&["10.244.0.5 gw ready", "10.244.1.7 n1 ready"], &[&pod]);
    let expected = ["dnat 10.244.0.5:8080", "drop NO_LOCAL_ENDPOINTS"].map(ToOwned::to_owned);
    assert_eq!(met(&(local + &here)), expected, "C3: decided for each by itself");
}

#[test]
fn b6_where_the_families_differ_the_service_says_so() {
    let text = web(DUAL) + &slice("web-4", &["10.244.1.7 n1 ready"]);
    let compiled = Rig::attached().compile(&text);
    assert_eq!(compiled.report[0].warnings, ["IPv6 meets REJECT NO_ENDPOINTS"]);
    let text = web(DUAL) + &both(&["10.0.0.1 gw ready"], &[&format!("{POD} n1 ready")]);
    let compiled = Rig::attached().compile(&text);
    assert_eq!(compiled.report[0].warnings, ["IPv4 meets PASS LOCAL_BACKEND"]);
}

#[test]
fn b6_a_host_network_backend_of_one_family_leaves_the_other_alone() {
    let text = web(DUAL) + &both(&["10.244.1.7 n1 ready"], &["fd00:10::1 gw ready"]);
    assert_eq!(met(&text), ["snat 10.244.1.7:8080", "pass LOCAL_BACKEND"]);
}

#[test]
fn b6_a_pods_addresses_serve_the_families_that_the_service_has() {
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: {app: x}}\nspec: \
               {nodeName: n1, containers: []}\nstatus: {podIP: 10.244.1.7, podIPs: [{ip: \
               10.244.1.7}, {ip: 'fd00:10:244:1::7'}]}\n";
    let service = |spec: &str| web(&format!(", selector: {{app: x}}{spec}"));
    let (v4, v6) = ("snat 10.244.1.7:80".to_owned(), format!("snat {POD}:80"));
    assert_eq!(met(&(service(DUAL) + pod)), [v4.clone(), v6]);
    let compiled = Rig::attached().compile(&(service("") + pod));
    assert_eq!(dump::met(&compiled, "10.0.0.9", V4), v4);
    assert_eq!(compiled.report[0].backends.len(), 1, "the other address is not the Service's");
}

#[test]
fn e8_i3_i4_node_ports_are_on_the_addresses_of_both_families() {
    let node = "---\napiVersion: v1\nkind: Node\nmetadata: {name: gw}\nstatus: {addresses: [{type: \
                ExternalIP, address: '2001:db8::e'}, {type: InternalIP, address: \
                fd00:192:168:1::1}, \
                {type: InternalIP, address: fd00:10::1}, {type: InternalIP, address: 10.0.0.1}]}\n";
    let addresses = |list: &str, node: &str| {
        let mut rig = Rig::attached();
        rig.serve_node_ports_at(list);
        let places = dump::places(&rig.compile(&(web(DUAL) + node)));
        places.replace(":30080/TCP", "")
    };
    assert_eq!(addresses("primary", ""), "10.0.0.1 fd00:10::1", "I3: the first of each family");
    let primary = addresses("primary", node);
    assert_eq!(primary, "10.0.0.1 fd00:192:168:1::1", "I3: internal before external");
    let all = "10.0.0.1 192.168.1.1 fd00:10::1 fd00:192:168:1::1";
    assert_eq!(addresses("all", node), all, "E8: never a link-local one");
    let one = addresses("'fd00:10::/64'", "");
    assert_eq!(one, "10.0.0.1 192.168.1.1 fd00:10::1", "I4: the other family is free");
    assert_eq!(addresses("10.0.0.0/8", ""), "10.0.0.1 fd00:10::1 fd00:192:168:1::1", "I4");
}

/// A deprecated or temporary address of eth1.
fn passing(text: &str) -> InterfaceAddress {
    InterfaceAddress {
        interface: ETH1,
        address: text.parse().unwrap(),
        prefix_length: 64,
        is_global: true,
        is_preferred: false,
    }
}

#[test]
fn i3_a_passing_address_is_not_the_first() {
    let mut rig = Rig::attached();
    let first = |rig: &mut Rig| dump::places(&rig.compile(&web(", ipFamilies: [IPv6]")));
    rig.clear_addresses();
    rig.add_own(passing("2001:db8::bad"));
    assert_eq!(first(&mut rig), "2001:db8::bad:30080/TCP", "better than none");
    rig.add_address(ETH1, "2001:db8::1");
    assert_eq!(first(&mut rig), "2001:db8::1:30080/TCP");
}

#[test]
fn f9_masquerading_takes_a_global_address_of_the_outgoing_interface() {
    let text = twin::of(&(web("") + &slice("web-1", &["10.244.1.7 n1 ready"])));
    let mut rig = Rig::attached();
    let compiled = rig.compile(&text);
    let hop = compiled.snapshot.next_hops.get(0).unwrap();
    assert_eq!(hop.egress, InterfaceSlot(2));
    assert_eq!(hop.destination_mac, mac(ETH1), "the link-local gateway's");
    let own: IpAddr = "fd00:192:168:1::1".parse().unwrap();
    assert_eq!(hop.snat_address, Some(own.into()), "not eth1's link-local one");
    assert_eq!(hop.mtu_bytes, 1500);
    rig.clear_addresses();
    rig.add_own(InterfaceAddress { is_global: false, is_preferred: true, ..passing("fe80::3") });
    rig.add_address(ETH0, "fd00:10::1");
    let elsewhere: IpAddr = "fd00:10::1".parse().unwrap();
    let compiled = rig.compile(&text);
    let hop = compiled.snapshot.next_hops.get(0).unwrap();
    assert_eq!(hop.snat_address, Some(elsewhere.into()), "better than a link-local one");
    rig.limit_routes(1400);
    let compiled = rig.compile(&text);
    let hop = compiled.snapshot.next_hops.get(0).unwrap();
    assert_eq!(hop.mtu_bytes, 1400, "the route's own");
}

#[test]
fn an_ipv6_neighbour_is_asked_for_on_the_interface_of_its_route() {
    let mut rig = Rig::attached();
    rig.forget_neighbour(ETH1, "fe80::9");
    rig.forget_neighbour(VETH_A, "fd00:10:244::5");
    let pods = ["fd00:10:244::5 gw ready", "fd00:10:244:1::7 n1 ready"];
    let compiled = rig.compile(&(web(", ipFamilies: [IPv6]") + &slice("web-6", &pods)));
    let expected = [(ETH1, "fe80::9"), (VETH_A, "fd00:10:244::5")];
    assert_eq!(*compiled.probes, expected.map(|(index, to)| (index, to.parse().unwrap())));
    rig.set_neighbour(ETH1, "fe80::9", NeighbourState::Known(mac(ETH1)));
    let compiled = rig.compile(&(web(", ipFamilies: [IPv6]") + &slice("web-6", &pods)));
    assert_eq!(dump::met(&compiled, "fd00:10::9", V6), format!("snat {POD}:8080"));
}
