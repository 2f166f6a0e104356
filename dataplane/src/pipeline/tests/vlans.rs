//! VLAN tags: what came tagged is answered with the tag, and pods see none.

use super::{NOW, client, fixture, rig};
use crate::packet::headers::tcp_flags::{ACK, SYN};
use crate::pipeline::Pipeline;
use crate::snapshot::{Selection, Snapshot};
use crate::testing::{
    Family, Fixture, INNER, OUTER, checksums_are_right, ends, fragments, icmp_error, send,
    tcp_frame, udp_frame,
};
use crate::verdict::{PassReason, RejectReason, Verdict};

/// Priority and VLAN: one of each, both, and a priority of 0 without a VLAN.
const TAGS: [[u8; 2]; 4] = [[0, 7], [0x60, 0], [0xaf, 0xfe], [0, 0]];

pub(super) fn tagged(frame: &[u8], tag: [u8; 2]) -> Vec<u8> {
    let [high, low] = tag;
    [&frame[..12], &[0x81, 0, high, low], &frame[12..]].concat()
}

/// A frame without the tag that it must have.
pub(super) fn untagged(frame: &[u8], tag: [u8; 2]) -> Vec<u8> {
    assert_eq!(frame[12..16], [0x81, 0, tag[0], tag[1]]);
    [&frame[..12], &frame[16..]].concat()
}

/// Sends a client's tagged packet; returns the pod's and the client's end as the pod sees them.
fn to_pod(
    pipeline: &mut Pipeline,
    snapshot: &Snapshot,
    frame: &[u8],
    tag: [u8; 2],
) -> (String, String) {
    let (verdict, out) = send(pipeline, snapshot, &tagged(frame, tag), NOW);
    assert_eq!(verdict, Verdict::Forward(INNER));
    assert_eq!(out.len(), frame.len(), "pods see no tag");
    assert!(checksums_are_right(&out));
    ends(&out)
}

#[test]
fn an_answer_leaves_with_the_tag_of_the_packet_before() {
    for (family, masquerade) in Family::ALL.into_iter().flat_map(|f| [(f, true), (f, false)]) {
        let (mut pipeline, snapshot) = rig(&Fixture { masquerade, ..fixture(family) });
        let (me, front) = (client(family), family.front());
        for (question, answer) in
            [(tcp_frame(&me, front, SYN, b""), SYN | ACK), (udp_frame(&me, front, b"question"), 0)]
        {
            for tag in TAGS {
                let (seen, pod) = to_pod(&mut pipeline, &snapshot, &question, tag);
                let answer = match answer {
                    0 => udp_frame(&pod, &seen, b"answer"),
                    flags => tcp_frame(&pod, &seen, flags, b""),
                };
                let (verdict, out) = send(&mut pipeline, &snapshot, &answer, NOW);
                assert_eq!(verdict, Verdict::Forward(OUTER));
                let out = untagged(&out, tag);
                assert!(checksums_are_right(&out));
                assert_eq!(ends(&out), (front.to_owned(), me.clone()));
            }
        }
    }
}

#[test]
fn a_client_that_leaves_its_vlan_is_answered_without_a_tag() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let question = udp_frame(&client(family), family.front(), b"question");
        let (seen, pod) = to_pod(&mut pipeline, &snapshot, &question, TAGS[0]);
        send(&mut pipeline, &snapshot, &question, NOW);
        let answer = udp_frame(&pod, &seen, b"answer");
        let (_, out) = send(&mut pipeline, &snapshot, &answer, NOW);
        assert_eq!(out.len(), answer.len());
        assert!(checksums_are_right(&out));
    }
}

#[test]
fn errors_keep_the_tag_our_own_and_others() {
    for family in Family::ALL {
        let fixture = fixture(family);
        let question = udp_frame(&client(family), family.front(), b"question");
        let nobody = fixture.snapshot_with(Selection::Reject(RejectReason::NoEndpoints));
        let mut pipeline = fixture.pipeline(0, None);
        let (verdict, out) = send(&mut pipeline, &nobody, &tagged(&question, TAGS[0]), NOW);
        assert_eq!(verdict, Verdict::Reject(RejectReason::NoEndpoints));
        assert!(checksums_are_right(&untagged(&out, TAGS[0])));

        let (mut pipeline, snapshot) = rig(&fixture);
        let sent = tagged(&question, TAGS[1]);
        let (_, forwarded) = send(&mut pipeline, &snapshot, &sent, NOW);
        let unreachable = match family {
            Family::V4 => (3, 1),
            Family::V6 => (1, 3),
        };
        let error = icmp_error(family.backend(1).into(), unreachable, &forwarded);
        let (verdict, out) = send(&mut pipeline, &snapshot, &error, NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        assert!(checksums_are_right(&untagged(&out, TAGS[1])));
    }
}

#[test]
fn what_is_not_ours_returns_to_the_kernel_as_it_came() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let other = tcp_frame(&client(family), family.no_front(), SYN, b"");
        let twice = tagged(&tagged(&other, TAGS[0]), TAGS[0]);
        let passed = [
            (tagged(&other, TAGS[0]), PassReason::FrontGone),
            (twice, PassReason::NotIp),
            (tagged(&other, [0xff, 0xff]), PassReason::NotIp),
        ];
        for (frame, reason) in passed {
            let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
            assert_eq!((verdict, out), (Verdict::Pass(reason), frame));
        }
    }
}

#[test]
fn tagged_fragments_follow_their_first() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&fixture(family));
        let datagram = udp_frame(&client(family), family.front(), &[7; 3000]);
        for piece in fragments(&datagram, 1440) {
            let (verdict, out) = send(&mut pipeline, &snapshot, &tagged(&piece, TAGS[2]), NOW);
            assert_eq!(verdict, Verdict::Forward(INNER));
            assert_eq!(out.len(), piece.len());
        }
    }
}

/// What a local stack left to the hardware is finished behind a tag as well.
#[test]
fn a_partial_checksum_behind_a_tag_is_finished_for_the_kernel() {
    for family in Family::ALL {
        let partial = super::partial(family, SYN);
        let (mut plain, mut frame) = (partial.clone(), tagged(&partial, TAGS[0]));
        crate::pipeline::finish_checksum(&mut plain);
        crate::pipeline::finish_checksum(&mut frame);
        assert_eq!(untagged(&frame, TAGS[0]), plain);
        assert!(checksums_are_right(&plain));
    }
}
