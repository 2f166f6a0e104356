//! Row by row of `docs/semantics.md`: cluster IPs and the internal policy; over both families.

use crate::rig::{ETH0, ETH1, Rig, VETH_A, VETH_B, node, slice, vip, web};
use crate::{dump, twin};
use tidegate_control::compile::SelectionKind;
use tidegate_control::config::ClusterIp;
use tidegate_dataplane::snapshot::Side;
use tidegate_dataplane::types::InterfaceSlot;

const FRONT: &str = "10.96.0.1:80/TCP";
const NODE_PORT: &str = "10.0.0.1:30080/TCP";
const POD: &str = "10.244.0.9";
const OUTSIDE: &str = "10.0.0.9";
const LOCAL: &str = ", internalTrafficPolicy: Local";

fn serving() -> Rig {
    let mut rig = Rig::attached();
    rig.config.cluster_ip = ClusterIp::Serve;
    rig
}

/// `web` with a cluster IP, and its endpoints.
fn service(extra: &str, endpoints: &[&str]) -> String {
    let text = web(&format!(", clusterIP: '10.96.0.1'{extra}")) + &node("z1");
    if endpoints.is_empty() { text } else { text + &slice("web-1", endpoints) }
}

/// What a new flow meets, in both families alike.
fn met(text: &str, source: &str, front: &str) -> String {
    let met = dump::met(&serving().compile(text), source, front);
    let (manifest, source, front) = (twin::of(text), twin::of(source), twin::of(front));
    let of_twin = dump::met(&serving().compile(&manifest), &source, &front);
    assert_eq!(of_twin, twin::of(&met), "{manifest}");
    met
}

const HERE_AND_THERE: [&str; 2] = ["10.244.0.5 gw ready", "10.244.1.7 n1 ready"];
const THERE: [&str; 1] = ["10.244.1.7 n1 ready"];

#[test]
fn d7_cluster_ips_are_fronts_of_every_type_where_they_are_served() {
    let text = service("", &THERE);
    let mut rig = Rig::attached();
    assert_eq!(dump::places(&rig.compile(&text)), NODE_PORT, "the kernel's by default");
    rig.config.cluster_ip = ClusterIp::Serve;
    assert_eq!(dump::places(&rig.compile(&text)), format!("{NODE_PORT} {FRONT}"));
    let alone = text.replace("type: NodePort", "type: ClusterIP").replace(", nodePort: 30080", "");
    assert_eq!(dump::places(&rig.compile(&alone)), FRONT, "other ports of it are the kernel's");
    assert_eq!(dump::places(&serving().compile(&twin::of(&alone))), twin::of(FRONT));
    let headless = text.replace("'10.96.0.1'", "None");
    assert_eq!(dump::places(&rig.compile(&headless)), "");
    rig.config.cluster_ip = ClusterIp::Kernel;
    assert_eq!(dump::places(&rig.compile(&text)), NODE_PORT, "and back");
}

#[test]
fn d7_a_service_of_two_families_has_a_cluster_ip_of_each() {
    let two = "'10.96.0.1', clusterIPs: ['10.96.0.1', 'fd00:10:96::1']";
    let text = service("", &THERE).replace("'10.96.0.1'", two);
    let places = dump::places(&serving().compile(&text));
    assert!(places.contains(FRONT) && places.contains("fd00:10:96::1:80/TCP"), "{places}");
}

#[test]
fn d7_cluster_ips_are_fronts_behind_interfaces_of_role_backend_alone() {
    let compiled = serving().compile(&service("", &THERE));
    let side = |slot| compiled.snapshot.interface(InterfaceSlot(slot)).unwrap().side;
    let sides = [Side::Clients, Side::Clients, Side::Pods, Side::Pods];
    assert_eq!([1, 2, 3, 4].map(side), sides, "client, both, backend, backend");
    let asked = compiled.wanted.iter().map(|wanted| (wanted.request.index, wanted.request.side));
    let expected = [ETH0, ETH1, VETH_A, VETH_B].into_iter().zip(sides);
    assert!(asked.eq(expected), "each that may have a pod behind it, though no backend is");
    let compiled = Rig::attached().compile(&service("", &THERE));
    let asked = compiled.wanted.iter().filter(|wanted| wanted.is_needed);
    assert!(asked.map(|w| w.request.index).eq([ETH0, ETH1]), "{:?}", compiled.wanted);
}

