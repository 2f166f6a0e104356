//! The packet path as a whole: frames in, frames and verdicts out.

mod admission;
mod answers;
mod cut;
mod errors;
mod fragments;
mod reasons;
mod resets;
mod rows;
mod syn_proxy;
mod traffic;
mod udp;
mod vlans;

use crate::affinity::AffinityTable;
use crate::datagrams::DatagramTable;
use crate::flow_table::{Direction, FlowState, OwnerDirectory};
use crate::packet::headers::tcp_flags::{ACK, FIN, RST, SYN};
use crate::pipeline::{Packet, Pipeline};
use crate::snapshot::{NextHop, Selection, Snapshot, Version};
use crate::testing::{
    CLIENT_MAC, FRONT, Family, Fixture, GATEWAY_MAC, INNER, OUTER, checksums_are_right, ends,
    fragments, icmp_error, send, tcp_frame, udp_frame, with_extensions,
};
use crate::types::{IpAddress, Protocol, Time, WorkerId};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};
use core::net::SocketAddr;
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

/// A client's address, of [`CLIENT`]'s host and port.
fn client(family: Family) -> String {
    family.client(1, 4000)
}

fn fixture(family: Family) -> Fixture {
    Fixture { family, ..Fixture::default() }
}

fn is_tcp(frame: &[u8]) -> bool {
    super::parse::parse(frame).unwrap().key.protocol == Protocol::Tcp
}

#[test]
fn policy_cluster_masquerades_and_the_reply_returns_to_the_front() {
    for family in Family::ALL {
        let (client, front) = (client(family), family.front());
        for frame in [tcp_frame(&client, front, SYN, b""), udp_frame(&client, front, b"question")] {
            let (mut pipeline, snapshot) = rig(&fixture(family));
            let (snat, backend) = to_backend(&mut pipeline, &snapshot, &frame);
            let source: SocketAddr = snat.parse().unwrap();
            assert_eq!(IpAddress::from(source.ip()), family.snat_address());
            assert!(backend.ends_with(":5000"), "{backend}");
            let reply = if is_tcp(&frame) {
                tcp_frame(&backend, &snat, SYN | ACK, b"")
            } else {
                udp_frame(&backend, &snat, b"answer")
            };
            let (verdict, out) = send(&mut pipeline, &snapshot, &reply, NOW);
            assert_eq!(verdict, Verdict::Forward(OUTER));
            assert_eq!(ends(&out), (front.into(), client.clone()));
            assert!(checksums_are_right(&out));
            assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
            assert_eq!(out[family.ttl_offset()], 63, "TTL is decremented");
        }
    }
}

