//! Datagrams in fragments (semantics G10).

use super::{NOW, client, fixture, rig, to_backend, two_workers};
use crate::packet::headers::tcp_flags::SYN;
use crate::pipeline::{Packet, Pipeline};
use crate::snapshot::{NextHop, Selection, Snapshot};
use crate::testing::{
    Family, Fixture, INNER, OUTER, checksums_are_right, ends, fragments, icmp_error, reassembled,
    send, tcp_frame, udp_frame,
};
use crate::types::{Time, WorkerId};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};

/// What an MTU of 1500 leaves.
const PIECE: usize = 1440;

fn payload(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect()
}

/// Sends pieces and returns what leaves by `egress`.
fn through(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    pieces: &[Vec<u8>],
    egress: crate::types::InterfaceSlot,
) -> Vec<Vec<u8>> {
    let send = |piece: &Vec<u8>| {
        let (verdict, out) = send(pipeline, snapshot, piece, NOW);
        assert_eq!(verdict, Verdict::Forward(egress));
        out
    };
    pieces.iter().map(send).collect()
}

#[test]
fn g10_eight_kilobytes_go_there_and_back_in_fragments() {
    for family in Family::ALL {
        for masquerade in [true, false] {
            let (mut pipeline, snapshot) = rig(&Fixture { masquerade, ..fixture(family) });
            let (me, front) = (client(family), family.front());
            let question = udp_frame(&me, front, &payload(8192));
            let pieces = fragments(&question, PIECE);
            assert_eq!(pieces.len(), 6);
            let seen = through(&mut pipeline, &snapshot, &pieces, INNER);
            let whole = reassembled(&seen).unwrap();
            assert!(checksums_are_right(&whole));
            let (source, backend) = ends(&whole);
            assert_eq!(source == me, !masquerade);
            assert_eq!(whole[family.l4_offset() + 8..], payload(8192));
            let answer = udp_frame(&backend, &source, &payload(8192));
            let back = through(&mut pipeline, &snapshot, &fragments(&answer, PIECE), OUTER);
            let whole = reassembled(&back).unwrap();
            assert!(checksums_are_right(&whole));
            assert_eq!(ends(&whole), (front.into(), me));
            assert_eq!(pipeline.flows.len(), 1);
        }
    }
}

#[test]
fn g10_every_fragment_is_forwarded_as_a_packet_is() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(3000)), PIECE);
        for (piece, out) in pieces.iter().zip(through(&mut pipeline, &snapshot, &pieces, INNER)) {
            assert_eq!(out[family.ttl_offset()], 63);
            assert_ne!(out[..12], piece[..12], "the link's addresses");
            if family == Family::V4 {
                let header = etherparse::Ipv4Header::from_slice(&out[14..]).unwrap().0;
                assert_eq!(header.header_checksum, header.calc_header_checksum());
            }
        }
    }
}

/// The last ones first: they wait, and are decided again once the first has come.
#[test]
fn g10_fragments_wait_for_their_first() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(8192)), PIECE);
        let version = pipeline.datagrams().version();
        for piece in pieces[1..].iter().rev() {
            let (verdict, out) = send(&mut pipeline, &snapshot, piece, NOW);
            assert_eq!((verdict, &out), (Verdict::Wait, piece));
        }
        assert_eq!(pipeline.datagrams().version(), version, "nothing was learnt");
        let first = through(&mut pipeline, &snapshot, &pieces[..1], INNER);
        assert_ne!(pipeline.datagrams().version(), version);
        let rest = through(&mut pipeline, &snapshot, &pieces[1..], INNER);
        assert!(checksums_are_right(&reassembled(&[first, rest].concat()).unwrap()));
    }
}

