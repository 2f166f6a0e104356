//! The program over single frames: verdict and counters of each case.

use crate::frames::{
    ETHERNET_BYTES, IP_BYTES, OUR_MAC, ROAD_MAC, Segment, address, tcp, udp, with, with_options,
    with_tag, with_total_length,
};
use crate::net::{index_of, now, run};
use crate::rig::{
    CONFIG, Expected, LO, OWNER, Rig, SLOT, TO_FRONT, WORKER, XSK_INDEX, client, draining_front,
    flow_key, front, front_key, reply,
};
use tidegate_dataplane::engine::Fallback;
use tidegate_dataplane::types::{FlowKey, IfIndex, MacAddress, Protocol, Time};
use tidegate_dataplane::verdict::PassReason;
use tidegate_dataplane::xdp::layout::{METADATA_MAGIC, Metadata};
use tidegate_dataplane::xdp::program::{Action, SteeringConfig};
use zerocopy::FromBytes;

const TO_OWNER: Expected = Expected::Redirected { owner: OWNER.0 as u16 };

fn syn() -> Vec<u8> {
    tcp(client(), front(), Segment::Syn)
}

fn reply_frame() -> Vec<u8> {
    tcp(reply().0, reply().1, Segment::SynAck)
}

#[test]
fn fronts_are_ours() {
    let rig = Rig::new(&CONFIG);
    rig.expect("a SYN", &syn(), TO_FRONT);
    rig.expect("mid-flow", &tcp(client(), front(), Segment::Ack), TO_FRONT);
    rig.expect("UDP", &udp(client(), front()), TO_FRONT);
}

#[test]
fn replies_are_ours_and_name_their_owner() {
    let rig = Rig::new(&CONFIG);
    rig.expect("a reply", &reply_frame(), TO_OWNER);
}

#[test]
fn near_misses_pass() {
    let rig = Rig::new(&CONFIG);
    let (backend, snat) = reply();
    let no_service = Expected::Passed(PassReason::NoService);
    let other = |text| tcp(address(text), snat, Segment::Ack);
    rig.expect("another port", &tcp(client(), address("10.0.0.1:22"), Segment::Syn), no_service);
    rig.expect(
        "another address",
        &tcp(client(), address("10.0.0.2:30080"), Segment::Syn),
        no_service,
    );
    rig.expect("another backend port", &other("10.1.0.9:8081"), no_service);
    rig.expect("another backend", &other("10.1.0.8:8080"), no_service);
    rig.expect("the reply's protocol", &udp(backend, snat), no_service);
    rig.expect("the reply's other way", &tcp(snat, backend, Segment::Ack), no_service);
    rig.expect("ICMP", &with(syn(), ETHERNET_BYTES + 9, &[1]), no_service);
    rig.expect("IPv6", &with(syn(), 12, &[0x86, 0xdd]), no_service);
    rig.expect("ARP", &with(syn(), 12, &[8, 6]), Expected::Passed(PassReason::NotIp));
}

#[test]
fn a_removed_front_and_a_removed_flow_pass() {
    let rig = Rig::new(&CONFIG);
    let no_service = Expected::Passed(PassReason::NoService);
    let udp_front = front_key(front(), Protocol::Udp);
    rig.steering.fronts.remove(&udp_front).unwrap();
    rig.steering.fronts.remove(&udp_front).unwrap();
    rig.expect("UDP to the removed front", &udp(client(), front()), no_service);
    rig.expect("TCP to the other", &syn(), TO_FRONT);
    rig.steering.flows.remove_batch(&[flow_key(reply())]);
    rig.expect("a reply of the removed flow", &reply_frame(), no_service);
}

