//! Health, from manifests: which Services have a check, what it counts, when the node is eligible.

use crate::rig::{self, Rig, state};
use tidegate_control::health::view::{is_eligible, service_checks};

/// A Service with a health check port, its type, policy and ports as given.
fn checked(spec: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec: \
         {{healthCheckNodePort: 32000, ports: [{{name: a, port: 80}}, {{name: b, port: 81}}], \
         {spec}}}\n"
    )
}

const LOCAL: &str = "type: LoadBalancer, externalTrafficPolicy: Local";

/// A slice of `web` with two ports.
fn slice(endpoints: &[&str]) -> String {
    let two = "[{name: a, port: 8080}, {name: b, port: 8081}]";
    rig::slice("web-1", endpoints).replace("[{name: \"\", port: 8080}]", two)
}

/// The checks of a manifest as `port count`.
fn checks(manifest: &str) -> Vec<String> {
    let mut rig = Rig::attached();
    rig.compile(manifest);
    let checks = service_checks(&state(manifest), rig.reports());
    checks.values().map(|check| format!("{} {}", check.port, check.local_ready)).collect()
}

#[test]
fn h1_only_load_balancers_with_policy_local_and_a_number_have_a_check() {
    assert_eq!(checks(&checked(LOCAL)), ["32000 0"]);
    for other in [
        "type: LoadBalancer",
        "type: NodePort, externalTrafficPolicy: Local",
        "type: LoadBalancer, externalTrafficPolicy: Local, clusterIP: None",
    ] {
        assert_eq!(checks(&checked(other)), [""; 0], "{other}");
    }
    let unnumbered = checked(LOCAL).replace("healthCheckNodePort: 32000, ", "");
    assert_eq!(checks(&unnumbered), [""; 0]);
}

#[test]
fn h5_distinct_ready_local_addresses_over_all_ports_are_counted() {
    let manifest = checked(LOCAL)
        + &slice(&["10.244.0.5 gw ready", "10.244.0.6 gw ready", "10.244.1.7 other ready"]);
    assert_eq!(checks(&manifest), ["32000 2"]);
}

#[test]
fn h5_terminating_ones_do_not_count_although_they_may_carry_traffic() {
    let terminating = "10.244.0.5 gw draining";
    let manifest = checked(LOCAL) + &slice(&[terminating]);
    assert_eq!(checks(&manifest), ["32000 0"]);
}

#[test]
fn h10_a_node_is_eligible_unless_it_is_deleted_or_marked_or_not_seen() {
    let node = |extra: &str| {
        let text = format!("apiVersion: v1\nkind: Node\nmetadata: {{name: gw{extra}}}\n");
        is_eligible(&state(&text), "gw", true)
    };
    assert!(node(""));
    assert!(!node(", deletionTimestamp: 2026-01-01T00:00:00Z"));
    let tainted = |key: &str| {
        node(&format!(
            "}}\nspec: {{unschedulable: true, taints: [{{key: {key}, effect: NoSchedule}}]"
        ))
    };
    assert!(!tainted("ToBeDeletedByClusterAutoscaler"));
    assert!(tainted("node.kubernetes.io/unschedulable"), "a cordoned node is eligible");
    assert!(!is_eligible(&state(""), "gw", true), "not seen");
    assert!(is_eligible(&state(""), "gw", false), "manifests need not hold a Node");
}