/// A backend's answer, its last fragments first.
#[test]
fn g10_a_replys_fragments_wait_for_their_first_too() {
    for family in Family::ALL {
        for masquerade in [true, false] {
            let (mut pipeline, snapshot) = rig(&Fixture { masquerade, ..fixture(family) });
            let question = udp_frame(&client(family), family.front(), b"how much");
            let (source, backend) = to_backend(&mut pipeline, &snapshot, &question);
            let pieces = fragments(&udp_frame(&backend, &source, &payload(8192)), PIECE);
            for piece in pieces[1..].iter().rev() {
                assert_eq!(send(&mut pipeline, &snapshot, piece, NOW).0, Verdict::Wait);
            }
            let whole = reassembled(&through(&mut pipeline, &snapshot, &pieces, OUTER)).unwrap();
            assert!(checksums_are_right(&whole));
            assert_eq!(ends(&whole), (family.front().into(), client(family)));
        }
    }
}

#[test]
fn g10_a_burst_that_holds_first_and_later_ones_needs_no_waiting() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(8192)), PIECE);
        let mut buffers = pieces.clone();
        let mut packets: Vec<_> = buffers
            .iter_mut()
            .zip(&pieces)
            .map(|(buffer, piece)| Packet::new(buffer, piece.len(), OUTER))
            .collect();
        pipeline.process(&mut packets, &snapshot, NOW);
        assert!(packets.iter().all(|packet| packet.verdict == Verdict::Forward(INNER)));
        let out: Vec<_> = packets.iter().map(|packet| packet.bytes().to_vec()).collect();
        assert!(checksums_are_right(&reassembled(&out).unwrap()));
    }
}

fn handed(pipeline: &mut Pipeline, snapshot: &Snapshot, frame: &[u8]) -> (Verdict, Vec<u8>) {
    let mut buffer = frame.to_vec();
    let mut packet = Packet::new(&mut buffer, frame.len(), OUTER);
    packet.is_handed = true;
    pipeline.process(core::slice::from_mut(&mut packet), snapshot, NOW);
    (packet.verdict, packet.bytes().to_vec())
}

#[test]
fn g10_each_fragment_may_come_to_another_worker() {
    for family in Family::ALL {
        let (fixture, snapshot) = (fixture(family), fixture(family).snapshot());
        let [mut first, mut second] = two_workers(&fixture);
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(4000)), PIECE);
        let mut out = through(&mut first, &snapshot, &pieces[..1], INNER);
        for piece in &pieces[1..] {
            let (verdict, same) = send(&mut second, &snapshot, piece, NOW);
            assert_eq!((verdict, &same), (Verdict::HandOff(WorkerId(0)), piece));
            let (verdict, changed) = handed(&mut first, &snapshot, piece);
            assert_eq!(verdict, Verdict::Forward(INNER));
            out.push(changed);
        }
        assert!(checksums_are_right(&reassembled(&out).unwrap()));
        // The first of the next datagram comes to the wrong worker: only the owner remembers it.
        let next = fragments(&udp_frame(&client(family), family.front(), &payload(4001)), PIECE);
        let (verdict, _) = send(&mut second, &snapshot, &next[0], NOW);
        assert_eq!(verdict, Verdict::HandOff(WorkerId(0)));
        assert_eq!(send(&mut second, &snapshot, &next[1], NOW).0, Verdict::Wait);
        assert_eq!(handed(&mut first, &snapshot, &next[0]).0, Verdict::Forward(INNER));
        let (verdict, _) = send(&mut second, &snapshot, &next[1], NOW);
        assert_eq!(verdict, Verdict::HandOff(WorkerId(0)));
    }
}

/// All fragments to a front's address come here, those for other ports too.
#[test]
fn g10_a_datagram_for_the_kernel_returns_to_it_whole() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let frame = udp_frame(&client(family), family.no_front(), &payload(4000));
        let expected = [PassReason::FrontGone, PassReason::Fragment, PassReason::Fragment];
        for (piece, reason) in fragments(&frame, PIECE).iter().zip(expected) {
            let (verdict, out) = send(&mut pipeline, &snapshot, piece, NOW);
            assert_eq!((verdict, &out), (Verdict::Pass(reason), piece));
            let mut returned = out;
            crate::pipeline::finish_checksum(&mut returned);
            assert_eq!(&returned, piece);
        }
    }
}