#[test]
fn frames_to_other_hosts_pass() {
    let rig = Rig::new(&CONFIG);
    let to = |mac: [u8; 6]| with(syn(), 0, &mac);
    rig.expect("unicast", &to([2, 0, 0, 0, 0, 9]), Expected::Passed(PassReason::OtherHost));
    let arp = with(to([0xff; 6]), 12, &[8, 6]);
    rig.expect("broadcast ARP", &arp, Expected::Passed(PassReason::NotIp));
    rig.expect("broadcast IP", &to([0xff; 6]), Expected::Passed(PassReason::NoService));
    let multicast = to([1, 0, 0x5e, 0, 0, 1]);
    rig.expect("multicast IP", &multicast, Expected::Passed(PassReason::NoService));
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
fn frames_from_the_road_are_not_seen_again() {
    let rig = Rig::new(&CONFIG);
    rig.expect("from the road", &with(syn(), 6, &ROAD_MAC), Expected::PassedUncounted);
    for byte in 6..12 {
        let mut frame = with(syn(), 6, &ROAD_MAC);
        frame[byte] ^= 0x80;
        rig.expect("one bit off", &frame, TO_FRONT);
    }
}

#[test]
fn tagged_frames_pass() {
    let rig = Rig::new(&CONFIG);
    let tagged = Expected::Passed(PassReason::VlanTagged);
    rig.expect("802.1Q", &with_tag(syn(), 0x8100), tagged);
    rig.expect("802.1ad", &with_tag(syn(), 0x88a8), tagged);
}

#[test]
fn options_are_stepped_over() {
    let rig = Rig::new(&CONFIG);
    for words in 1..=10 {
        rig.expect("TCP with options", &with_options(syn(), words), TO_FRONT);
        let datagram = with_options(udp(client(), front()), words);
        rig.expect("UDP with options", &datagram, TO_FRONT);
    }
}

#[test]
fn fragments_pass() {
    let rig = Rig::new(&CONFIG);
    let fragment = Expected::Passed(PassReason::Fragment);
    let flags = |bytes: [u8; 2]| with(syn(), ETHERNET_BYTES + 6, &bytes);
    rig.expect("the first", &flags([0x20, 0]), fragment);
    rig.expect("one between", &flags([0x20, 1]), fragment);
    rig.expect("the last", &flags([0, 1]), fragment);
    rig.expect("the farthest", &flags([0x1f, 0xff]), fragment);
    rig.expect("don't fragment", &flags([0x40, 0]), TO_FRONT);
}

#[test]
fn truncated_frames_pass_at_every_length() {
    let rig = Rig::new(&CONFIG);
    let malformed = Expected::Passed(PassReason::Malformed);
    for frame in [syn(), udp(client(), front()), with_options(syn(), 10)] {
        for length in ETHERNET_BYTES..frame.len() {
            rig.expect(&format!("cut to {length}"), &frame[..length], malformed);
        }
        rig.expect("whole", &frame, TO_FRONT);
    }
}

#[test]
fn packets_shorter_than_their_headers_pass_at_every_length() {
    let rig = Rig::new(&CONFIG);
    for (frame, header) in [(syn(), 20), (udp(client(), front()), 8)] {
        for total in 0..=frame.len() - ETHERNET_BYTES {
            let packet = with_total_length(frame.clone(), total);
            let is_whole = total >= IP_BYTES + header;
            let expected =
                if is_whole { TO_FRONT } else { Expected::Passed(PassReason::Malformed) };
            rig.expect(&format!("padded, total {total}"), &packet, expected);
            let cut = &packet[..ETHERNET_BYTES + total];
            rig.expect(&format!("cut, total {total}"), cut, expected);
        }
    }
}

#[test]
fn malformed_headers_pass() {
    let rig = Rig::new(&CONFIG);
    let malformed = Expected::Passed(PassReason::Malformed);
    for first in [0x35, 0x55, 0x65, 0x44, 0x40, 0x4f] {
        let frame = with(syn()[..ETHERNET_BYTES + 50].to_vec(), ETHERNET_BYTES, &[first]);
        let frame = with_total_length(frame, 50);
        rig.expect(&format!("first byte {first:#x}"), &frame, malformed);
    }
    let long = with_total_length(syn(), syn().len() - ETHERNET_BYTES + 1);
    rig.expect("total longer than the frame", &long, malformed);
    rig.expect("total of 65535", &with_total_length(syn(), 65_535), malformed);
}

#[test]
fn a_draining_front_keeps_only_its_flows() {
    let rig = Rig::new(&CONFIG);
    let draining = Expected::Passed(PassReason::DrainingFront);
    let segment = |segment| tcp(client(), draining_front(), segment);
    rig.expect("a SYN", &segment(Segment::Syn), draining);
    rig.expect("UDP", &udp(client(), draining_front()), draining);
    rig.expect("mid-flow", &segment(Segment::Ack), TO_FRONT);
    rig.expect("SYN and ACK", &segment(Segment::SynAck), TO_FRONT);
    rig.steering.fronts.insert(&front_key(draining_front(), Protocol::Tcp), false).unwrap();
    rig.expect("a SYN once it is back", &segment(Segment::Syn), TO_FRONT);
}

/// Only a SYN to a front may pass; the rest of ours would draw a reset.
fn expect_nobody_there(rig: &Rig, syn_to_front: Expected) {
    rig.expect("a SYN", &syn(), syn_to_front);
    rig.expect("mid-flow", &tcp(client(), front(), Segment::Ack), Expected::StaleDropped);
    rig.expect("SYN and ACK", &tcp(client(), front(), Segment::SynAck), Expected::StaleDropped);
    rig.expect("UDP", &udp(client(), front()), Expected::StaleDropped);
    rig.expect("a reply", &reply_frame(), Expected::StaleDropped);
    let syn_to_flow = tcp(reply().0, reply().1, Segment::Syn);
    rig.expect("a SYN to a flow", &syn_to_flow, Expected::StaleDropped);
    let other = tcp(client(), address("10.0.0.1:22"), Segment::Ack);
    rig.expect("not ours", &other, Expected::Passed(PassReason::NoService));
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
    rig.steering.interfaces.set(eth0, SLOT, MacAddress(OUR_MAC)).unwrap();
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
    let trial = rig.expect("sampled", &reply_frame(), TO_OWNER);
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
    let seeds = [syn(), udp(client(), front()), with_options(reply_frame(), 3)];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    };
    for round in 0..10_000 {
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
    assert!(counters.received_packets > 9_900, "{counters:?}");
    assert!(counters.redirected_packets > 0 && passed > 0, "{counters:?}");
    assert_eq!(counters.received_packets, passed + ours, "{counters:?}");
}

#[test]
fn a_flow_key_is_the_programs_key() {
    assert_eq!(size_of::<FlowKey>(), 40);
}
