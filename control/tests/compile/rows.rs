//! Row by row of `docs/semantics.md`: which Services and endpoints count, and where (A-E); over
//! both families, where nothing else is said.

use crate::dump;
use crate::rig::{Compilation, Rig, node, slice, web};
use crate::twin;

pub(crate) const FRONT: &str = "10.0.0.1:30080/TCP";
const LOCAL: &str = ", externalTrafficPolicy: Local";

pub(crate) fn compile(text: &str) -> Compilation {
    Rig::attached().compile(text)
}

/// What a new flow of an outside client meets at [`FRONT`], and over IPv6 at its twin.
fn met(text: &str) -> String {
    met_by(text, "10.0.0.9")
}

fn met_by(text: &str, source: &str) -> String {
    let met = dump::met(&compile(text), source, FRONT);
    let (manifest, source, front) = (twin::of(text), twin::of(source), twin::of(FRONT));
    assert_eq!(dump::met(&compile(&manifest), &source, &front), twin::of(&met), "{manifest}");
    met
}

fn met_v4(text: &str) -> String {
    dump::met(&compile(text), "10.0.0.9", FRONT)
}

pub(crate) fn ready(addresses: &[&str]) -> String {
    slice("web-1", addresses)
}

#[test]
fn a1_a2_headless_and_external_name_have_no_front() {
    let served = web("") + &ready(&["10.244.1.7 n1 ready"]);
    assert_eq!(met(&served), "snat 10.244.1.7:8080");
    for (from, to) in [
        ("type: NodePort", "type: NodePort, clusterIP: None"),
        ("type: NodePort", "type: ExternalName"),
    ] {
        assert_eq!(met(&served.replacen(from, to, 1)), "no front", "{to}: not even a reject");
    }
}

#[test]
fn a3_a4_labels_take_fronts_away_and_give_them_back() {
    let served = web("") + &ready(&["10.244.1.7 n1 ready"]);
    let mut rig = Rig::attached();
    for label in ["service-proxy-name", "headless"] {
        let label = format!("name: web, labels: {{service.kubernetes.io/{label}: ''}}");
        let labelled = served.replacen("name: web", &label, 1);
        let met = |rig: &mut Rig, text| dump::met(&rig.compile(text), "10.0.0.9", FRONT);
        assert_eq!(met(&mut rig, &served), "snat 10.244.1.7:8080");
        assert_eq!(met(&mut rig, &labelled), "no front", "{label}");
        assert_eq!(met(&mut rig, &served), "snat 10.244.1.7:8080");
    }
}

#[test]
fn a4_a_headless_slice_is_ignored() {
    let slice = ready(&["10.244.1.7 n1 ready"]);
    let headless = slice.replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    assert_eq!(met(&(web("") + &headless)), "reject NO_ENDPOINTS");
}

#[test]
fn a5_a_family_without_cluster_ip_has_no_front() {
    let text = |spec: &str| web(spec) + &ready(&["10.244.1.7 n1 ready"]);
    assert_eq!(met_v4(&text(", clusterIP: 10.96.0.1")), "snat 10.244.1.7:8080");
    assert_eq!(met_v4(&text(", clusterIP: 'fd00::1'")), "no front");
    assert_eq!(met_v4(&text(", clusterIPs: ['fd00::1', 10.96.0.1]")), "snat 10.244.1.7:8080");
}

#[test]
fn a6_each_port_has_its_own_front_and_endpoints() {
    let ports = "[{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30081}]";
    let text = web("").replace("[{port: 80, nodePort: 30080}]", ports)
        + &ready(&["10.244.1.7 n1 ready"])
            .replace("[{name: \"\", port: 8080}]", "[{name: a, port: 1}, {name: b, port: 2}]");
    let compiled = compile(&text);
    assert_eq!(dump::met(&compiled, "10.0.0.9", FRONT), "snat 10.244.1.7:1");
    assert_eq!(dump::met(&compiled, "10.0.0.9", "10.0.0.1:30081/TCP"), "snat 10.244.1.7:2");
    assert_ne!(compiled.report[0].id, compiled.report[1].id);
}

#[test]
fn a7_old_fronts_go_when_the_new_ones_come() {
    let mut rig = Rig::attached();
    let text = web("") + &ready(&["10.244.1.7 n1 ready"]);
    rig.compile(&text);
    let moved = rig.dump(&text.replace("30080", "30099"));
    assert_eq!(moved, "10.0.0.1:30099/TCP NodePort default/web: snat 10.244.1.7:8080\n");
    assert_eq!(rig.dump(&ready(&["10.244.1.7 n1 ready"])), "", "a slice without Service");
}