#[test]
fn policy_local_keeps_the_client() {
    for family in Family::ALL {
        let (me, front) = (client(family), family.front());
        let (mut pipeline, snapshot) = rig(&Fixture { masquerade: false, ..fixture(family) });
        let frame = tcp_frame(&me, front, SYN, b"");
        let (seen, backend) = to_backend(&mut pipeline, &snapshot, &frame);
        assert_eq!(seen, me);
        let reply = tcp_frame(&backend, &me, SYN | ACK, b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &reply, NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        assert_eq!(ends(&out), (front.into(), me));
        assert!(checksums_are_right(&out));
    }
}

/// One client port, two fronts, one pod: the pod's answers must return to the front that was asked.
#[test]
fn two_fronts_of_one_pod_do_not_share_a_reply_tuple() {
    for family in Family::ALL {
        let fixture = Fixture { masquerade: false, backends: 1, ..fixture(family) };
        let (mut pipeline, mut snapshot) = rig(&fixture);
        let me = client(family);
        let other = family.client(0xfd, 30_080);
        for front in snapshot.fronts.values().cloned().collect::<Vec<_>>() {
            let mut key = front.key;
            key.address = other.parse::<SocketAddr>().unwrap().ip().into();
            snapshot.fronts.insert(key, front);
        }
        for front in [family.front(), &other] {
            let (seen, backend) =
                to_backend(&mut pipeline, &snapshot, &udp_frame(&me, front, b"question"));
            let ip = |end: &str| end.parse::<SocketAddr>().unwrap().ip();
            assert_eq!(ip(&seen), ip(&me), "the client's address is kept");
            let answer = udp_frame(&backend, &seen, b"answer");
            let (_, out) = send(&mut pipeline, &snapshot, &answer, NOW);
            assert_eq!(ends(&out), (front.into(), me.clone()));
        }
    }
}

/// A TCP packet whose stack left the checksum to the hardware.
fn partial(family: Family, flags: u8) -> Vec<u8> {
    let whole = tcp_frame(&client(family), family.front(), flags, b"data that the sum must cover");
    let headers = super::parse::parse(&whole).unwrap();
    let pseudo = crate::packet::checksum::pseudo_header(&headers.key, headers.l4_bytes.into());
    let (mut partial, at) = (whole, family.l4_offset() + 16);
    partial[at..at + 2].copy_from_slice(&pseudo.fold().to_ne_bytes());
    assert!(!checksums_are_right(&partial));
    partial
}

#[test]
fn a_partial_checksum_is_finished_and_a_missing_one_stays_missing() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        to_backend(&mut pipeline, &snapshot, &partial(family, SYN));
    }
    let (mut pipeline, snapshot) = rig(&Fixture::default());
    let mut none = udp_frame(CLIENT, FRONT, b"x");
    none[40..42].fill(0);
    let (_, out) = send(&mut pipeline, &snapshot, &none, NOW);
    assert_eq!(out[40..42], [0, 0]);
}

#[test]
fn ipv6_udp_without_a_checksum_is_dropped_by_name() {
    let (mut pipeline, snapshot) = rig(&fixture(Family::V6));
    let mut none = udp_frame(&client(Family::V6), Family::V6.front(), b"x");
    none[60..62].fill(0);
    let (verdict, out) = send(&mut pipeline, &snapshot, &none, NOW);
    assert_eq!((verdict, out), (Verdict::Drop(DropReason::UdpCsum), none));
}

/// The checksum of such a packet comes out as 0, which would mean "none".
#[test]
fn a_udp_checksum_never_becomes_zero() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let me = client(family);
        to_backend(&mut pipeline, &snapshot, &udp_frame(&me, family.front(), &[0, 0]));
        let mut zeros = 0;
        for word in 0..=u16::MAX {
            let frame = udp_frame(&me, family.front(), &word.to_be_bytes());
            let (_, out) = send(&mut pipeline, &snapshot, &frame, NOW);
            let at = family.l4_offset() + 6;
            assert_ne!(out[at..at + 2], [0, 0], "{word}");
            zeros += u32::from(out[at..at + 2] == [0xff, 0xff]);
        }
        assert!(zeros > 0);
    }
}

#[test]
fn a_partial_checksum_is_finished_before_the_kernel_gets_the_packet_back() {
    for family in Family::ALL {
        let (me, front) = (client(family), family.front());
        let whole = tcp_frame(&me, front, ACK, b"data that the sum must cover");
        let mut partial = partial(family, ACK);
        super::finish_checksum(&mut partial);
        assert_eq!(partial, whole);
        super::finish_checksum(&mut partial);
        assert_eq!(partial, whole, "a finished one stays");
    }
}

#[test]
fn a_syn_that_is_something_else_too_opens_no_flow() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let mut try_flags = |flags| {
            let frame = tcp_frame(&client(family), family.front(), flags, b"");
            send(&mut pipeline, &snapshot, &frame, NOW).0
        };
        for flags in [SYN | FIN, SYN | RST, SYN | ACK, FIN, 0] {
            assert_eq!(try_flags(flags), Verdict::Pass(PassReason::TcpNotSyn), "{flags:#x}");
        }
        assert_eq!(try_flags(SYN), Verdict::Forward(INNER));
    }
}

#[test]
fn no_local_endpoints_drops_in_silence() {
    for family in Family::ALL {
        let fixture = fixture(family);
        let snapshot = fixture.snapshot_with(Selection::Drop(DropReason::NoLocalEndpoints));
        let frame = udp_frame(&client(family), family.front(), b"");
        let (verdict, out) = send(&mut fixture.pipeline(0, None), &snapshot, &frame, NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::NoLocalEndpoints));
        assert_eq!(out, frame);
    }
}

