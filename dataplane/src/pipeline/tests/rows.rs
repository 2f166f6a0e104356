//! What a new flow meets by its source, row by row of `docs/semantics.md`.

use super::{CLIENT, NOW, later, to_backend};
use crate::affinity::AffinityTable;
use crate::datagrams::DatagramTable;
use crate::packet::headers::tcp_flags::{ACK, SYN};
use crate::pipeline::{Packet, Pipeline};
use crate::snapshot::{Front, FrontKey, FrontKind, Networks, Selection, Snapshot, Version};
use crate::testing::{
    FRONT, Family, Fixture, INNER, OUTER, checksums_are_right, ends, fragments, send, tcp_frame,
    udp_frame,
};
use crate::types::{IpAddress, L4Port, Time};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};
use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;

const POD: &str = "10.244.0.1:40000";

fn networks(first: &str, last: &str) -> Arc<Networks> {
    let address = |text: &str| IpAddress::from(text.parse::<IpAddr>().unwrap());
    Arc::new(Networks::new([(address(first), address(last))]))
}

/// Changes every front.
fn change(mut snapshot: Snapshot, how: impl Fn(&mut Front)) -> Snapshot {
    for mut front in snapshot.fronts.values().cloned().collect::<Vec<_>>() {
        how(Arc::make_mut(&mut front));
        snapshot.fronts.insert(front.key, front);
    }
    snapshot
}

fn verdict(fixture: &Fixture, snapshot: &Snapshot, frame: &[u8]) -> Verdict {
    send(&mut fixture.pipeline(0, None), snapshot, frame, NOW).0
}

fn only_10_1_0_x(front: &mut Front) {
    front.source_ranges = Some(networks("10.1.0.0", "10.1.0.255"));
}

#[test]
fn f1_a_source_outside_the_ranges_is_dropped_in_silence() {
    let denied = Verdict::Drop(DropReason::DeniedByLbSrcRangeCheck);
    let v6 = ("2001:db8:1::", "2001:db8:1::ff");
    for (family, (first, last)) in [(Family::V4, ("10.1.0.0", "10.1.0.255")), (Family::V6, v6)] {
        let fixture = Fixture { family, ..Fixture::default() };
        let snapshot = change(fixture.snapshot(), |front| {
            front.source_ranges = Some(networks(first, last));
        });
        for (host, expected) in [(1, Verdict::Forward(INNER)), (0x101, denied)] {
            let syn = tcp_frame(&family.client(host, 4000), family.front(), SYN, b"");
            assert_eq!(verdict(&fixture, &snapshot, &syn), expected, "{family:?} {host}");
        }
    }
}

#[test]
fn f1_ranges_are_asked_of_new_flows_alone() {
    let fixture = Fixture::default();
    let (mut pipeline, open) = (fixture.pipeline(0, None), fixture.snapshot());
    let first = to_backend(&mut pipeline, &open, &tcp_frame("10.1.1.1:4", FRONT, SYN, b""));
    let closed = change(open, only_10_1_0_x);
    let data = tcp_frame("10.1.1.1:4", FRONT, ACK, b"more");
    assert_eq!(to_backend(&mut pipeline, &closed, &data), first);
}

#[test]
fn f2_ranges_are_asked_of_pods_too() {
    let fixture = Fixture::default();
    let mut snapshot = change(fixture.snapshot(), only_10_1_0_x);
    snapshot.pod_networks = networks("10.244.0.0", "10.244.0.255");
    let denied = Verdict::Drop(DropReason::DeniedByLbSrcRangeCheck);
    assert_eq!(verdict(&fixture, &snapshot, &udp_frame(POD, FRONT, b"")), denied);
}

#[test]
fn f5_without_endpoints_those_outside_meet_silence_and_those_inside_a_reject() {
    let fixture = Fixture::default();
    let reject = Selection::Reject(RejectReason::NoEndpoints);
    let snapshot = change(fixture.snapshot_with(reject), only_10_1_0_x);
    let frame = |client| udp_frame(client, FRONT, b"");
    let outside = verdict(&fixture, &snapshot, &frame("10.1.1.1:4000"));
    assert_eq!(outside, Verdict::Drop(DropReason::DeniedByLbSrcRangeCheck));
    let inside = verdict(&fixture, &snapshot, &frame(CLIENT));
    assert_eq!(inside, Verdict::Reject(RejectReason::NoEndpoints));
}