#[test]
fn a10_leading_zeros_are_decimal_and_empty_strings_nothing() {
    let text = web(", externalIPs: ['', 198.051.100.009]") + &ready(&["10.244.001.007 n1 ready"]);
    let compiled = compile(&text);
    let met = dump::met(&compiled, "10.0.0.9", "198.51.100.9:80/TCP");
    assert_eq!(met, "snat 10.244.1.7:8080");
    assert_eq!(compiled.snapshot.fronts.len(), 2);
}

#[test]
fn b1_a_slice_belongs_by_label_alone() {
    let slice = ready(&["10.244.1.7 n1 ready"]);
    let other = slice.replace("service-name: web", "service-name: ''");
    assert_eq!(met(&(web("") + &other)), "reject NO_ENDPOINTS");
}

#[test]
fn b3_a_local_copy_wins_over_a_better_one_elsewhere() {
    let twice = |condition: &str| {
        web(LOCAL)
            + &slice("web-1", &["10.244.0.5 n1 ready"])
            + &slice("web-2", &[&format!("10.244.0.5 gw {condition}")])
    };
    assert_eq!(met(&twice("ready")), "dnat 10.244.0.5:8080", "listed once");
    assert_eq!(met(&twice("draining")), "dnat 10.244.0.5:8080", "local, as the fallback");
    assert_eq!(met(&twice("unready")), "reject NO_ENDPOINTS", "its conditions count");
}

#[test]
fn b4_one_address_with_two_ports_is_two_endpoints() {
    let text = web("")
        + &slice("web-1", &["10.244.1.7 n1 ready"])
        + &slice("web-2", &["10.244.1.7 n1 ready"]).replace("8080", "9090");
    assert_eq!(met(&text), "snat 10.244.1.7:8080 10.244.1.7:9090");
}

#[test]
fn b5_ports_match_by_name_and_protocol() {
    let with = |port: &str| {
        let slice = ready(&["10.244.1.7 n1 ready"]);
        met(&(web("") + &slice.replace("{name: \"\", port: 8080}", port)))
    };
    assert_eq!(with("{name: '', port: 8080, protocol: TCP}"), "snat 10.244.1.7:8080");
    for port in [
        "{name: '', port: 8080, protocol: UDP}",
        "{name: x, port: 8080}",
        "{name: ''}",
        "{name: '', port: 0}",
        "{port: 8080}",
    ] {
        assert_eq!(with(port), "reject NO_ENDPOINTS", "{port}");
    }
}

#[test]
fn b5_slices_without_a_port_of_that_name_are_told() {
    let told = |port: &str| {
        let slice = ready(&["10.244.1.7 n1 ready"]);
        let text = web("") + &slice.replace("{name: \"\", port: 8080}", port);
        Rig::attached().compile(&text).report[0].warnings.clone()
    };
    let words = "no TCP port of its EndpointSlices is called \"\": there is";
    assert_eq!(told("{name: x, port: 8080}"), [format!("{words} \"x\"")]);
    assert_eq!(told("{port: 8080}"), [format!("{words} none with a name")]);
    assert_eq!(told("{name: '', port: 8080, protocol: UDP}"), [format!("{words} \"\"")]);
    assert_eq!(told("{name: '', port: 8080}"), [""; 0]);
}

#[test]
fn b6_fqdn_slices_and_addresses_of_the_wrong_family_do_not_count() {
    let slice = ready(&["10.244.1.7 n1 ready"]);
    for (from, to) in [
        ("addressType: IPv4", "addressType: FQDN"),
        ("addressType: IPv4", "addressType: IPv6"),
        ("10.244.1.7", "'2001:db8::7'"),
    ] {
        assert_eq!(met_v4(&(web("") + &slice.replace(from, to))), "reject NO_ENDPOINTS", "{to}");
    }
    let fqdn = slice.replace("addressType: IPv4", "addressType: FQDN");
    let host = fqdn.replace("10.244.1.7", "db.example.com");
    assert_eq!(met_v4(&(web("") + &host)), "reject NO_ENDPOINTS");
}