/// Never compiled so; nothing may be written that is neither.
#[test]
fn a_front_and_a_backend_of_two_families_are_dropped_by_name() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        for masquerade in [true, false] {
            let backends = Fixture { masquerade, ..fixture(other) }.backend_set();
            let selection = Selection::Forward { backends, masquerade };
            let snapshot = fixture(family).snapshot_with(selection);
            let mut pipeline = fixture(family).pipeline(0, None);
            let frame = udp_frame(&client(family), family.front(), b"");
            let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
            assert_eq!((verdict, out), (Verdict::Drop(DropReason::FamilyMismatch), frame));
            assert!(pipeline.flows.is_empty());
        }
    }
}

#[test]
fn a_masquerade_address_of_the_other_family_counts_as_none() {
    for (family, other) in [(Family::V4, Family::V6), (Family::V6, Family::V4)] {
        let (mut pipeline, mut snapshot) = rig(&fixture(family));
        let snat_address = Some(other.snat_address());
        let change = |hop: &NextHop| NextHop { snat_address, ..hop.clone() };
        snapshot.next_hops = snapshot.next_hops.iter().map(change).collect();
        let frame = udp_frame(&client(family), family.front(), b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
        assert_eq!((verdict, out), (Verdict::Drop(DropReason::NoSnatAddress), frame));
    }
}

#[test]
fn extension_headers_go_along_unchanged() {
    let family = Family::V6;
    let (mut pipeline, snapshot) = rig(&fixture(family));
    let chain = [(0, 8), (60, 16), (43, 8)];
    let plain = udp_frame(&client(family), family.front(), b"question");
    let frame = with_extensions(plain.clone(), &chain);
    let (snat, backend) = to_backend(&mut pipeline, &snapshot, &frame);
    assert_eq!(to_backend(&mut pipeline, &snapshot, &plain), (snat, backend), "one flow");
    let (_, out) = send(&mut pipeline, &snapshot, &frame, NOW);
    assert_eq!((&out[20..21], &out[54..86]), (&frame[20..21], &frame[54..86]));
}

#[test]
fn an_established_flow_keeps_its_backend_when_the_set_changes() {
    for family in Family::ALL {
        let (mut pipeline, before) = rig(&Fixture { backends: 10, ..fixture(family) });
        let after = Fixture { backends: 1, ..fixture(family) };
        let mut after_snapshot = after.snapshot();
        after_snapshot.next_hops = before.next_hops.clone();
        after_snapshot.version = Version(2);
        for port in 1..100 {
            let client = family.client(1, port);
            let syn = tcp_frame(&client, family.front(), SYN, b"");
            let first = to_backend(&mut pipeline, &before, &syn);
            let data = tcp_frame(&client, family.front(), ACK, b"more");
            assert_eq!(to_backend(&mut pipeline, &after_snapshot, &data), first);
        }
    }
}

#[test]
fn a_udp_flow_moves_when_its_backend_stops_serving_and_only_then() {
    for family in Family::ALL {
        let (mut pipeline, before) = rig(&Fixture { backends: 10, ..fixture(family) });
        let mut after = Fixture { backends: 1, ..fixture(family) }.snapshot();
        after.next_hops = before.next_hops.clone();
        after.version = Version(2);
        let mut none = Fixture { backends: 0, ..fixture(family) }
            .snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
        none.next_hops = before.next_hops.clone();
        none.version = Version(3);
        let only = SocketAddr::new(family.backend(1).into(), 5000).to_string();
        for port in 1..100 {
            let frame = udp_frame(&family.client(1, port), family.front(), b"");
            let first = to_backend(&mut pipeline, &before, &frame);
            let kept = to_backend(&mut pipeline, &none, &frame);
            assert_eq!(kept, first, "no serving endpoint at all: nothing is forgotten (G4)");
            let second = to_backend(&mut pipeline, &after, &frame);
            assert_eq!(second.1, only);
            assert!(first.1 != second.1 || first == second);
        }
    }
}

#[test]
fn packets_without_flow_or_front_go_to_the_kernel_untouched() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let mid_flow = tcp_frame(&client(family), family.front(), ACK, b"data");
        let other = tcp_frame(&client(family), family.no_front(), SYN, b"");
        for (frame, reason) in [(mid_flow, PassReason::TcpNotSyn), (other, PassReason::FrontGone)] {
            let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
            assert_eq!((verdict, out), (Verdict::Pass(reason), frame));
        }
    }
}

