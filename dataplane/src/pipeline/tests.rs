//! The packet path as a whole: frames in, frames and verdicts out.

mod rows;

use crate::flow_table::{Direction, FlowState, OwnerDirectory};
use crate::packet::headers::tcp_flags::{ACK, FIN, RST, SYN};
use crate::pipeline::{Packet, Pipeline};
use crate::snapshot::{NextHop, Selection, Snapshot, Version};
use crate::testing::{
    CLIENT_MAC, FRONT, Fixture, GATEWAY_MAC, INNER, OUTER, SNAT_ADDRESS, checksums_are_right, ends,
    send, tcp_frame, udp_frame,
};
use crate::types::{Time, WorkerId};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};
use std::collections::BTreeSet;
use std::sync::Arc;

const CLIENT: &str = "10.1.0.1:4000";
const NOW: Time = Time(1_000_000_000);

fn later(seconds: u64) -> Time {
    Time(NOW.0 + seconds * 1_000_000_000)
}

fn rig(fixture: &Fixture) -> (Pipeline, Snapshot) {
    (fixture.pipeline(0, None), fixture.snapshot())
}

/// Sends a client's packet; returns what the backend sees.
fn to_backend(pipeline: &mut Pipeline, snapshot: &Snapshot, frame: &[u8]) -> (String, String) {
    let (verdict, out) = send(pipeline, snapshot, frame, NOW);
    assert_eq!(verdict, Verdict::Forward(INNER));
    assert!(checksums_are_right(&out));
    ends(&out)
}

