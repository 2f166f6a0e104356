//! The program over single frames: verdict and counters of each case.

mod errors;
mod fragments;
mod headers;
mod vlans;

use crate::frames::{
    DESTINATION, ETHERNET_BYTES, Family, HOP_BY_HOP, OUR_MAC, ROAD_MAC, Segment, address, fragment,
    icmp_error, tcp, udp, with, with_extensions, with_options,
};
use crate::net::{index_of, now, run};
use crate::rig::{
    CONFIG, Expected, LO, OWNER, Rig, SLOT, TO_FRONT, WORKER, XSK_INDEX, client, draining_front,
    flow_key, front, front_key, reply,
};
use tidegate_dataplane::engine::Fallback;
use tidegate_dataplane::snapshot::Side;
use tidegate_dataplane::types::{FlowKey, IfIndex, MacAddress, Protocol, Time};
use tidegate_dataplane::verdict::PassReason;
use tidegate_dataplane::xdp::layout::{FRONT_CLUSTER, METADATA_MAGIC, Metadata};
use tidegate_dataplane::xdp::program::{Action, SteeringConfig};
use zerocopy::FromBytes;

const TO_OWNER: Expected = Expected::Redirected { owner: OWNER.0 as u16 };
const NO_SERVICE: Expected = Expected::Passed(PassReason::NoService);
const MALFORMED: Expected = Expected::Passed(PassReason::Malformed);

fn syn_of(family: Family) -> Vec<u8> {
    tcp(client(family), front(family), Segment::Syn)
}

fn syn() -> Vec<u8> {
    syn_of(Family::V4)
}

fn datagram(family: Family) -> Vec<u8> {
    udp(client(family), front(family))
}

fn reply_of(family: Family) -> Vec<u8> {
    tcp(reply(family).0, reply(family).1, Segment::SynAck)
}

#[test]
fn fronts_are_ours() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let (client, front) = (client(family), front(family));
        rig.expect("a SYN", &syn_of(family), TO_FRONT);
        rig.expect("mid-flow", &tcp(client, front, Segment::Ack), TO_FRONT);
        rig.expect("UDP", &datagram(family), TO_FRONT);
    }
}

#[test]
fn replies_are_ours_and_name_their_owner() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        rig.expect("a reply", &reply_of(family), TO_OWNER);
    }
}

#[test]
fn near_misses_pass() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let (backend, snat) = reply(family);
        let to = |v4, v6| tcp(client(family), address(family.pick(v4, v6)), Segment::Syn);
        let from = |v4, v6| tcp(address(family.pick(v4, v6)), snat, Segment::Ack);
        rig.expect("another port", &to("10.0.0.1:22", "[2001:db8::1]:22"), NO_SERVICE);
        let other = to("10.0.0.2:30080", "[2001:db8::2]:30080");
        rig.expect("another address", &other, NO_SERVICE);
        rig.expect("another prefix", &to("10.0.1.1:30080", "[2001:db9::1]:30080"), NO_SERVICE);
        let other = from("10.1.0.9:8081", "[fd00::9]:8081");
        rig.expect("another backend port", &other, NO_SERVICE);
        rig.expect("another backend", &from("10.1.0.8:8080", "[fd00::8]:8080"), NO_SERVICE);
        rig.expect("the reply's protocol", &udp(backend, snat), NO_SERVICE);
        rig.expect("the reply's other way", &tcp(snat, backend, Segment::Ack), NO_SERVICE);
        let (at, icmp) = family.pick((ETHERNET_BYTES + 9, 1), (ETHERNET_BYTES + 6, 58));
        rig.expect("ICMP", &with(syn_of(family), at, &[icmp]), NO_SERVICE);
        let not_ip = Expected::Passed(PassReason::NotIp);
        rig.expect("ARP", &with(syn_of(family), 12, &[8, 6]), not_ip);
    }
    rig.expect("IPv4 called IPv6", &with(syn(), 12, &[0x86, 0xdd]), MALFORMED);
    rig.expect("IPv6 called IPv4", &with(syn_of(Family::V6), 12, &[8, 0]), MALFORMED);
}