#[test]
fn a_closed_tuple_that_opens_again_gets_a_new_port() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&Fixture { backends: 1, ..fixture(family) });
        let segment = |flags| tcp_frame(&client(family), family.front(), flags, b"");
        let first = to_backend(&mut pipeline, &snapshot, &segment(SYN));
        let repeated = to_backend(&mut pipeline, &snapshot, &segment(SYN));
        assert_eq!(repeated, first, "a repeated SYN stays");
        to_backend(&mut pipeline, &snapshot, &segment(RST));
        let again = to_backend(&mut pipeline, &snapshot, &segment(SYN));
        assert_ne!(again.0, first.0);
        assert_eq!(pipeline.flows.len(), 1);
    }
}

#[test]
fn two_packets_of_a_new_flow_in_one_burst_share_it() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&Fixture { maglev: false, ..fixture(family) });
        let frame = udp_frame(&client(family), family.front(), b"");
        let mut buffers = [frame.clone(), frame.clone()];
        let mut packets: Vec<_> =
            buffers.iter_mut().map(|b| Packet::new(b, frame.len(), OUTER)).collect();
        pipeline.process(&mut packets, &snapshot, NOW);
        assert_eq!(ends(packets[0].bytes()), ends(packets[1].bytes()));
        assert_eq!(pipeline.flows.len(), 1);
    }
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
    for family in Family::ALL {
        let fixture = Fixture { backends: 1, flows_max: 2048, ..fixture(family) };
        let (mut pipeline, snapshot) = rig(&fixture);
        let mut seen = BTreeSet::new();
        for n in 0..1500 {
            pipeline.flows.changes_mut().begun.clear();
            let client = family.client(n / 250, 1000 + n);
            let frame = udp_frame(&client, family.front(), b"");
            assert!(seen.insert(to_backend(&mut pipeline, &snapshot, &frame).0));
        }
    }
}

/// Two packet paths that share what workers share.
fn two_workers(fixture: &Fixture) -> [Pipeline; 2] {
    let directory = Arc::new(OwnerDirectory::with_capacity(1024));
    let affinity = Arc::new(AffinityTable::with_capacity(8));
    let datagrams = Arc::new(DatagramTable::with_capacity(64));
    [0, 1].map(|worker| {
        let memory = (Arc::clone(&affinity), Arc::clone(&datagrams));
        fixture.pipeline_sharing(worker, Some(Arc::clone(&directory)), memory)
    })
}