#[test]
fn policy_cluster_masquerades_and_the_reply_returns_to_the_front() {
    for frame in [tcp_frame(CLIENT, FRONT, SYN, b""), udp_frame(CLIENT, FRONT, b"question")] {
        let (mut pipeline, snapshot) = rig(&Fixture::default());
        let (snat, backend) = to_backend(&mut pipeline, &snapshot, &frame);
        assert!(snat.starts_with(SNAT_ADDRESS) && backend.ends_with(":5000"), "{snat} {backend}");
        let reply = match frame[23] {
            6 => tcp_frame(&backend, &snat, SYN | ACK, b""),
            _ => udp_frame(&backend, &snat, b"answer"),
        };
        let (verdict, out) = send(&mut pipeline, &snapshot, &reply, NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        assert_eq!(ends(&out), (FRONT.into(), CLIENT.into()));
        assert!(checksums_are_right(&out));
        assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
        assert_eq!(out[22], 63, "TTL is decremented");
    }
}

#[test]
fn policy_local_keeps_the_client() {
    let (mut pipeline, snapshot) = rig(&Fixture { masquerade: false, ..Fixture::default() });
    let frame = tcp_frame(CLIENT, FRONT, SYN, b"");
    let (client, backend) = to_backend(&mut pipeline, &snapshot, &frame);
    assert_eq!(client, CLIENT);
    let reply = tcp_frame(&backend, CLIENT, SYN | ACK, b"");
    let (verdict, out) = send(&mut pipeline, &snapshot, &reply, NOW);
    assert_eq!(verdict, Verdict::Forward(OUTER));
    assert_eq!(ends(&out), (FRONT.into(), CLIENT.into()));
}

/// One client port, two fronts, one pod: the pod's answers must return to the front that was asked.
#[test]
fn two_fronts_of_one_pod_do_not_share_a_reply_tuple() {
    let fixture = Fixture { masquerade: false, backends: 1, ..Fixture::default() };
    let (mut pipeline, mut snapshot) = rig(&fixture);
    let other = "10.1.0.253:30080";
    for front in snapshot.fronts.values().cloned().collect::<Vec<_>>() {
        let mut key = front.key;
        key.address = "10.1.0.253".parse::<core::net::IpAddr>().unwrap().into();
        snapshot.fronts.insert(key, front);
    }
    for front in [FRONT, other] {
        let (seen, backend) =
            to_backend(&mut pipeline, &snapshot, &udp_frame(CLIENT, front, b"question"));
        assert!(seen.starts_with("10.1.0.1:"), "the client's address is kept");
        let (_, out) = send(&mut pipeline, &snapshot, &udp_frame(&backend, &seen, b"answer"), NOW);
        assert_eq!(ends(&out), (front.into(), CLIENT.into()));
    }
}

#[test]
fn a_partial_checksum_is_finished_and_a_missing_one_stays_missing() {
    let (mut pipeline, snapshot) = rig(&Fixture::default());
    let mut partial = tcp_frame(CLIENT, FRONT, SYN, b"data that the sum must cover");
    let key = super::parse::parse(&partial).unwrap();
    let pseudo = crate::packet::checksum::pseudo_header(&key.key, usize::from(key.l4_bytes));
    partial[50..52].copy_from_slice(&pseudo.fold().to_ne_bytes());
    assert!(!checksums_are_right(&partial));
    to_backend(&mut pipeline, &snapshot, &partial);

    let mut none = udp_frame(CLIENT, FRONT, b"x");
    none[40..42].fill(0);
    let (_, out) = send(&mut pipeline, &snapshot, &none, NOW);
    assert_eq!(out[40..42], [0, 0]);
}

#[test]
fn a_partial_checksum_is_finished_before_the_kernel_gets_the_packet_back() {
    let whole = tcp_frame(CLIENT, FRONT, ACK, b"data that the sum must cover");
    let mut partial = whole.clone();
    let headers = super::parse::parse(&partial).unwrap();
    let pseudo = crate::packet::checksum::pseudo_header(&headers.key, headers.l4_bytes.into());
    partial[50..52].copy_from_slice(&pseudo.fold().to_ne_bytes());
    super::finish_checksum(&mut partial);
    assert_eq!(partial, whole);
    super::finish_checksum(&mut partial);
    assert_eq!(partial, whole, "a finished one stays");
}

#[test]
fn no_endpoints_answers_with_port_unreachable_from_the_front() {
    let fixture = Fixture::default();
    let snapshot = fixture.snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
    let mut pipeline = fixture.pipeline(0, None);
    let frame = tcp_frame(CLIENT, FRONT, SYN, b"");
    let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
    assert_eq!(verdict, Verdict::Reject(RejectReason::NoEndpoints));
    assert!(checksums_are_right(&out));
    assert_eq!(ends(&out), ("10.1.0.254:0".into(), "10.1.0.1:0".into()));
    assert_eq!(out[34..36], [3, 3], "destination unreachable, port");
    assert_eq!(out[42..], frame[14..], "the packet is quoted");
    assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
}

#[test]
fn no_local_endpoints_drops_in_silence() {
    let fixture = Fixture::default();
    let snapshot = fixture.snapshot_with(Selection::Drop(DropReason::NoLocalEndpoints));
    let frame = udp_frame(CLIENT, FRONT, b"");
    let (verdict, out) = send(&mut fixture.pipeline(0, None), &snapshot, &frame, NOW);
    assert_eq!(verdict, Verdict::Drop(DropReason::NoLocalEndpoints));
    assert_eq!(out, frame);
}

#[test]
fn an_established_flow_keeps_its_backend_when_the_set_changes() {
    let (mut pipeline, before) = rig(&Fixture { backends: 10, ..Fixture::default() });
    let after = Fixture { backends: 1, ..Fixture::default() };
    let mut after_snapshot = after.snapshot();
    after_snapshot.next_hops = before.next_hops.clone();
    after_snapshot.version = Version(2);
    for port in 1..100 {
        let client = format!("10.1.0.1:{port}");
        let syn = tcp_frame(&client, FRONT, SYN, b"");
        let first = to_backend(&mut pipeline, &before, &syn);
        let data = tcp_frame(&client, FRONT, ACK, b"more");
        assert_eq!(to_backend(&mut pipeline, &after_snapshot, &data), first);
    }
}

#[test]
fn a_udp_flow_moves_when_its_backend_stops_serving_and_only_then() {
    let (mut pipeline, before) = rig(&Fixture { backends: 10, ..Fixture::default() });
    let mut after = Fixture { backends: 1, ..Fixture::default() }.snapshot();
    after.next_hops = before.next_hops.clone();
    after.version = Version(2);
    let mut none = Fixture { backends: 0, ..Fixture::default() }
        .snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
    none.next_hops = before.next_hops.clone();
    none.version = Version(3);
    for port in 1..100 {
        let frame = udp_frame(&format!("10.1.0.1:{port}"), FRONT, b"");
        let first = to_backend(&mut pipeline, &before, &frame);
        let kept = to_backend(&mut pipeline, &none, &frame);
        assert_eq!(kept, first, "no serving endpoint at all: nothing is forgotten (G4)");
        let second = to_backend(&mut pipeline, &after, &frame);
        assert_eq!(second.1, "10.244.0.1:5000");
        assert!(first.1 != second.1 || first == second);
    }
}

#[test]
fn packets_without_flow_or_front_go_to_the_kernel_untouched() {
    let (mut pipeline, snapshot) = rig(&Fixture::default());
    let mid_flow = tcp_frame(CLIENT, FRONT, ACK, b"data");
    let other = tcp_frame(CLIENT, "10.1.0.254:22", SYN, b"");
    for (frame, reason) in [(mid_flow, PassReason::TcpNotSyn), (other, PassReason::FrontGone)] {
        let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
        assert_eq!((verdict, out), (Verdict::Pass(reason), frame));
    }
}

#[test]
fn a_used_up_ttl_is_dropped_in_both_directions() {
    let (mut pipeline, snapshot) = rig(&Fixture::default());
    let mut frame = udp_frame(CLIENT, FRONT, b"");
    let (snat, backend) = to_backend(&mut pipeline, &snapshot, &frame);
    frame[22] = 1;
    let mut reply = udp_frame(&backend, &snat, b"");
    reply[22] = 1;
    for frame in [frame, reply] {
        let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
        assert_eq!((verdict, out), (Verdict::Drop(DropReason::TtlExceeded), frame));
    }
}

#[test]
fn a_packet_larger_than_the_egress_mtu_is_dropped_by_name() {
    let (mut pipeline, mut snapshot) = rig(&Fixture::default());
    let small = |hop: &NextHop| NextHop { mtu_bytes: 600, ..hop.clone() };
    snapshot.next_hops = snapshot.next_hops.iter().map(small).collect();
    let frame = udp_frame(CLIENT, FRONT, &[0; 700]);
    let (verdict, _) = send(&mut pipeline, &snapshot, &frame, NOW);
    assert_eq!(verdict, Verdict::Drop(DropReason::PktTooBig));
}

#[test]
fn a_closed_tuple_that_opens_again_gets_a_new_port() {
    let (mut pipeline, snapshot) = rig(&Fixture { backends: 1, ..Fixture::default() });
    let syn = tcp_frame(CLIENT, FRONT, SYN, b"");
    let first = to_backend(&mut pipeline, &snapshot, &syn);
    assert_eq!(to_backend(&mut pipeline, &snapshot, &syn), first, "a repeated SYN stays");
    to_backend(&mut pipeline, &snapshot, &tcp_frame(CLIENT, FRONT, RST, b""));
    let again = to_backend(&mut pipeline, &snapshot, &syn);
    assert_ne!(again.0, first.0);
    assert_eq!(pipeline.flows.len(), 1);
}

#[test]
fn two_packets_of_a_new_flow_in_one_burst_share_it() {
    let (mut pipeline, snapshot) = rig(&Fixture { maglev: false, ..Fixture::default() });
    let frame = udp_frame(CLIENT, FRONT, b"");
    let mut buffers = [frame.clone(), frame.clone()];
    let mut packets: Vec<_> =
        buffers.iter_mut().map(|b| Packet::new(b, frame.len(), OUTER)).collect();
    pipeline.process(&mut packets, &snapshot, NOW);
    assert_eq!(ends(packets[0].bytes()), ends(packets[1].bytes()));
    assert_eq!(pipeline.flows.len(), 1);
}

#[test]
fn idle_flows_expire_and_their_ports_return() {
    let (mut pipeline, snapshot) = rig(&Fixture::default());
    to_backend(&mut pipeline, &snapshot, &udp_frame(CLIENT, FRONT, b""));
    pipeline.flows.expire(later(29));
    assert_eq!(pipeline.flows.len(), 1);
    pipeline.flows.expire(later(31));
    pipeline.flows.expire(later(40));
    assert_eq!(pipeline.flows.len(), 0);
    assert_eq!(pipeline.flows.counters().work.snat_ports_used.get(), 0);
    assert_eq!(pipeline.flows.changes_mut().removed.len(), 1);
    assert!(pipeline.flows.changes_mut().begun.is_empty(), "it began and ended unseen");
}

#[test]
fn a_full_table_evicts_embryonic_flows_but_never_an_established_one() {
    let fixture = Fixture { flows_max: 8, ..Fixture::default() };
    let (mut pipeline, snapshot) = rig(&fixture);
    let established = tcp_frame("10.1.0.9:9", FRONT, SYN, b"");
    let (snat, backend) = to_backend(&mut pipeline, &snapshot, &established);
    send(&mut pipeline, &snapshot, &tcp_frame(&backend, &snat, SYN | ACK, b""), NOW);
    to_backend(&mut pipeline, &snapshot, &tcp_frame("10.1.0.9:9", FRONT, ACK, b""));
    for n in 1..=100u64 {
        let changes = pipeline.flows.changes_mut();
        changes.begun.clear();
        changes.removed.clear();
        let syn = tcp_frame(&format!("10.1.1.1:{n}"), FRONT, SYN, b"");
        let (verdict, _) = send(&mut pipeline, &snapshot, &syn, later(n));
        assert_eq!(verdict, Verdict::Forward(INNER), "SYN {n}");
    }
    let data = tcp_frame("10.1.0.9:9", FRONT, ACK, b"still here");
    assert_eq!(to_backend(&mut pipeline, &snapshot, &data), (snat, backend));
    assert!(pipeline.flows.len() <= 8);
}

#[test]
fn a_full_table_of_established_flows_refuses_and_says_so() {
    let fixture = Fixture { flows_max: 4, ..Fixture::default() };
    let (mut pipeline, snapshot) = rig(&fixture);
    for port in 1..=4 {
        let client = format!("10.1.0.1:{port}");
        let syn = tcp_frame(&client, FRONT, SYN, b"");
        let (snat, backend) = to_backend(&mut pipeline, &snapshot, &syn);
        send(&mut pipeline, &snapshot, &tcp_frame(&backend, &snat, SYN | ACK, b""), NOW);
        to_backend(&mut pipeline, &snapshot, &tcp_frame(&client, FRONT, ACK, b""));
    }
    let (verdict, _) = send(&mut pipeline, &snapshot, &udp_frame(CLIENT, FRONT, b""), later(1));
    assert_eq!(verdict, Verdict::Drop(DropReason::FlowTableFull));
}

#[test]
fn a_source_port_is_never_given_twice_towards_one_backend() {
    let fixture = Fixture { backends: 1, flows_max: 2048, ..Fixture::default() };
    let (mut pipeline, snapshot) = rig(&fixture);
    let mut seen = BTreeSet::new();
    for n in 0..1500 {
        pipeline.flows.changes_mut().begun.clear();
        let client = format!("10.1.{}.1:{}", n / 250, 1000 + n);
        let frame = udp_frame(&client, FRONT, b"");
        assert!(seen.insert(to_backend(&mut pipeline, &snapshot, &frame).0));
    }
}

#[test]
fn a_packet_on_the_wrong_worker_is_handed_to_the_owner_and_only_once() {
    let fixture = Fixture::default();
    let directory = Arc::new(OwnerDirectory::with_capacity(1024));
    let snapshot = fixture.snapshot();
    let mut first = fixture.pipeline(0, Some(Arc::clone(&directory)));
    let mut second = fixture.pipeline(1, Some(directory));
    let frame = udp_frame(CLIENT, FRONT, b"");
    let (snat, backend) = to_backend(&mut first, &snapshot, &frame);
    let (verdict, out) = send(&mut second, &snapshot, &frame, NOW);
    assert_eq!((verdict, out), (Verdict::HandOff(WorkerId(0)), frame));

    let reply = udp_frame(&backend, &snat, b"");
    let (verdict, _) = send(&mut second, &snapshot, &reply, NOW);
    assert_eq!(verdict, Verdict::HandOff(WorkerId(0)));
    let mut buffer = reply.clone();
    let mut stray = Packet::new(&mut buffer, reply.len(), INNER);
    (stray.is_handed, stray.owner) = (true, Some(WorkerId(0)));
    second.process(core::slice::from_mut(&mut stray), &snapshot, NOW);
    assert_eq!(stray.verdict, Verdict::Drop(DropReason::FlowStateInvalid));
}

#[test]
fn a_closed_connection_passes_through_conntracks_states() {
    let (mut pipeline, snapshot) = rig(&Fixture::default());
    let (snat, backend) = to_backend(&mut pipeline, &snapshot, &tcp_frame(CLIENT, FRONT, SYN, b""));
    let client = |flags| tcp_frame(CLIENT, FRONT, flags, b"");
    let server = |flags| tcp_frame(&backend, &snat, flags, b"");
    let steps = [
        (server(SYN | ACK), FlowState::SynRecv),
        (client(ACK), FlowState::Established),
        (client(FIN | ACK), FlowState::FinWait),
        (server(FIN | ACK), FlowState::LastAck),
        (client(ACK), FlowState::TimeWait),
    ];
    for (frame, state) in steps {
        send(&mut pipeline, &snapshot, &frame, NOW);
        let key = super::parse::parse(&client(ACK)).unwrap().key;
        let (flow, direction) = pipeline.flows.find(&key, pipeline.flows.hash(&key)).unwrap();
        assert_eq!(direction, Direction::Forward);
        assert_eq!(pipeline.flows.entry(flow).unwrap().state, state);
    }
}

/// Ten thousand random, mutated and truncated frames: no panic, every packet gets a verdict, and
/// only forwarded and rejected ones change.
#[test]
fn random_and_truncated_frames_get_a_verdict() {
    let fixture = Fixture::default();
    let (mut pipeline, snapshot) = rig(&fixture);
    let mut random = crate::random::Random::new(7);
    let seeds = [tcp_frame(CLIENT, FRONT, SYN, b"abc"), udp_frame(CLIENT, FRONT, b"abc")];
    let mut counts = [0u32; 4];
    for round in 0..10_000u32 {
        let mut frame = seeds[round as usize % 2].clone();
        for _ in 0..random.below(4) {
            let at = random.below(u32::try_from(frame.len()).unwrap()) as usize;
            frame[at] = random.next_u64().to_ne_bytes()[0];
        }
        if round % 3 == 0 {
            frame.truncate(random.below(u32::try_from(frame.len()).unwrap()) as usize);
        }
        let (verdict, out) = send(&mut pipeline, &snapshot, &frame, later(u64::from(round)));
        match verdict {
            Verdict::Forward(_) => counts[0] += 1,
            Verdict::Reject(_) => counts[1] += 1,
            Verdict::Pass(_) => counts[2] += 1,
            Verdict::Drop(_) => counts[3] += 1,
            Verdict::Pending | Verdict::HandOff(_) => panic!("{verdict:?}"),
        }
        let may_change = matches!(verdict, Verdict::Forward(_) | Verdict::Reject(_));
        assert!(may_change || out == frame);
        let changes = pipeline.flows.changes_mut();
        changes.begun.clear();
        changes.removed.clear();
    }
    assert_eq!(counts.iter().sum::<u32>(), 10_000);
    assert!(counts[0] > 1000 && counts[3] > 1000, "{counts:?}");
}