#[test]
fn g10_what_follows_a_refused_first_is_dropped_by_name() {
    let refused = Verdict::Drop(DropReason::FirstFragmentNotFound);
    for family in Family::ALL {
        let fixture = fixture(family);
        for selection in [
            Selection::Reject(RejectReason::NoEndpoints),
            Selection::Drop(DropReason::NoLocalEndpoints),
        ] {
            let snapshot = fixture.snapshot_with(selection);
            let mut pipeline = fixture.pipeline(0, None);
            let frame = udp_frame(&client(family), family.front(), &payload(4000));
            let pieces = fragments(&frame, PIECE);
            send(&mut pipeline, &snapshot, &pieces[0], NOW);
            for piece in &pieces[1..] {
                assert_eq!(send(&mut pipeline, &snapshot, piece, NOW), (refused, piece.clone()));
            }
        }
    }
}

#[test]
fn g10_a_datagram_is_forgotten_after_a_second() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(4000)), PIECE);
        through(&mut pipeline, &snapshot, &pieces[..1], INNER);
        let late = Time(NOW.0 + 1_000_000_000);
        assert_eq!(send(&mut pipeline, &snapshot, &pieces[1], late).0, Verdict::Wait);
    }
}

/// RFC 1122 section 3.2.2: about first fragments alone.
#[test]
fn g10_later_fragments_are_not_answered() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(4000)), PIECE);
        through(&mut pipeline, &snapshot, &pieces, INNER);
        let (mut first, mut later) = (pieces[0].clone(), pieces[1].clone());
        first[family.ttl_offset()] = 1;
        later[family.ttl_offset()] = 1;
        let (verdict, _) = send(&mut pipeline, &snapshot, &first, NOW);
        assert_eq!(verdict, Verdict::Reject(RejectReason::TtlExceeded));
        // What was refused last is what is known; the datagram is sent again.
        through(&mut pipeline, &snapshot, &pieces[..1], INNER);
        let (verdict, _) = send(&mut pipeline, &snapshot, &later, NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::TtlExceeded));
        let small = |hop: &NextHop| NextHop { mtu_bytes: 1400, ..hop.clone() };
        let mut narrow = snapshot.clone();
        narrow.next_hops = snapshot.next_hops.iter().map(small).collect();
        let mut piece = pieces[1].clone();
        if family == Family::V4 {
            // It must not be cut.
            piece[20] |= 0x40;
        }
        let (verdict, _) = send(&mut pipeline, &narrow, &piece, NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::PktTooBig));
    }
}

#[test]
fn g10_a_flow_that_ended_takes_no_more_fragments() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(4000)), PIECE);
        through(&mut pipeline, &snapshot, &pieces[..2], INNER);
        let key = super::super::parse::parse(&pieces[0]).unwrap().key;
        let (flow, _) = pipeline.flows.find(&key, pipeline.flows.hash(&key)).unwrap();
        assert!(pipeline.flows.end(flow, crate::stats::FlowEnd::Idle));
        let (verdict, _) = send(&mut pipeline, &snapshot, &pieces[2], NOW);
        assert_eq!(verdict, Verdict::Drop(DropReason::FlowStateInvalid));
    }
}

#[test]
fn g10_tcp_in_fragments_is_one_segment() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let segment = tcp_frame(&client(family), family.front(), SYN, &payload(4000));
        let out = through(&mut pipeline, &snapshot, &fragments(&segment, PIECE), INNER);
        assert!(checksums_are_right(&reassembled(&out).unwrap()));
        assert_eq!(pipeline.flows.len(), 1);
    }
}

/// The first fragment of what we sent has the ports.
#[test]
fn g10_an_error_may_quote_a_first_fragment() {
    for (family, kind) in [(Family::V4, 3), (Family::V6, 2)] {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let pieces = fragments(&udp_frame(&client(family), family.front(), &payload(4000)), PIECE);
        let out = through(&mut pipeline, &snapshot, &pieces, INNER);
        let quote = |piece: &Vec<u8>| icmp_error(family.router(), (kind, 0), &piece[..14 + 80]);
        let (verdict, error) = send(&mut pipeline, &snapshot, &quote(&out[0]), NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        assert!(checksums_are_right(&error));
        let (verdict, _) = send(&mut pipeline, &snapshot, &quote(&out[1]), NOW);
        assert_eq!(verdict, Verdict::Pass(PassReason::NoService));
    }
}