/// Policy Local without a local endpoint; pods are served all the same.
fn short_circuit(fixture: &Fixture) -> Snapshot {
    let mut snapshot = change(fixture.snapshot(), |front| {
        front.outside = Selection::Drop(DropReason::NoLocalEndpoints);
    });
    snapshot.pod_networks = networks("10.244.0.0", "10.244.0.255");
    snapshot
}

#[test]
fn e3_e6_a_pod_is_served_with_its_own_address_where_outside_clients_are_dropped() {
    let fixture = Fixture { masquerade: false, ..Fixture::default() };
    let snapshot = short_circuit(&fixture);
    let outside = verdict(&fixture, &snapshot, &tcp_frame(CLIENT, FRONT, SYN, b""));
    assert_eq!(outside, Verdict::Drop(DropReason::NoLocalEndpoints));
    let mut pipeline = fixture.pipeline(0, None);
    let pod = "10.244.0.77:40000";
    let (source, _) = to_backend(&mut pipeline, &snapshot, &tcp_frame(pod, FRONT, SYN, b""));
    assert_eq!(source, pod);
}

#[test]
fn e5_without_pod_networks_a_pod_is_an_outside_client() {
    let fixture = Fixture { masquerade: false, ..Fixture::default() };
    let snapshot = Snapshot { pod_networks: Arc::default(), ..short_circuit(&fixture) };
    let pod = verdict(&fixture, &snapshot, &tcp_frame(POD, FRONT, SYN, b""));
    assert_eq!(pod, Verdict::Drop(DropReason::NoLocalEndpoints));
}

#[test]
fn f8_a_pod_that_is_its_own_backend_is_masqueraded() {
    for family in Family::ALL {
        let fixture = Fixture { backends: 1, masquerade: false, family, ..Fixture::default() };
        let (mut pipeline, snapshot) = (fixture.pipeline(0, None), fixture.snapshot());
        let end = |port| SocketAddr::new(family.backend(1).into(), port).to_string();
        let (pod, front) = (end(40_000), family.front());
        let syn = tcp_frame(&pod, front, SYN, b"");
        let (source, backend) = to_backend(&mut pipeline, &snapshot, &syn);
        let source_ip = source.parse::<SocketAddr>().unwrap().ip();
        assert_eq!(IpAddress::from(source_ip), family.snat_address());
        assert_eq!(backend, end(5000));
        let reply = tcp_frame(&backend, &source, SYN | ACK, b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &reply, NOW);
        assert_eq!(verdict, Verdict::Forward(INNER), "back to where it came from");
        assert_eq!(ends(&out), (front.into(), pod));
        assert!(checksums_are_right(&out));
    }
}

/// Balanced at random, so that memory alone can hold a client.
#[test]
fn g5_a_rejected_datagram_leaves_nothing_behind() {
    for family in [Family::V4, Family::V6] {
        let fixture = Fixture { family, ..Fixture::default() };
        let (mut pipeline, served) = (fixture.pipeline(0, None), fixture.snapshot());
        let mut empty = change(served.clone(), |front| {
            front.outside = Selection::Reject(RejectReason::NoEndpoints);
        });
        empty.version = Version(1);
        let datagram = udp_frame(&family.client(1, 4000), family.front(), b"");
        let rejected = Verdict::Reject(RejectReason::NoEndpoints);
        assert_eq!(send(&mut pipeline, &empty, &datagram, NOW).0, rejected);
        let forwarded = Verdict::Forward(INNER);
        assert_eq!(send(&mut pipeline, &served, &datagram, NOW).0, forwarded, "{family:?}");
    }
}

fn sticky() -> Fixture {
    let affinity_timeout = Some(Duration::from_secs(10));
    Fixture { backends: 10, maglev: false, affinity_timeout, ..Fixture::default() }
}

/// The backends that a client meets with `count` new flows.
fn met(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    (front, now): (&str, Time),
    ports: core::ops::Range<u16>,
) -> BTreeSet<String> {
    let backend = |port| {
        pipeline.flows.changes_mut().begun.clear();
        let frame = udp_frame(&format!("10.1.0.1:{port}"), front, b"");
        let (verdict, out) = send(pipeline, snapshot, &frame, now);
        assert_eq!(verdict, Verdict::Forward(INNER));
        ends(&out).1
    };
    ports.map(backend).collect()
}

