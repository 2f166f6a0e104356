//! Pods on a bridge: behind which of its ports, and with which link addresses.

use crate::dump;
use crate::rig::{CNI0, Compilation, ETH0, ETH1, Rig, VETH_A, VETH_B, mac, slice, web};
use tidegate_control::netlink::NeighbourState;
use tidegate_dataplane::snapshot::NextHopState;
use tidegate_dataplane::types::{InterfaceSlot, IpAddress, MacAddress};

/// `veth-a` and `veth-b` as ports of `cni0`, behind which the pod network is.
fn bridged() -> Rig {
    let mut rig = Rig::new();
    rig.add_link(CNI0, "cni0");
    rig.add_address(CNI0, "10.244.0.1");
    rig.remove_routes();
    rig.add_route("10.244.0.0/24", CNI0, None);
    [VETH_A, VETH_B].into_iter().for_each(|port| rig.enslave(port, CNI0));
    rig
}

#[test]
fn a_pod_on_a_bridge_is_behind_the_port_that_the_bridge_has_learnt() {
    let mut rig = bridged();
    let text = web("") + &slice("web-1", &["10.244.0.6 gw ready"]);
    let names = |compiled: &Compilation| {
        compiled.wanted.iter().map(|w| w.request.name.clone()).collect::<Vec<_>>().join(" ")
    };
    let compiled = rig.compile(&text);
    assert!(dump::reasons(&compiled).contains("neighbour 10.244.0.6 unresolved on cni0"));
    assert_eq!(*compiled.probes, [(CNI0, "10.244.0.6".parse().unwrap())]);
    let pod = MacAddress([10, 0, 0, 0, 0, 6]);
    rig.set_neighbour(CNI0, "10.244.0.6", NeighbourState::Known(pod));
    let compiled = rig.compile(&text);
    let reasons = dump::reasons(&compiled);
    assert!(reasons.contains("cni0 does not know the port of 10.244.0.6"), "{reasons}");
    assert_eq!(names(&compiled), "eth0 eth1", "no pod in use behind any port yet");
    rig.teach(CNI0, pod, VETH_B);
    let compiled = rig.compile(&text);
    assert_eq!(names(&compiled), "eth0 eth1 veth-b");
    let own = MacAddress([2, 0, 0, 0, 0, 6]);
    assert_eq!(compiled.wanted[2].request.mac, own, "frames for the node bear the bridge's");

    rig.attached = [(InterfaceSlot(1), ETH0), (InterfaceSlot(3), VETH_B)].into();
    let compiled = rig.compile(&text);
    let hop = compiled.snapshot.next_hops.get(0).unwrap();
    assert_eq!((hop.state, hop.egress), (NextHopState::Resolved, InterfaceSlot(3)));
    assert_eq!((hop.source_mac, hop.destination_mac), (own, pod));
    assert_eq!(hop.snat_address, Some(IpAddress::v4([10, 244, 0, 1])), "the bridge's");
    assert_eq!(compiled.snapshot.interface(InterfaceSlot(3)).unwrap().mac, own);
}

#[test]
fn a_bridge_that_forgets_or_moves_a_pod_is_followed() {
    let mut rig = bridged();
    let text = web("") + &slice("web-1", &["10.244.0.6 gw ready"]);
    let pod = MacAddress([10, 0, 0, 0, 0, 6]);
    rig.set_neighbour(CNI0, "10.244.0.6", NeighbourState::Known(pod));
    rig.teach(CNI0, pod, VETH_B);
    rig.attached = [(InterfaceSlot(3), VETH_A), (InterfaceSlot(4), VETH_B)].into();
    let egress = |compiled: &Compilation| compiled.snapshot.next_hops.get(0).unwrap().egress;
    assert_eq!(egress(&rig.compile(&text)), InterfaceSlot(4));
    rig.forget_ports();
    assert_eq!(egress(&rig.compile(&text)), InterfaceSlot(4), "a pod may be silent for long");
    rig.teach(CNI0, pod, VETH_A);
    assert_eq!(egress(&rig.compile(&text)), InterfaceSlot(3));
    rig.forget_ports();
    rig.set_neighbour(CNI0, "10.244.0.6", NeighbourState::Known(mac(ETH1)));
    let compiled = rig.compile(&text);
    assert_eq!(egress(&compiled), InterfaceSlot(0), "another pod has the address now");
}

#[test]
fn a_bridge_by_name_is_refused_with_what_to_name_instead() {
    let mut rig = bridged();
    rig.config.interfaces[0].name = "cni0".to_owned();
    let warnings = &rig.compile("").warnings;
    assert!(warnings[0].contains("ip link show master cni0"), "{warnings:?}");
}

#[test]
fn an_interface_whose_packets_do_not_fit_a_frame_is_left_and_says_what_to_type() {
    let mut rig = Rig::attached();
    let text = web("") + &slice("web-1", &["10.244.1.7 n1 ready"]);
    assert_eq!(rig.compile(&text).wanted.iter().filter(|wanted| wanted.is_needed).count(), 2);
    rig.link_mut("eth1").mtu_bytes = 3000;
    let compiled = rig.compile(&text);
    assert!(compiled.wanted.iter().all(|wanted| wanted.request.name != "eth1"));
    let fix = "memory.frameSize: 4096 takes an MTU of up to 3822";
    assert!(compiled.warnings[0].ends_with(fix), "{:?}", compiled.warnings);
    let [left_out] = &*compiled.left_out else { panic!("{:?}", compiled.left_out) };
    assert_eq!((left_out.index, &*left_out.name), (ETH1, "eth1"));
    assert!(left_out.reason.starts_with("its MTU is 3000") && left_out.reason.ends_with(fix));
    rig.attached.retain(|_, index| *index != ETH1);
    let told = rig.compile(&text).report[0].backends[0].reason.clone().unwrap();
    assert!(told.ends_with(fix), "{told}");
    rig.config.memory.frame_size = 4096;
    let compiled = rig.compile(&text);
    assert!(compiled.wanted.iter().any(|wanted| wanted.request.name == "eth1"));
    assert!(compiled.warnings.is_empty(), "{:?}", compiled.warnings);
    assert!(compiled.left_out.is_empty(), "{:?}", compiled.left_out);
}