/// In our keys an IPv4 address is its mapped form: no IPv6 packet may claim to be it.
#[test]
fn mapped_addresses_pass() {
    let rig = Rig::new(&CONFIG);
    let mapped = |text: &str| address(&format!("[::ffff:{text}]:{}", front(Family::V4).port()));
    let to_front = tcp(client(Family::V6), mapped("10.0.0.1"), Segment::Syn);
    rig.expect("to a front of IPv4", &to_front, MALFORMED);
    let from = tcp(mapped("192.0.2.7"), front(Family::V6), Segment::Syn);
    rig.expect("from an IPv4 client", &from, MALFORMED);
}

#[test]
fn a_removed_front_and_a_removed_flow_pass() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let udp_front = front_key(front(family), Protocol::Udp);
        rig.steering.fronts.remove(&udp_front).unwrap();
        rig.steering.fronts.remove(&udp_front).unwrap();
        rig.expect("UDP to the removed front", &datagram(family), NO_SERVICE);
        rig.expect("TCP to the other", &syn_of(family), TO_FRONT);
        rig.steering.flows.remove_batch(&[flow_key(reply(family))]);
        rig.expect("a reply of the removed flow", &reply_of(family), NO_SERVICE);
    }
}

#[test]
fn frames_to_other_hosts_pass() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let to = |mac: [u8; 6]| with(syn_of(family), 0, &mac);
        rig.expect("unicast", &to([2, 0, 0, 0, 0, 9]), Expected::Passed(PassReason::OtherHost));
        let arp = with(to([0xff; 6]), 12, &[8, 6]);
        rig.expect("broadcast ARP", &arp, Expected::Passed(PassReason::NotIp));
        rig.expect("broadcast IP", &to([0xff; 6]), NO_SERVICE);
        let multicast = to(family.pick([1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1]));
        rig.expect("multicast IP", &multicast, NO_SERVICE);
    }
}

#[test]
fn every_byte_of_the_interfaces_address_counts() {
    let rig = Rig::new(&CONFIG);
    for byte in 0..6 {
        let mut frame = syn();
        frame[byte] ^= 0x80;
        rig.expect("one bit off", &frame, Expected::Passed(PassReason::OtherHost));
    }
}

#[test]
fn frames_to_the_devices_present_address_are_ours_though_we_were_told_another() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        // That of `lo`.
        rig.expect("present", &with(syn_of(family), 0, &[0; 6]), TO_FRONT);
        rig.expect("as told", &syn_of(family), TO_FRONT);
    }
}

#[test]
fn frames_from_the_road_are_not_seen_again() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let from_road = with(syn_of(family), 6, &ROAD_MAC);
        rig.expect("from the road", &from_road, Expected::PassedUncounted);
    }
    for byte in 6..12 {
        let mut frame = with(syn(), 6, &ROAD_MAC);
        frame[byte] ^= 0x80;
        rig.expect("one bit off", &frame, TO_FRONT);
    }
}

#[test]
fn a_draining_front_keeps_only_its_flows() {
    let rig = Rig::new(&CONFIG);
    let draining = Expected::Passed(PassReason::DrainingFront);
    for family in Family::ALL {
        let (client, front) = (client(family), draining_front(family));
        let segment = |segment| tcp(client, front, segment);
        rig.expect("a SYN", &segment(Segment::Syn), draining);
        rig.expect("UDP", &udp(client, front), draining);
        rig.expect("mid-flow", &segment(Segment::Ack), TO_FRONT);
        rig.expect("SYN and ACK", &segment(Segment::SynAck), TO_FRONT);
        rig.steering.fronts.insert(&front_key(front, Protocol::Tcp), 0).unwrap();
        rig.expect("a SYN once it is back", &segment(Segment::Syn), TO_FRONT);
    }
}