/// Fronts that are cluster IPs; the pods of the node are where the backends are.
fn with_cluster_ips(fixture: &Fixture) -> Snapshot {
    let ends = [1, 200].map(|number| IpAddr::from(fixture.family.backend(number)).to_string());
    let mut snapshot = change(fixture.snapshot(), |front| {
        front.kind = FrontKind::ClusterIp;
        let backends = fixture.backend_set();
        front.pods = Selection::Forward { backends, masquerade: false };
    });
    snapshot.pod_networks = networks(&ends[0], &ends[1]);
    snapshot
}

#[test]
fn d7_f7_a_cluster_ip_serves_pods_unmasqueraded_and_no_client_outside() {
    for family in Family::ALL {
        let fixture = Fixture { family, ..Fixture::default() };
        let snapshot = with_cluster_ips(&fixture);
        let (mut pipeline, front) = (fixture.pipeline(0, None), family.front());
        let outside = tcp_frame(&family.client(1, 4000), front, SYN, b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &outside, NOW);
        assert_eq!((verdict, out), (Verdict::Pass(PassReason::NoService), outside));
        let pod = SocketAddr::new(family.backend(100).into(), 40_000).to_string();
        let dialled = tcp_frame(&pod, front, SYN, b"");
        let (seen, backend) = to_backend(&mut pipeline, &snapshot, &dialled);
        assert_eq!(seen, pod);
        let reply = tcp_frame(&backend, &pod, SYN | ACK, b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &reply, NOW);
        assert_eq!(verdict, Verdict::Forward(INNER));
        assert_eq!(ends(&out), (front.into(), pod));
        assert!(checksums_are_right(&out));
    }
}

/// Whoever sends the rest of a pod's datagram from outside reaches no pod by it.
#[test]
fn d7_a_cluster_ip_takes_no_fragment_from_outside() {
    for family in Family::ALL {
        let fixture = Fixture { family, ..Fixture::default() };
        let (mut pipeline, snapshot) = (fixture.pipeline(0, None), with_cluster_ips(&fixture));
        let pod = SocketAddr::new(family.backend(100).into(), 40_000).to_string();
        let pieces = fragments(&udp_frame(&pod, family.front(), &[7; 3000]), 1440);
        let (verdict, _) = send(&mut pipeline, &snapshot, &pieces[0], NOW);
        assert_eq!(verdict, Verdict::Forward(INNER));
        let mut piece = pieces[1].clone();
        let len = piece.len();
        piece.resize(2048, 0);
        for (ingress, expected) in
            [(OUTER, Verdict::Pass(PassReason::Fragment)), (INNER, Verdict::Forward(INNER))]
        {
            let mut packets = [Packet::new(&mut piece, len, ingress)];
            pipeline.process(&mut packets, &snapshot, NOW);
            assert_eq!(packets[0].verdict, expected, "{family:?}");
        }
    }
}

#[test]
fn f11_a_client_keeps_its_backend_on_every_front_and_worker() {
    let fixture = sticky();
    let mut snapshot = fixture.snapshot();
    let vip: SocketAddr = "192.0.2.1:80".parse().unwrap();
    let udp = FRONT.parse::<SocketAddr>().unwrap();
    let of = |socket: SocketAddr| FrontKey {
        address: socket.ip().into(),
        port: L4Port::new(socket.port()),
        protocol: crate::types::Protocol::Udp,
    };
    let mut front = Front::clone(snapshot.fronts.get(&of(udp)).unwrap());
    front.key = of(vip);
    snapshot.fronts.insert(front.key, Arc::new(front));
    let clients = Arc::new(AffinityTable::with_capacity(64));
    let datagrams = Arc::new(DatagramTable::with_capacity(8));
    let memory = || (Arc::clone(&clients), Arc::clone(&datagrams));
    let pipeline = |worker| fixture.pipeline_sharing(worker, None, memory());
    let (mut first, mut second) = (pipeline(0), pipeline(1));
    let mut backends = met(&mut first, &snapshot, (FRONT, NOW), 1..50);
    backends.extend(met(&mut first, &snapshot, ("192.0.2.1:80", NOW), 50..100));
    backends.extend(met(&mut second, &snapshot, (FRONT, NOW), 100..150));
    assert_eq!(backends.len(), 1, "{backends:?}");
}

