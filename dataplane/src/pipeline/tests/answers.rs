//! Our own ICMP errors.

use super::{NOW, client, fixture, later, rig, to_backend};
use crate::packet::headers::tcp_flags::SYN;
use crate::snapshot::{Interface, NextHop, Selection, Snapshot};
use crate::stats::FlowEnd;
use crate::testing::{
    CLIENT_MAC, Family, Fixture, GATEWAY_MAC, checksums_are_right, ends, send, tcp_frame, udp_frame,
};
use crate::types::IpAddress;
use crate::verdict::{DropReason, RejectReason, Verdict};
use core::net::SocketAddr;
use std::sync::Arc;

/// The end of a packet without ports.
fn host(end: &str) -> String {
    SocketAddr::new(end.parse::<SocketAddr>().unwrap().ip(), 0).to_string()
}

fn address(address: IpAddress) -> String {
    SocketAddr::new(address.into(), 0).to_string()
}

#[test]
fn no_endpoints_answers_with_port_unreachable_from_the_front() {
    for family in Family::ALL {
        let fixture = fixture(family);
        let snapshot = fixture.snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
        let mut pipeline = fixture.pipeline(0, None);
        let frame = tcp_frame(&client(family), family.front(), SYN, b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
        assert_eq!(verdict, Verdict::Reject(RejectReason::NoEndpoints));
        assert!(checksums_are_right(&out));
        assert_eq!(ends(&out), (host(family.front()), host(&client(family))));
        let (icmp, port_unreachable) = match family {
            Family::V4 => (34, [3, 3]),
            Family::V6 => (54, [1, 4]),
        };
        assert_eq!(out[icmp..icmp + 2], port_unreachable);
        assert_eq!(out[icmp + 8..], frame[14..], "the packet is quoted");
        assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
    }
}

#[test]
fn a_reject_quotes_as_much_as_its_family_allows() {
    for (family, bytes_max) in [(Family::V4, 576), (Family::V6, 1280)] {
        let fixture = fixture(family);
        let snapshot = fixture.snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
        let frame = udp_frame(&client(family), family.front(), &[7; 1400]);
        let (_, out) = send(&mut fixture.pipeline(0, None), &snapshot, &frame, NOW);
        assert_eq!(out.len(), 14 + bytes_max);
        assert!(checksums_are_right(&out));
        let quote = family.l4_offset() + 8;
        assert_eq!(out[quote..], frame[14..14 + out.len() - quote]);
    }
}

/// ICMP type and code, and the MTU that it tells.
fn said(family: Family, frame: &[u8]) -> ([u8; 2], u16) {
    let icmp: [u8; 8] = frame[family.l4_offset()..][..8].try_into().unwrap();
    assert_eq!(icmp[4..6], [0, 0]);
    ([icmp[0], icmp[1]], u16::from_be_bytes([icmp[6], icmp[7]]))
}

/// A client's packet and a backend's answer to it, in a flow of this policy.
pub(super) fn both_ways(
    family: Family,
    masquerade: bool,
    payload: &[u8],
) -> (Fixture, [Vec<u8>; 2]) {
    let fixture = Fixture { masquerade, ..fixture(family) };
    let frame = udp_frame(&client(family), family.front(), payload);
    let (mut pipeline, snapshot) = rig(&fixture);
    let (seen, backend) = to_backend(&mut pipeline, &snapshot, &frame);
    (fixture, [frame, udp_frame(&backend, &seen, payload)])
}

/// Whom the answer to each of the two comes from and goes to.
fn answer_ends(family: Family, frames: &[Vec<u8>; 2]) -> [(String, String); 2] {
    let from_front = (host(family.front()), host(&ends(&frames[0]).0));
    let from_node = (address(family.snat_address()), host(&ends(&frames[1]).0));
    [from_front, from_node]
}

#[test]
fn a_used_up_ttl_is_answered_with_time_exceeded_in_both_directions() {
    for family in Family::ALL {
        for masquerade in [true, false] {
            let (fixture, mut frames) = both_ways(family, masquerade, b"ping");
            let (mut pipeline, snapshot) = rig(&fixture);
            send(&mut pipeline, &snapshot, &frames[0].clone(), NOW);
            frames.iter_mut().for_each(|frame| frame[family.ttl_offset()] = 1);
            let kind = if family == Family::V4 { [11, 0] } else { [3, 0] };
            for (frame, expected) in frames.iter().zip(answer_ends(family, &frames)) {
                let (verdict, out) = send(&mut pipeline, &snapshot, frame, NOW);
                assert_eq!(verdict, Verdict::Reject(RejectReason::TtlExceeded));
                assert_eq!((ends(&out), said(family, &out)), (expected, (kind, 0)));
                assert_eq!(out[family.l4_offset() + 8..], frame[14..]);
                assert_eq!((&out[..6], &out[6..12]), (&frame[6..12], &frame[..6]), "turned");
            }
        }
    }
}

/// A packet that goes nowhere is no reason to remember its tuple, nor to give it a port.
#[test]
fn a_first_packet_that_cannot_go_on_is_answered_and_begins_nothing() {
    for family in Family::ALL {
        let (fixture, [large, _]) = both_ways(family, true, &[7; 1_300]);
        let mut late = large.clone();
        late[family.ttl_offset()] = 1;
        let (mut pipeline, snapshot) = rig(&fixture);
        let snapshot = with_mtu(snapshot, 1_280);
        for (frame, reason, mtu_bytes) in
            [(&late, RejectReason::TtlExceeded, 0), (&large, RejectReason::PktTooBig, 1_280)]
        {
            let (verdict, out) = send(&mut pipeline, &snapshot, frame, NOW);
            assert_eq!(verdict, Verdict::Reject(reason));
            assert_eq!(ends(&out), (host(family.front()), host(&client(family))));
            assert_eq!(said(family, &out).1, mtu_bytes);
            assert!(pipeline.flows.is_empty() && pipeline.flows.changes_mut().begun.is_empty());
        }
        let work = &pipeline.flows.counters().work;
        assert_eq!((work.flows.get(), work.snat_ports_used.get()), (0, 0));
        assert_eq!(work.flows_ended[FlowEnd::Refused as usize].get(), 0);
    }
}

pub(super) fn with_mtu(mut snapshot: Snapshot, mtu_bytes: u16) -> Snapshot {
    let small = |hop: &NextHop| NextHop { mtu_bytes, ..hop.clone() };
    snapshot.next_hops = snapshot.next_hops.iter().map(small).collect();
    let small = |interface: &Interface| Interface { mtu_bytes, ..interface.clone() };
    let interfaces = snapshot.interfaces.iter().map(|slot| slot.as_ref().map(small));
    snapshot.interfaces = Arc::new(interfaces.collect());
    snapshot
}

#[test]
fn a_packet_larger_than_the_egress_mtu_tells_its_sender_in_both_directions() {
    for family in Family::ALL {
        for masquerade in [true, false] {
            let (fixture, frames) = both_ways(family, masquerade, &[7; 700]);
            let (mut pipeline, snapshot) = rig(&fixture);
            send(&mut pipeline, &snapshot, &frames[0], NOW);
            let size = u16::try_from(frames[0].len() - 14).unwrap();
            let small = with_mtu(snapshot.clone(), size - 1);
            let kind = if family == Family::V4 { [3, 4] } else { [2, 0] };
            for (frame, expected) in frames.iter().zip(answer_ends(family, &frames)) {
                let (verdict, out) = send(&mut pipeline, &small, frame, NOW);
                assert_eq!(verdict, Verdict::Reject(RejectReason::PktTooBig));
                assert_eq!((ends(&out), said(family, &out)), (expected, (kind, size - 1)));
                assert!(checksums_are_right(&out));
                let fits = with_mtu(snapshot.clone(), size);
                let (verdict, _) = send(&mut pipeline, &fits, frame, NOW);
                assert!(matches!(verdict, Verdict::Forward(_)));
            }
        }
    }
}

#[test]
fn without_an_address_of_ours_a_backend_is_not_told() {
    for family in Family::ALL {
        let (fixture, mut frames) = both_ways(family, false, b"");
        let (mut pipeline, mut snapshot) = rig(&fixture);
        let nameless = |hop: &NextHop| NextHop { snat_address: None, ..hop.clone() };
        snapshot.next_hops = snapshot.next_hops.iter().map(nameless).collect();
        send(&mut pipeline, &snapshot, &frames[0], NOW);
        frames[1][family.ttl_offset()] = 1;
        let (verdict, out) = send(&mut pipeline, &snapshot, &frames[1], NOW);
        assert_eq!((verdict, &out), (Verdict::Drop(DropReason::TtlExceeded), &frames[1]));
    }
}

/// One allowance for all kinds, each with the name of its own once it is used up.
#[test]
fn answers_are_limited_together() {
    let family = Family::V6;
    let (fixture, [mut frame, _]) = both_ways(family, true, &[7; 700]);
    let (mut pipeline, snapshot) = rig(&fixture);
    send(&mut pipeline, &snapshot, &frame, NOW);
    let small = with_mtu(snapshot.clone(), 600);
    let big = frame.clone();
    frame[family.ttl_offset()] = 1;
    for n in 0..1000 {
        let (snapshot, frame) = if n % 2 == 0 { (&small, &big) } else { (&snapshot, &frame) };
        let (verdict, _) = send(&mut pipeline, snapshot, frame, NOW);
        assert!(matches!(verdict, Verdict::Reject(_)), "{n}");
    }
    let mut verdict = |snapshot, frame, now| send(&mut pipeline, snapshot, frame, now).0;
    assert_eq!(verdict(&small, &big, NOW), Verdict::Drop(DropReason::PktTooBig));
    assert_eq!(verdict(&snapshot, &frame, NOW), Verdict::Drop(DropReason::TtlExceeded));
    let reject = fixture.snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
    let other = tcp_frame(&family.client(9, 9), family.front(), SYN, b"");
    assert_eq!(verdict(&reject, &other, NOW), Verdict::Drop(DropReason::RateLimited));
    assert_eq!(verdict(&reject, &other, later(1)), Verdict::Reject(RejectReason::NoEndpoints));
}
