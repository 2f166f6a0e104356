//! Events, from manifests and what became of them: only what changed is told.

use crate::rig::{Rig, slice, state, web};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use tidegate_control::events::watcher::InterfaceFact;
use tidegate_control::events::{Event, Facts, Watcher};

/// A gateway whose events are looked at after each change.
struct Gateway {
    rig: Rig,
    watcher: Watcher,
    attached: BTreeMap<String, InterfaceFact>,
}

impl Gateway {
    fn new() -> Self {
        Self { rig: Rig::attached(), watcher: Watcher::new("gw"), attached: BTreeMap::new() }
    }

    /// What is told after the manifest became so.
    fn told(&mut self, manifest: &str) -> String {
        self.told_with(manifest, None)
    }

    fn told_with(&mut self, manifest: &str, refused: Option<&str>) -> String {
        self.rig.compile(manifest);
        let (cluster, attached) = (state(manifest), self.attached.clone());
        let facts = Facts { cluster: &cluster, reports: self.rig.reports(), attached, refused };
        let events = self.watcher.look(&facts);
        events.iter().map(|event| line(event) + "\n").collect()
    }
}

fn line(Event { subject, reason, note }: &Event) -> String {
    format!("{} {} {subject} {note}", reason.type_name(), reason.name())
}

const READY: &str = "10.244.1.7 other ready";
const DRAINING: &str = "10.244.1.7 other draining";
const DEAD: &str = "10.244.1.7 other dead";

#[test]
fn a_service_that_loses_its_backends_is_told_once_and_told_again_when_they_are_back() {
    let mut gateway = Gateway::new();
    let with = |condition: &str| web("") + &slice("web-1", &[condition]);
    assert_eq!(gateway.told(&web("")), "", "a new Service has its endpoints later");
    assert_eq!(gateway.told(&with(READY)), "");
    assert_eq!(gateway.told(&with(DRAINING)), "", "it still serves");
    let lost = "Warning NoReadyBackends service/web no ready endpoint for port 80/TCP\n";
    assert_eq!(gateway.told(&with(DEAD)), lost);
    assert_eq!(gateway.told(&web("")), "", "it was told");
    let back = "Normal BackendsRestored service/web every port has a ready endpoint again\n";
    assert_eq!(gateway.told(&with(READY)), back);
    assert_eq!(gateway.told(&with(READY)), "");
    assert_eq!(gateway.told(""), "", "a Service that is deleted is no news");
}

#[test]
fn what_a_service_asks_for_and_does_not_get_is_told_once_for_each_form_of_it() {
    let mut gateway = Gateway::new();
    let sctp =
        web("").replace("{port: 80,", "{name: a, port: 9, protocol: SCTP}, {name: b, port: 80,");
    let told = "Warning UnsupportedField service/web port 9 is SCTP: not served\n";
    assert_eq!(gateway.told(&sctp), told);
    assert_eq!(gateway.told(&sctp), "");
    let other = sctp.replace("port: 9,", "port: 10,");
    assert_eq!(gateway.told(&other), told.replace("port 9", "port 10"));
    assert_eq!(gateway.told(&web("")), "");
    assert_eq!(gateway.told(&sctp), told, "it is asked for anew");
}

#[test]
fn a_port_that_is_left_to_the_kernel_is_told() {
    let mut gateway = Gateway::new();
    let own = web("") + &slice("web-1", &["10.0.0.1 gw ready"]);
    let told = gateway.told(&own);
    let begin = "Warning PortNotServed service/web port 80/TCP: left to the kernel: LOCAL_BACKEND";
    assert!(told.starts_with(begin), "{told}");
    assert_eq!(gateway.told(&own), "");
}

#[test]
fn b6_an_address_of_another_family_than_its_slices_is_told() {
    let mut gateway = Gateway::new();
    let mixed = web("") + &slice("web-1", &[READY, "'2001:db8::7' other ready"]);
    let told = "Warning KubeProxyIncorrectIPVersion service/web EndpointSlice web-1: 2001:db8::7 \
                is not of its addressType: skipped\n";
    assert_eq!(gateway.told(&mixed), told);
    assert_eq!(gateway.told(&mixed), "");
}

#[test]
fn interfaces_and_refusals_are_the_nodes() {
    let mut gateway = Gateway::new();
    let fact = |refused: Option<&str>| InterfaceFact {
        modes: "native XDP, COPY".to_owned(),
        zero_copy_refused: refused.map(str::to_owned),
    };
    gateway.attached.insert("eth0".to_owned(), fact(Some("EOPNOTSUPP")));
    let told = "Normal XdpAttached node/gw eth0: native XDP, COPY\n\
                Warning CopyModeFallback node/gw eth0: packets are copied: EOPNOTSUPP\n";
    assert_eq!(gateway.told(""), told);
    gateway.attached.insert("eth1".to_owned(), fact(None));
    assert_eq!(gateway.told(""), "Normal XdpAttached node/gw eth1: native XDP, COPY\n");
    let refused = "Warning ConfigRefused node/gw a.yaml:3: no; the last good state serves on\n";
    assert_eq!(gateway.told_with("", Some("a.yaml:3: no")), refused);
    assert_eq!(gateway.told_with("", Some("a.yaml:3: no")), "");
    gateway.attached.remove("eth0");
    assert_eq!(gateway.told(""), "");
    gateway.attached.insert("eth0".to_owned(), fact(None));
    assert_eq!(gateway.told(""), "Normal XdpAttached node/gw eth0: native XDP, COPY\n");
}

#[test]
fn a_full_flow_table_is_told_at_most_once_a_minute() {
    let (mut watcher, start) = (Watcher::new("gw"), Instant::now());
    let mut told = |drops, seconds| {
        let event = watcher.flow_table(drops, start + Duration::from_secs(seconds));
        event.map(|event| line(&event))
    };
    assert_eq!(told(0, 0), None);
    let first = "Warning FlowTableFull node/gw 7 packets of new flows dropped; raise \
                 conntrack.maxFlows";
    assert_eq!(told(7, 1).as_deref(), Some(first));
    assert_eq!(told(9, 60), None);
    assert_eq!(told(9, 61).as_deref(), Some(first.replace("7 packets", "2 packets").as_str()));
    assert_eq!(told(9, 200), None);
}