#[test]
fn b7_b8_the_first_address_counts_and_no_node_name_is_not_local() {
    let slice = ready(&["10.244.0.5 gw ready"]);
    let two = slice.replace("[10.244.0.5]", "[10.244.0.5, 10.244.0.6]");
    assert_eq!(met(&(web(LOCAL) + &two)), "dnat 10.244.0.5:8080");
    let nowhere = slice.replace("nodeName: gw, ", "");
    assert_eq!(met(&(web(LOCAL) + &nowhere)), "drop NO_LOCAL_ENDPOINTS");
}

#[test]
fn b9_absent_conditions_are_ready_serving_and_not_terminating() {
    let with = |conditions: &str| {
        let slice = ready(&["10.244.1.7 n1 ready"]);
        met(&(web("") + &slice.replace("ready: true", conditions)))
    };
    for conditions in ["", "ready: null", "terminating: null", "serving: false"] {
        assert_eq!(with(conditions), "snat 10.244.1.7:8080", "{conditions}");
    }
    assert_eq!(with("ready: false, terminating: true"), "snat 10.244.1.7:8080", "still serving");
    assert_eq!(with("ready: false"), "reject NO_ENDPOINTS", "not terminating");
}

#[test]
fn b10_serving_alone_is_not_usable() {
    let conditions = "ready: false, serving: true, terminating: false";
    let slice = ready(&["10.244.1.7 n1 ready"]).replace("ready: true", conditions);
    assert_eq!(met(&(web("") + &slice)), "reject NO_ENDPOINTS");
}

#[test]
fn b11_ready_counts_whatever_else_is_said() {
    let conditions = "ready: true, serving: false, terminating: true";
    let slice = ready(&["10.244.1.7 n1 ready"]).replace("ready: true", conditions);
    assert_eq!(met(&(web("") + &slice)), "snat 10.244.1.7:8080");
}

#[test]
fn b14_an_endpoints_own_zone_is_not_asked() {
    let zones = |zone: &str| {
        let slice = ready(&["10.244.1.7 n1 ready"]);
        slice.replace("nodeName: n1", &format!("nodeName: n1, zone: {zone}"))
    };
    for zone in ["zone-a", "zone-b"] {
        let text = web("") + &zones(zone) + &node("zone-a");
        assert_eq!(met(&text), "snat 10.244.1.7:8080", "{zone}");
    }
}

/// A slice of three endpoints, on gw, n1 and n2, the last with this condition; each with its hints.
fn hinted(hints: [&str; 3], last: &str) -> String {
    let last = format!("10.244.1.8 n2 {last}");
    let text = ready(&["10.244.0.5 gw ready", "10.244.1.7 n1 ready", &last]);
    let mut lines: Vec<String> = text.lines().map(ToOwned::to_owned).collect();
    let count = lines.len();
    for (line, hints) in lines[count - 3..].iter_mut().zip(hints) {
        *line = line.replace("}}", &format!("}}, hints: {{{hints}}}}}"));
    }
    lines.join("\n") + "\n"
}

const ZONE_A: &str = "forZones: [{name: zone-a}]";
const ZONE_B: &str = "forZones: [{name: zone-b}]";
const ALL: &str = "snat 10.244.0.5:8080 10.244.1.7:8080 10.244.1.8:8080";

#[test]
fn c7_hints_keep_flows_in_the_zone() {
    let both = "forZones: [{name: zone-b}, {name: zone-a}]";
    let text = web("") + &hinted([ZONE_B, both, ZONE_A], "ready");
    assert_eq!(met(&(text.clone() + &node("zone-a"))), "snat 10.244.1.7:8080 10.244.1.8:8080");
    assert_eq!(met(&(text.clone() + &node("zone-c"))), ALL, "no hint names the zone");
    assert_eq!(met(&(text.clone() + &node("''"))), ALL, "the node's zone is empty");
    assert_eq!(met(&text), ALL, "the node is not known");
    let one_without = web("") + &hinted([ZONE_B, "", ZONE_A], "ready");
    assert_eq!(met(&(one_without + &node("zone-a"))), ALL, "one ready endpoint has no hint");
}

#[test]
fn c8_hints_for_nodes_come_before_those_for_zones() {
    let hint = |node: &str, zone: &str| format!("forNodes: [{{name: {node}}}], {zone}");
    let (n1, n2) = (hint("n1", ZONE_A), hint("n2", ZONE_B));
    let text = |first: &str| web("") + &hinted([first, &n1, &n2], "ready") + &node("zone-a");
    assert_eq!(met(&text(&hint("gw", ZONE_B))), "snat 10.244.0.5:8080");
    assert_eq!(met(&text(&hint("n1", ZONE_B))), "snat 10.244.1.7:8080", "else the zone");
    let without = met(&text(ZONE_A));
    assert_eq!(without, "snat 10.244.0.5:8080 10.244.1.7:8080", "one has no hint for nodes");
}