#[test]
fn d7_a_cluster_ip_is_a_front_where_pods_are_alone() {
    let rig = Rig::new(&CONFIG);
    for family in Family::ALL {
        let (pod, cluster) = (client(family), address(family.pick("10.96.0.1:80", "[fd00::a]:80")));
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let front = front_key(cluster, protocol);
            rig.steering.fronts.insert(&front, FRONT_CLUSTER).unwrap();
        }
        let (pod_side, client_side) = (TO_FRONT, NO_SERVICE);
        let fragments = (TO_FRONT, Expected::Passed(PassReason::Fragment));
        for (side, ours, first) in
            [(Side::Clients, client_side, fragments.1), (Side::Pods, pod_side, fragments.0)]
        {
            rig.steering.interfaces.set(LO, SLOT, MacAddress(OUR_MAC), side).unwrap();
            rig.expect("a SYN", &tcp(pod, cluster, Segment::Syn), ours);
            rig.expect("mid-flow", &tcp(pod, cluster, Segment::Ack), ours);
            rig.expect("UDP", &udp(pod, cluster), ours);
            let kind = family.pick((3, 0), (1, 0));
            let error = icmp_error(pod.ip(), kind, &udp(cluster, pod));
            rig.expect("an error", &error, ours);
            let piece = |offset| fragment(udp(pod, cluster), offset, 7);
            rig.expect("a first fragment", &piece(1), first);
            rig.expect("a later one", &piece(0xfff8), first);
            rig.expect("another front", &syn_of(family), TO_FRONT);
            let other = address(family.pick("10.96.0.1:81", "[fd00::a]:81"));
            rig.expect("another port", &tcp(pod, other, Segment::Syn), NO_SERVICE);
        }
    }
}

/// Only a SYN to a front may pass; the rest of ours would draw a reset.
fn expect_nobody_there(rig: &Rig, syn_to_front: Expected) {
    for family in Family::ALL {
        let (client, front) = (client(family), front(family));
        rig.expect("a SYN", &syn_of(family), syn_to_front);
        let mid_flow = |segment| tcp(client, front, segment);
        rig.expect("mid-flow", &mid_flow(Segment::Ack), Expected::StaleDropped);
        rig.expect("SYN and ACK", &mid_flow(Segment::SynAck), Expected::StaleDropped);
        rig.expect("UDP", &datagram(family), Expected::StaleDropped);
        rig.expect("a reply", &reply_of(family), Expected::StaleDropped);
        let syn_to_flow = tcp(reply(family).0, reply(family).1, Segment::Syn);
        rig.expect("a SYN to a flow", &syn_to_flow, Expected::StaleDropped);
        let nobodys = address(family.pick("10.0.0.1:22", "[2001:db8::1]:22"));
        rig.expect("not ours", &tcp(client, nobodys, Segment::Ack), NO_SERVICE);
    }
}

#[test]
fn a_stale_workers_new_flows_pass_and_the_rest_is_dropped() {
    let rig = Rig::new(&CONFIG);
    rig.stop_beating();
    expect_nobody_there(&rig, Expected::Passed(PassReason::Fallback));
    rig.beat(now());
    rig.expect("once it beats again", &syn(), TO_FRONT);
    // The coarse clock lags: a beat may lie in its future.
    rig.beat(Time(now().0 + 50_000_000));
    rig.expect("a beat from the future", &syn(), TO_FRONT);
}

#[test]
fn a_stale_workers_new_flows_are_dropped_where_the_operator_says_so() {
    let rig = Rig::new(&SteeringConfig { fallback: Fallback::Drop, ..CONFIG });
    rig.expect("while it lives", &syn(), TO_FRONT);
    rig.stop_beating();
    expect_nobody_there(&rig, Expected::StaleDropped);
}

#[test]
fn a_worker_that_never_beat_is_stale() {
    let rig = Rig::new(&CONFIG);
    rig.beat(Time(0));
    expect_nobody_there(&rig, Expected::Passed(PassReason::Fallback));
}

#[test]
fn without_a_socket_it_is_as_with_a_stale_worker() {
    let rig = Rig::new(&CONFIG);
    rig.steering.xsks.clear(XSK_INDEX).unwrap();
    rig.steering.xsks.clear(XSK_INDEX).unwrap();
    expect_nobody_there(&rig, Expected::Passed(PassReason::Fallback));
}

#[test]
fn without_a_queue_it_is_as_with_a_stale_worker() {
    let rig = Rig::new(&CONFIG);
    rig.steering.queues.remove(LO, 0).unwrap();
    rig.steering.queues.remove(LO, 0).unwrap();
    expect_nobody_there(&rig, Expected::Passed(PassReason::Fallback));
    rig.steering.queues.set(LO, 1, XSK_INDEX, WORKER).unwrap();
    rig.expect("another queue", &syn(), Expected::Passed(PassReason::Fallback));
}

