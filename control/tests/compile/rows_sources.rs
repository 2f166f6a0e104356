//! Row by row of `docs/semantics.md`: whom a VIP lets in, and affinity (F); over both families,
//! where nothing else is said.

use crate::dump;
use crate::rig::{Rig, node, slice, vip, web};
use crate::twin;
use std::time::Duration;

const VIP: &str = "192.0.2.1:80/TCP";
const NODE_PORT: &str = "10.0.0.1:30081/TCP";
const DENIED: &str = "drop DENIED_BY_LB_SRC_RANGE_CHECK";
const SERVED: &str = "snat 10.244.1.7:8080";

/// A VIP with these source ranges and one endpoint; what `source` meets at `front`.
fn met(ranges: &str, source: &str, front: &str) -> String {
    let (text, met) = met_v4(ranges, source, front);
    let (text, source, front) = (twin::of(&text), twin::of(source), twin::of(front));
    let twins = dump::met(&Rig::attached().compile(&text), &source, &front);
    assert_eq!(twins, twin::of(&met), "{text}");
    met
}

/// The manifest, and what IPv4 meets.
fn met_v4(ranges: &str, source: &str, front: &str) -> (String, String) {
    let ranges = format!(", loadBalancerSourceRanges: [{ranges}], externalIPs: [198.51.100.9]");
    let text = vip("web", "[{ip: 192.0.2.1}]", &ranges)
        + &slice("web-1", &["10.244.1.7 n1 ready"])
        + &node("zone-a");
    let met = dump::met(&Rig::attached().compile(&text), source, front);
    (text, met)
}

#[test]
fn f1_ranges_guard_vips_alone() {
    for (source, expected) in [
        ("10.1.0.0", SERVED),
        ("10.1.255.255", SERVED),
        ("203.0.113.7", SERVED),
        ("10.0.255.255", DENIED),
        ("10.2.0.0", DENIED),
        ("203.0.113.8", DENIED),
    ] {
        let met = |front| met("10.1.0.0/16, 203.0.113.7/32", source, front);
        assert_eq!(met(VIP), expected, "{source}");
        assert_eq!(met(NODE_PORT), SERVED, "{source}");
        assert_eq!(met("198.51.100.9:80/TCP"), SERVED, "{source}");
    }
    assert_eq!(met("", "10.2.0.0", VIP), SERVED, "no range: everybody");
}

#[test]
fn f2_pods_are_asked_too() {
    assert_eq!(met("10.1.0.0/16", "10.244.0.6", VIP), DENIED);
    assert_eq!(met("10.1.0.0/16, 10.244.0.0/16", "10.244.0.6", VIP), SERVED);
}

#[test]
fn f4_ranges_of_the_other_family_guard_nothing() {
    let other = |ranges: &str| met_v4(ranges, "10.2.0.0", VIP).1;
    assert_eq!(other("'2001:db8::/32'"), SERVED);
    assert_eq!(other("'::/0', 10.1.0.0/16"), DENIED);
    assert_eq!(other("0.0.0.0/0"), SERVED);
    // The twin of the client, and ranges of IPv4 that are no twins.
    let other = |ranges: &str| {
        let ranges =
            format!(", ipFamilyPolicy: PreferDualStack, loadBalancerSourceRanges: {ranges}");
        let text = vip("web", "[{ip: '2001:db8::9'}]", &ranges);
        dump::met(&Rig::attached().compile(&text), "2001:db8::7", "2001:db8::9:80/TCP")
    };
    assert_eq!(other("[10.1.0.0/16]"), "reject NO_ENDPOINTS");
    assert_eq!(other("[0.0.0.0/0, 'fd00::/8']"), DENIED);
    assert_eq!(other("[0.0.0.0/0, '2001:db8::/32']"), "reject NO_ENDPOINTS");
}

#[test]
fn f5_without_endpoints_ranges_come_first() {
    let ranges = ", loadBalancerSourceRanges: [10.1.0.0/16]";
    let compiled = Rig::attached().compile(&vip("web", "[{ip: 192.0.2.1}]", ranges));
    assert_eq!(dump::met(&compiled, "10.1.0.9", VIP), "reject NO_ENDPOINTS");
    assert_eq!(dump::met(&compiled, "10.2.0.9", VIP), DENIED);
    assert_eq!(dump::met(&compiled, "10.2.0.9", NODE_PORT), "reject NO_ENDPOINTS");
}

#[test]
fn f6_the_annotation_is_not_read_and_a10_blanks_are_trimmed() {
    let text = vip("web", "[{ip: 192.0.2.1}]", "").replace(
        "{name: web}",
        "{name: web, annotations: {service.beta.kubernetes.io/load-balancer-source-ranges: \
         10.1.0.0/16}}",
    );
    let compiled = Rig::attached().compile(&text);
    assert_eq!(dump::met(&compiled, "10.2.0.9", VIP), "reject NO_ENDPOINTS");
    assert_eq!(met("' 10.1.0.0/16 '", "10.1.0.9", VIP), SERVED);
    assert_eq!(met("010.001.0.0/16", "10.1.0.9", VIP), SERVED);
}

#[test]
fn f13_f17_affinity_and_its_timeout_follow_the_service() {
    let mut rig = Rig::attached();
    let mut timeout = |spec: &str| {
        let text = web(spec) + &slice("web-1", &["10.244.1.7 n1 ready"]);
        let compiled = rig.compile(&text);
        assert_eq!(compiled.report[0].warnings, Vec::<String>::new());
        compiled.snapshot.fronts.values().next().unwrap().service.affinity_timeout
    };
    let config = ", sessionAffinityConfig: {clientIP: {timeoutSeconds: 90}}";
    assert_eq!(timeout(""), None);
    assert_eq!(timeout(", sessionAffinity: ClientIP"), Some(Duration::from_hours(3)));
    let ninety = format!(", sessionAffinity: ClientIP{config}");
    assert_eq!(timeout(&ninety), Some(Duration::from_secs(90)));
    assert_eq!(timeout(&format!(", sessionAffinity: None{config}")), None);
}
