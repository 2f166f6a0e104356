//! Row by row of `docs/semantics.md`: who owns which front, and where fronts are (E).

use crate::dump;
use crate::rig::{Rig, vip, web};
use crate::rows::{FRONT, compile, ready};
use tidegate_dataplane::types::L4Port;

#[test]
fn e9_a_vip_comes_before_a_node_port_of_an_earlier_service() {
    let text = web("") + &vip("zoo", "[{ip: 10.0.0.1}]", "").replace("port: 80,", "port: 30080,");
    let compiled = compile(&text);
    let front = compiled.snapshot.fronts.values().find(|f| f.key.port == L4Port::new(30_080));
    assert_eq!(&*front.unwrap().service.name, "zoo");
    assert_eq!(compiled.report[0].warnings, [format!("{FRONT} belongs to another Service")]);
}

#[test]
fn e10_one_number_serves_several_protocols_and_sctp_is_told() {
    let ports = "[{name: t, port: 80, nodePort: 30080}, {name: u, port: 80, nodePort: 30080, \
                 protocol: UDP}, {name: s, port: 80, nodePort: 30080, protocol: SCTP}]";
    let text = web("").replace("[{port: 80, nodePort: 30080}]", ports)
        + &ready(&["10.244.1.7 n1 ready"]).replace("{name: \"\", ", "{name: u, protocol: UDP, ");
    let compiled = compile(&text);
    assert_eq!(dump::met(&compiled, "10.0.0.9", FRONT), "reject NO_ENDPOINTS");
    assert_eq!(dump::met(&compiled, "10.0.0.9", "10.0.0.1:30080/UDP"), "snat 10.244.1.7:8080");
    assert_eq!(compiled.snapshot.fronts.len(), 2);
    assert_eq!(compiled.report[0].warnings[0], "port 80 is SCTP: not served");
}

#[test]
fn e10_a_service_of_sctp_alone_is_told_too() {
    let text = web("").replace("nodePort: 30080", "nodePort: 30080, protocol: SCTP");
    let compiled = compile(&text);
    assert_eq!(dump::places(&compiled), "");
    assert_eq!(compiled.warnings, ["Service default/web: port 80 is SCTP: not served"]);
}

#[test]
fn e11_vips_are_captured_unless_the_balancer_is_a_proxy_or_a_name() {
    let ingress = "[{ip: 192.0.2.1}, {ip: 192.0.2.2, ipMode: VIP}, {ip: 192.0.2.3, ipMode: \
                   Proxy}, {hostname: lb.example.com}]";
    let compiled = compile(&vip("web", ingress, ""));
    let fronts = dump::places(&compiled);
    assert_eq!(fronts, "10.0.0.1:30081/TCP 192.0.2.1:80/TCP 192.0.2.2:80/TCP", "NP stays");
}

#[test]
fn e13_e19_an_external_address_serves_any_type_under_the_policy() {
    let type_ = |text: String| {
        text.replace("type: NodePort", "type: ClusterIP").replace(", nodePort: 30080", "")
    };
    let text = type_(web(", externalIPs: [198.51.100.9], externalTrafficPolicy: Local"))
        + &ready(&["10.244.0.5 gw ready", "10.244.1.7 n1 ready"]);
    let compiled = compile(&text);
    assert_eq!(dump::places(&compiled), "198.51.100.9:80/TCP");
    let met = dump::met(&compiled, "10.0.0.9", "198.51.100.9:80/TCP");
    assert_eq!(met, "dnat 10.244.0.5:8080");
}

#[test]
fn e14_external_addresses_are_left_to_others_where_the_gate_is_off_and_the_service_says_so() {
    let text = web(", externalIPs: [198.51.100.9]") + &ready(&["10.244.1.7 n1 ready"]);
    let mut rig = Rig::attached();
    assert!(dump::places(&rig.compile(&text)).contains("198.51.100.9:80/TCP"));
    rig.config.feature_gates.allow_service_external_ips = false;
    let compiled = rig.compile(&text);
    let places = dump::places(&compiled);
    assert!(!places.contains("198.51.100.9") && places.contains(":30080/TCP"), "{places}");
    let told = "spec.externalIPs are not served: featureGates.AllowServiceExternalIPs is false";
    assert_eq!(compiled.report[0].warnings, [told]);
    rig.config.feature_gates.allow_service_external_ips = true;
    assert!(dump::places(&rig.compile(&text)).contains("198.51.100.9:80/TCP"));
}

#[test]
fn e15_a_balancer_without_node_ports_has_its_vip_alone() {
    let text = vip("web", "[{ip: 192.0.2.1}]", ", allocateLoadBalancerNodePorts: false");
    let compiled = compile(&text.replace(", nodePort: 30081", ""));
    assert_eq!(dump::places(&compiled), "192.0.2.1:80/TCP");
}

#[test]
fn e16_services_share_a_vip_on_distinct_ports() {
    let other = vip("zoo", "[{ip: 192.0.2.1}]", "").replace("30081", "30082");
    let text = vip("web", "[{ip: 192.0.2.1}]", "") + &other.replace("port: 80,", "port: 81,");
    let places = dump::places(&compile(&text));
    assert!(places.ends_with("192.0.2.1:80/TCP 192.0.2.1:81/TCP"), "{places}");
}