#[test]
fn e7_each_policy_has_its_own_fronts() {
    let internal = service(LOCAL, &HERE_AND_THERE);
    assert_eq!(met(&internal, POD, FRONT), "dnat 10.244.0.5:8080");
    assert_eq!(met(&internal, OUTSIDE, NODE_PORT), "snat 10.244.0.5:8080 10.244.1.7:8080");
    let external = service(", externalTrafficPolicy: Local", &HERE_AND_THERE);
    assert_eq!(met(&external, POD, FRONT), "dnat 10.244.0.5:8080 10.244.1.7:8080");
    assert_eq!(met(&external, OUTSIDE, NODE_PORT), "dnat 10.244.0.5:8080");
}

#[test]
fn f7_only_who_is_no_pod_is_masqueraded_whatever_the_policy() {
    for policy in ["", LOCAL] {
        let text = service(policy, &HERE_AND_THERE[..1]);
        assert_eq!(met(&text, POD, FRONT), "dnat 10.244.0.5:8080", "{policy}");
        assert_eq!(met(&text, OUTSIDE, FRONT), "snat 10.244.0.5:8080", "{policy}");
        let blind = text.replace("podCIDRs: [10.244.0.0/24]", "unschedulable: true");
        assert_eq!(met(&blind, POD, FRONT), "snat 10.244.0.5:8080", "pods cannot be told");
    }
}

#[test]
fn d1_d2_the_internal_policy_rejects_and_drops_as_the_external_one() {
    let drop = "drop NO_LOCAL_ENDPOINTS";
    assert_eq!(met(&service(LOCAL, &THERE), POD, FRONT), drop);
    assert_eq!(met(&service(LOCAL, &["10.244.1.7 n1 draining"]), POD, FRONT), drop, "D3");
    for policy in ["", LOCAL] {
        assert_eq!(met(&service(policy, &[]), POD, FRONT), "reject NO_ENDPOINTS", "{policy}");
    }
    let draining = service(LOCAL, &["10.244.0.5 gw draining", "10.244.1.7 n1 ready"]);
    assert_eq!(met(&draining, POD, FRONT), "dnat 10.244.0.5:8080", "C2");
}

#[test]
fn c12_hints_mean_the_internal_policy_cluster_alone() {
    let hinted = |policy| {
        let text = service(policy, &HERE_AND_THERE);
        let hint = |text: String, address: &str, zone: &str| {
            let at = format!("{{addresses: [{address}]");
            text.replace(&at, &format!("{at}, hints: {{forZones: [{{name: {zone}}}]}}"))
        };
        hint(hint(text, "10.244.0.5", "z2"), "10.244.1.7", "z1")
    };
    assert_eq!(met(&hinted(""), POD, FRONT), "dnat 10.244.1.7:8080");
    assert_eq!(met(&hinted(LOCAL), POD, FRONT), "dnat 10.244.0.5:8080");
}

#[test]
fn f1_source_ranges_do_not_guard_cluster_ips() {
    let spec = ", clusterIP: '10.96.0.1', loadBalancerSourceRanges: ['203.0.113.0/24']";
    let text = vip("web", "[{ip: '192.0.2.1'}]", spec) + &node("z1") + &slice("web-1", &THERE);
    assert_eq!(met(&text, POD, "192.0.2.1:80/TCP"), "drop DENIED_BY_LB_SRC_RANGE_CHECK");
    assert_eq!(met(&text, POD, FRONT), "dnat 10.244.1.7:8080");
}

#[test]
fn e20_a_host_network_backend_leaves_the_cluster_ip_to_the_kernel_too() {
    let endpoints = ["10.0.0.1 gw ready", "10.244.1.7 n1 ready"];
    assert_eq!(met(&service("", &endpoints), POD, FRONT), "pass LOCAL_BACKEND");
}

#[test]
fn a_service_of_cluster_ips_alone_tells_what_pods_meet() {
    let text = service(LOCAL, &THERE);
    let text = text.replace("type: NodePort", "type: ClusterIP").replace(", nodePort: 30080", "");
    let compiled = serving().compile(&text);
    let report = &compiled.report[0];
    assert_eq!(report.selection, SelectionKind::Drop);
    let reason = report.backends[0].reason.as_deref();
    assert_eq!(reason, Some("on another node, and the policy is Local"));
}