#[test]
fn c9_only_hints_decide() {
    let wish = ", trafficDistribution: PreferClose";
    let text = web(wish) + &hinted(["", "", ""], "ready") + &node("zone-a");
    assert_eq!(met(&text), ALL, "the wish alone does nothing");
}

#[test]
fn c10_endpoints_that_are_not_ready_do_not_spoil_the_hints() {
    for last in ["unready", "draining", "dead"] {
        let text = web("") + &hinted([ZONE_A, ZONE_B, ""], last) + &node("zone-a");
        assert_eq!(met(&text), "snat 10.244.0.5:8080", "{last}");
    }
}

#[test]
fn c1_terminating_endpoints_are_never_told_apart_by_hints() {
    let text = web("") + &hinted([ZONE_A, ZONE_B, ZONE_B], "draining");
    let text = text.replace("ready: true", "ready: false, serving: true, terminating: true");
    assert_eq!(met(&(text + &node("zone-a"))), ALL);
}

#[test]
fn c11_the_zone_is_followed_live() {
    let text = web("") + &hinted([ZONE_A, ZONE_B, ZONE_B], "ready");
    let mut rig = Rig::attached();
    let mut met = |zone| dump::met(&rig.compile(&(text.clone() + &node(zone))), "10.0.0.9", FRONT);
    assert_eq!(met("zone-a"), "snat 10.244.0.5:8080");
    assert_eq!(met("zone-b"), "snat 10.244.1.7:8080 10.244.1.8:8080");
}

#[test]
fn c12_policy_local_ignores_hints_and_the_pods_set_obeys_them() {
    let text = web(LOCAL) + &hinted([ZONE_B, ZONE_A, ZONE_B], "ready") + &node("zone-a");
    assert_eq!(met(&text), "dnat 10.244.0.5:8080");
    assert_eq!(met_by(&text, "10.244.0.6"), "dnat 10.244.1.7:8080");
    let dump = dump::reasons(&compile(&text.replace(LOCAL, "")));
    assert!(dump.contains("10.244.0.5:8080 meant for another node or zone"), "{dump}");
}

#[test]
fn e1_under_policy_cluster_pods_are_masqueraded_as_everybody_is() {
    let text = web("") + &ready(&["10.244.1.7 n1 ready"]) + &node("zone-a");
    assert_eq!(met_by(&text, "10.244.0.6"), "snat 10.244.1.7:8080");
}

#[test]
fn e3_e6_under_policy_local_pods_get_the_cluster_set_with_their_own_address() {
    let text = web(LOCAL) + &ready(&["10.244.0.5 gw ready", "10.244.1.7 n1 ready"]);
    let text = text + &node("zone-a");
    assert_eq!(met(&text), "dnat 10.244.0.5:8080");
    assert_eq!(met_by(&text, "10.244.0.6"), "dnat 10.244.0.5:8080 10.244.1.7:8080");
    let text = web(LOCAL) + &ready(&["10.244.1.7 n1 ready"]) + &node("zone-a");
    assert_eq!(met(&text), "drop NO_LOCAL_ENDPOINTS");
    assert_eq!(met_by(&text, "10.244.0.6"), "dnat 10.244.1.7:8080");
    let none = web(LOCAL) + &node("zone-a");
    assert_eq!(met_by(&none, "10.244.0.6"), "reject NO_ENDPOINTS", "D1");
}

#[test]
fn e5_without_pod_networks_pods_are_outside_clients() {
    let text = web(LOCAL) + &ready(&["10.244.1.7 n1 ready"]);
    let unknown = node("zone-a").replace("podCIDRs: [10.244.0.0/24]", "podCIDRs: []");
    for text in [text.clone(), text + &unknown] {
        assert_eq!(met_by(&text, "10.244.0.6"), "drop NO_LOCAL_ENDPOINTS");
    }
}

#[test]
fn e7_the_internal_policy_does_not_touch_these_fronts() {
    let pods = ready(&["10.244.1.7 n1 ready"]);
    let internal = ", internalTrafficPolicy: Local";
    assert_eq!(met(&(web(internal) + &pods)), "snat 10.244.1.7:8080");
    let both = format!("{internal}{LOCAL}");
    assert_eq!(met(&(web(&both) + &pods)), "drop NO_LOCAL_ENDPOINTS");
}