#[test]
fn each_queue_has_its_own_worker() {
    let rig = Rig::new(&CONFIG);
    run("ip link add eth0 numrxqueues 2 type veth peer name eth1 numrxqueues 2 numtxqueues 2");
    let eth0 = index_of("eth0");
    rig.steering.interfaces.set(eth0, SLOT, MacAddress(OUR_MAC), Side::Clients).unwrap();
    rig.steering.queues.set(eth0, 1, XSK_INDEX, WORKER).unwrap();
    let action = |queue| rig.steering.trial((eth0, queue), &syn()).unwrap().action;
    assert_eq!(action(1), Action::Redirect);
    assert_eq!(action(0), Action::Pass);
    rig.steering.queues.set(eth0, 0, XSK_INDEX, OWNER).unwrap();
    assert_eq!(action(0), Action::Pass, "the worker of queue 0 has never beaten");
    rig.steering.heartbeats.beat(OWNER, now());
    assert_eq!(action(0), Action::Redirect);
}

#[test]
fn an_interface_out_of_service_passes_uncounted() {
    let rig = Rig::new(&CONFIG);
    rig.steering.interfaces.remove(LO).unwrap();
    rig.steering.interfaces.remove(LO).unwrap();
    rig.steering.interfaces.remove(IfIndex(99)).unwrap();
    rig.expect("ours otherwise", &syn(), Expected::PassedUncounted);
}

#[test]
fn redirected_frames_bear_metadata() {
    let rig = Rig::new(&SteeringConfig { latency_sample: 1, ..CONFIG });
    let before = now();
    let trial = rig.expect("sampled", &reply_of(Family::V6), TO_OWNER);
    let after = now();
    let (metadata, _) = Metadata::read_from_prefix(&trial.output).unwrap();
    assert_eq!((metadata.magic, metadata.zero), (METADATA_MAGIC, 0));
    assert!((before.0..=after.0).contains(&metadata.stamp_ns), "{metadata:?}");
}

#[test]
fn stamps_are_sampled() {
    let stamps = |latency_sample| {
        let rig = Rig::new(&SteeringConfig { latency_sample, ..CONFIG });
        let stamp = |_| {
            let trial = rig.expect("a SYN", &syn(), TO_FRONT);
            Metadata::read_from_prefix(&trial.output).unwrap().0.stamp_ns
        };
        (0..1000).map(stamp).filter(|stamp| *stamp != 0).count()
    };
    assert_eq!(stamps(0), 0);
    // 100 expected, standard deviation 9.5.
    assert!((30..=170).contains(&stamps(10)), "far from one in ten");
}

#[test]
fn the_sum_closes_over_random_frames() {
    let rig = Rig::new(&CONFIG);
    let extended = with_extensions(reply_of(Family::V6), &[(HOP_BY_HOP, 8), (DESTINATION, 16)]);
    let mut seeds = vec![with_options(reply_of(Family::V4), 3), extended];
    for family in Family::ALL {
        seeds.extend([syn_of(family), datagram(family)]);
        seeds.extend([1, 9].map(|offset| fragment(datagram(family), offset, 7)));
        let sent = udp(front(family), client(family));
        seeds.push(icmp_error(client(family).ip(), (family.pick(3, 1), 1), &sent));
    }
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for round in 0..20_000 {
        let mut frame = seeds[round % seeds.len()].clone();
        for _ in 0..next(4) {
            let at = next(frame.len());
            frame[at] = u8::try_from(next(256)).unwrap();
        }
        frame.truncate(ETHERNET_BYTES + next(frame.len() - ETHERNET_BYTES + 1));
        rig.steering.trial((LO, 0), &frame).unwrap();
    }
    let counters = rig.steering.counters.read(SLOT).unwrap();
    let passed: u64 = counters.passed_packets.iter().sum();
    let ours = counters.redirected_packets + counters.stale_dropped_packets;
    assert!(counters.received_packets > 19_800, "{counters:?}");
    assert!(counters.redirected_packets > 0 && passed > 0, "{counters:?}");
    assert_eq!(counters.received_packets, passed + ours, "{counters:?}");
}

#[test]
fn a_flow_key_is_the_programs_key() {
    assert_eq!(size_of::<FlowKey>(), 40);
}