#[test]
fn f13_the_timeout_counts_from_the_last_new_flow() {
    let fixture = sticky();
    let (mut pipeline, snapshot) = (fixture.pipeline(0, None), fixture.snapshot());
    let mut backends = BTreeSet::new();
    for n in 0..20u16 {
        let now = later(u64::from(n) * 9);
        backends.extend(met(&mut pipeline, &snapshot, (FRONT, now), n..n + 1));
    }
    assert_eq!(backends.len(), 1, "each new flow renews");
    for n in 20..60u16 {
        let now = later(200 + u64::from(n) * 10);
        backends.extend(met(&mut pipeline, &snapshot, (FRONT, now), n..n + 1));
    }
    assert!(backends.len() > 1, "forgotten after the timeout");
}

#[test]
fn f14_f15_a_backend_outside_the_set_in_use_is_forgotten() {
    let fixture = sticky();
    let (mut pipeline, all) = (fixture.pipeline(0, None), fixture.snapshot());
    let first = met(&mut pipeline, &all, (FRONT, NOW), 1..2);
    let gone = first.first().unwrap().clone();
    let number: u8 = gone.trim_end_matches(":5000").rsplit('.').next().unwrap().parse().unwrap();
    // A set of one: the next backend after the one that is gone.
    let other = number % 10 + 1;
    let one = Fixture { backends: 1, ..sticky() };
    let set = one.backend_set();
    let mut backend = set.backends()[0].clone();
    backend.address = IpAddress::v4([10, 244, 0, other]);
    let set = crate::snapshot::BackendSet::new_checked(
        Box::new([backend]),
        crate::snapshot::Picker::Random,
    );
    let set = Arc::new(set.unwrap());
    let snapshot = change(all.clone(), |front| {
        front.outside = Selection::Forward { backends: Arc::clone(&set), masquerade: true };
    });
    let then = BTreeSet::from([format!("10.244.0.{other}:5000")]);
    assert_eq!(met(&mut pipeline, &snapshot, (FRONT, NOW), 2..20), then);
    assert_eq!(met(&mut pipeline, &all, (FRONT, NOW), 20..40), then, "the new choice is kept");
}

#[test]
fn f11_f12_ipv6_clients_are_told_apart_by_their_whole_address() {
    let (family, now) = (Family::V6, NOW);
    let fixture = Fixture { family, ..sticky() };
    let (mut pipeline, snapshot) = (fixture.pipeline(0, None), fixture.snapshot());
    let mut backend = |client: &str| {
        pipeline.flows.changes_mut().begun.clear();
        let (verdict, out) =
            send(&mut pipeline, &snapshot, &udp_frame(client, family.front(), b""), now);
        assert_eq!(verdict, Verdict::Forward(INNER));
        ends(&out).1
    };
    let one: BTreeSet<_> = (1..50).map(|port| backend(&family.client(1, port))).collect();
    assert_eq!(one.len(), 1, "{one:?}");
    // They differ in the upper half alone.
    let many: BTreeSet<_> = (1..50).map(|n| backend(&format!("[2001:db8:{n:x}::1]:7"))).collect();
    assert!(many.len() > 1, "{many:?}");
}

#[test]
fn f17_affinity_is_switched_live() {
    let on = sticky();
    let off = Fixture { affinity_timeout: None, ..sticky() };
    let (mut pipeline, sticky) = (on.pipeline(0, None), on.snapshot());
    let free = Snapshot { version: Version(2), ..off.snapshot() };
    assert!(met(&mut pipeline, &free, (FRONT, NOW), 1..50).len() > 1);
    assert_eq!(met(&mut pipeline, &sticky, (FRONT, NOW), 50..100).len(), 1);
    assert!(met(&mut pipeline, &free, (FRONT, NOW), 100..150).len() > 1);
}

#[test]
fn with_affinity_the_source_port_does_not_choose() {
    let fixture = Fixture { maglev: true, ..sticky() };
    let snapshot = fixture.snapshot();
    // A new memory for every flow: the table alone decides.
    let backend = |n: u16| met(&mut fixture.pipeline(0, None), &snapshot, (FRONT, NOW), n..n + 1);
    let backends: BTreeSet<_> = (1..50).map(backend).collect();
    assert_eq!(backends.len(), 1, "{backends:?}");
}