#[test]
fn a_packet_on_the_wrong_worker_is_handed_to_the_owner_and_only_once() {
    for family in Family::ALL {
        let fixture = fixture(family);
        let snapshot = fixture.snapshot();
        let [mut first, mut second] = two_workers(&fixture);
        let frame = udp_frame(&client(family), family.front(), b"");
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

/// Frames that a random one is made of: both families, with and without extension headers.
fn seeds() -> Vec<Vec<u8>> {
    let frames = |family: Family| {
        let (me, front) = (client(family), family.front());
        [tcp_frame(&me, front, SYN, b"abc"), udp_frame(&me, front, b"abc")]
    };
    let [tcp, udp] = frames(Family::V6);
    let extended = with_extensions(udp.clone(), &[(0, 8), (60, 16), (51, 12)]);
    // Errors about what the client was sent, so that the flows of the others are found.
    let error = |family: Family, kind| {
        let sent = udp_frame(family.front(), &client(family), b"abc");
        icmp_error(family.router(), (kind, 0), &sent)
    };
    let errors = [error(Family::V4, 3), error(Family::V6, 1)];
    let pieces =
        |family: Family| fragments(&udp_frame(&client(family), family.front(), &[9; 60]), 32);
    let pieces = Family::ALL.map(pieces).concat();
    [&frames(Family::V4)[..], &[tcp, udp, extended], &errors, &pieces].concat()
}

/// A snapshot whose fronts are those of both families.
fn both_families() -> Snapshot {
    let mut snapshot = fixture(Family::V4).snapshot();
    let v6 = fixture(Family::V6).snapshot();
    for (key, front) in v6.fronts.iter() {
        snapshot.fronts.insert(*key, Arc::clone(front));
    }
    snapshot
}

/// Twenty thousand random, mutated and truncated frames: no panic, every packet gets a verdict,
/// and only forwarded and rejected ones change.
#[test]
fn random_and_truncated_frames_get_a_verdict() {
    let mut pipeline = Fixture::default().pipeline(0, None);
    let snapshot = both_families();
    let mut random = crate::random::Random::new(7);
    let seeds = seeds();
    let mut counts = [0u32; 4];
    for round in 0..20_000u32 {
        let mut frame = seeds[round as usize % seeds.len()].clone();
        for _ in 0..random.below(4) {
            let at = random.below(u32::try_from(frame.len()).unwrap()) as usize;
            frame[at] = random.next_u64().to_ne_bytes()[0];
        }
        if random.below(3) == 0 {
            frame.truncate(random.below(u32::try_from(frame.len()).unwrap()) as usize);
        }
        let (verdict, out) = send(&mut pipeline, &snapshot, &frame, later(u64::from(round)));
        match verdict {
            Verdict::Forward(_) => counts[0] += 1,
            Verdict::Reject(_) => counts[1] += 1,
            Verdict::Pass(_) | Verdict::Wait => counts[2] += 1,
            Verdict::Drop(_) => counts[3] += 1,
            Verdict::Pending | Verdict::Generated | Verdict::HandOff(_) => panic!("{verdict:?}"),
        }
        let may_change = matches!(verdict, Verdict::Forward(_) | Verdict::Reject(_));
        assert!(may_change || out == frame);
        let changes = pipeline.flows.changes_mut();
        changes.begun.clear();
        changes.removed.clear();
    }
    assert_eq!(counts.iter().sum::<u32>(), 20_000);
    assert!(counts[0] > 2000 && counts[3] > 2000, "{counts:?}");
}

/// Any payload from any client comes out with right checksums on both sides, and what the backend
/// returns reaches the client as if the front had said it.
#[test]
fn there_and_back_is_identity_whatever_the_payload() {
    let snapshots = Family::ALL.map(|family| fixture(family).snapshot());
    let cases = bolero::check!().with_type::<(bool, bool, u16, u16, Vec<u8>)>();
    cases.for_each(|(is_v6, is_tcp, host, port, payload)| {
        let family = if *is_v6 { Family::V6 } else { Family::V4 };
        let snapshot = &snapshots[usize::from(*is_v6)];
        let mut pipeline = fixture(family).pipeline(0, None);
        let (client, front) = (family.client(*host, *port), family.front());
        let payload = &payload[..payload.len().min(1400)];
        let frame = |from: &str, to: &str| {
            if *is_tcp { tcp_frame(from, to, SYN, payload) } else { udp_frame(from, to, payload) }
        };
        let (snat, backend) = to_backend(&mut pipeline, snapshot, &frame(&client, front));
        let (verdict, out) = send(&mut pipeline, snapshot, &frame(&backend, &snat), NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        let mut expected = frame(front, &client);
        expected[family.ttl_offset()] = 63;
        assert!(checksums_are_right(&out));
        // The TTL differs, and with it IPv4's checksum; the link's addresses are another matter.
        expected[..12].copy_from_slice(&out[..12]);
        if family == Family::V4 {
            expected[24..26].copy_from_slice(&out[24..26]);
        }
        assert_eq!(out, expected);
    });
}
