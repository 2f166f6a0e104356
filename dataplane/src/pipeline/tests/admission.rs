//! What a packet without a flow must pass: mid-flow policy, and limits.

use super::{NOW, client, fixture, later, rig, to_backend};
use crate::admission::{Admission, MidFlow};
use crate::flow_table::FlowState;
use crate::packet::headers::tcp_flags::{ACK, FIN, RST, SYN};
use crate::pipeline::Pipeline;
use crate::snapshot::FrontState;
use crate::testing::{
    CLIENT_MAC, Family, Fixture, GATEWAY_MAC, INNER, OUTER, checksums_are_right, ends, send,
    tcp_frame, udp_frame,
};
use crate::types::Time;
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};
use core::num::NonZeroU32;
use core::time::Duration;
use etherparse::{SlicedPacket, TcpHeader, TransportSlice};
use std::sync::Arc;

const DROPPED: Verdict = Verdict::Drop(DropReason::TcpNotSyn);

fn with(family: Family, mid_flow: MidFlow) -> Fixture {
    let base = fixture(family);
    Fixture { masquerade: false, admission: Admission { mid_flow, ..base.admission }, ..base }
}

fn tcp_header(frame: &[u8]) -> TcpHeader {
    let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ethernet(frame).unwrap().transport
    else {
        panic!("no TCP")
    };
    tcp.to_header()
}

fn packet(family: Family, flags: u8, payload: &[u8]) -> Vec<u8> {
    tcp_frame(&client(family), family.front(), flags, payload)
}

fn state(pipeline: &Pipeline) -> FlowState {
    pipeline.flows.scan(0, 8).0.next().unwrap().state
}

#[test]
fn a_packet_from_the_midst_of_an_unknown_flow_passes_or_is_dropped_as_configured() {
    for family in Family::ALL {
        for (policy, expected) in
            [(MidFlow::Pass, Verdict::Pass(PassReason::TcpNotSyn)), (MidFlow::Drop, DROPPED)]
        {
            let (mut pipeline, snapshot) = rig(&with(family, policy));
            for flags in [ACK, FIN | ACK, RST, SYN | ACK, 0] {
                let frame = packet(family, flags, b"data");
                let (verdict, out) = send(&mut pipeline, &snapshot, &frame, NOW);
                assert_eq!((verdict, out), (expected, frame), "{flags:#x}");
            }
            assert!(pipeline.flows.is_empty());
        }
    }
}

#[test]
fn a_packet_from_the_midst_of_an_unknown_flow_is_answered_with_a_reset() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&with(family, MidFlow::Reset));
        let mut ask = |flags| send(&mut pipeline, &snapshot, &packet(family, flags, b"data"), NOW);
        let (verdict, out) = ask(ACK | FIN);
        assert_eq!(verdict, Verdict::Reject(RejectReason::TcpNotSyn));
        assert_eq!(ends(&out), (family.front().into(), client(family)));
        assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
        assert!(checksums_are_right(&out));
        assert_eq!(out.len(), family.l4_offset() + 20);
        let reset = tcp_header(&out);
        // tcp_frame writes acknowledgment number 0 and sequence number 1000.
        assert!((reset.rst, reset.ack, reset.sequence_number) == (true, false, 0), "{reset:?}");
        let reset = tcp_header(&ask(FIN).1);
        assert!((reset.rst, reset.ack) == (true, true), "{reset:?}");
        assert_eq!(reset.acknowledgment_number, 1000 + 4 + 1, "data and FIN");
        assert_eq!(ask(RST | ACK).0, DROPPED, "a reset draws none");
    }
}

#[test]
fn resets_are_limited() {
    let (mut pipeline, snapshot) = rig(&with(Family::V4, MidFlow::Reset));
    let frame = packet(Family::V4, ACK, b"");
    let verdicts = (0..2_000).map(|_| send(&mut pipeline, &snapshot, &frame, NOW).0);
    let limited = verdicts.filter(|v| *v == Verdict::Drop(DropReason::RateLimited)).count();
    assert_eq!(limited, 1_000);
}

#[test]
fn a_flow_is_picked_up_where_its_backend_follows_and_established_by_an_answer() {
    for family in Family::ALL {
        let (mut known, snapshot) = rig(&with(family, MidFlow::Forward));
        let (client_end, backend) = to_backend(&mut known, &snapshot, &packet(family, SYN, b""));
        let (mut pipeline, _) = rig(&with(family, MidFlow::Forward));
        let seen = to_backend(&mut pipeline, &snapshot, &packet(family, ACK, b"data"));
        assert_eq!(seen, (client_end, backend.clone()), "where its SYN went");
        to_backend(&mut pipeline, &snapshot, &packet(family, ACK, b"more"));
        assert_eq!(pipeline.flows.embryonic(), 1, "nobody has shown that it exists");
        let reset = tcp_frame(&backend, &client(family), RST, b"");
        assert_eq!(send(&mut pipeline, &snapshot, &reset, NOW).0, Verdict::Forward(OUTER));
        assert_eq!(state(&pipeline), FlowState::Close);

        let (mut pipeline, _) = rig(&with(family, MidFlow::Forward));
        to_backend(&mut pipeline, &snapshot, &packet(family, ACK, b"data"));
        let answer = tcp_frame(&backend, &client(family), ACK, b"");
        let (verdict, out) = send(&mut pipeline, &snapshot, &answer, NOW);
        assert_eq!(verdict, Verdict::Forward(OUTER));
        assert_eq!(ends(&out), (family.front().into(), client(family)));
        assert_eq!((state(&pipeline), pipeline.flows.embryonic()), (FlowState::Established, 0));
    }
}

#[test]
fn a_flow_that_was_picked_up_and_reset_is_not_established_by_a_late_answer() {
    for family in Family::ALL {
        let (mut pipeline, snapshot) = rig(&with(family, MidFlow::Forward));
        let (_, backend) = to_backend(&mut pipeline, &snapshot, &packet(family, ACK, b"data"));
        to_backend(&mut pipeline, &snapshot, &packet(family, RST, b""));
        let answer = tcp_frame(&backend, &client(family), ACK, b"");
        assert_eq!(send(&mut pipeline, &snapshot, &answer, NOW).0, Verdict::Forward(OUTER));
        assert_eq!(state(&pipeline), FlowState::Close);
    }
}

#[test]
fn no_flow_is_picked_up_where_its_backend_is_not_certain() {
    for family in Family::ALL {
        let base = with(family, MidFlow::Forward);
        let affinity_timeout = Some(Duration::from_mins(1));
        for unclear in [
            Fixture { masquerade: true, ..base.clone() },
            Fixture { maglev: false, ..base.clone() },
            Fixture { affinity_timeout, ..base.clone() },
        ] {
            let (mut pipeline, snapshot) = rig(&unclear);
            let verdict = send(&mut pipeline, &snapshot, &packet(family, ACK, b"data"), NOW).0;
            assert_eq!(verdict, DROPPED, "{unclear:?}");
        }
        let (mut pipeline, mut snapshot) = rig(&base);
        let reset = packet(family, RST, b"");
        assert_eq!(send(&mut pipeline, &snapshot, &reset, NOW).0, DROPPED);
        for front in snapshot.fronts.values().cloned().collect::<Vec<_>>() {
            let mut front = (*front).clone();
            front.state = FrontState::Draining;
            snapshot.fronts.insert(front.key, Arc::new(front));
        }
        let data = packet(family, ACK, b"data");
        assert_eq!(send(&mut pipeline, &snapshot, &data, NOW).0, DROPPED, "it drains");
        assert!(pipeline.flows.is_empty());
    }
}

#[test]
fn more_new_flows_than_allowed_are_dropped_by_name_and_live_ones_go_on() {
    for family in Family::ALL {
        let base = fixture(family);
        let new_flows_per_second = NonZeroU32::new(100);
        let admission = Admission { new_flows_per_second, ..base.admission };
        let (mut pipeline, snapshot) = rig(&Fixture { admission, ..base });
        let mut begin = |port: u16, now| {
            let client = family.client(1, port);
            let frame = match port % 2 {
                0 => tcp_frame(&client, family.front(), SYN, b""),
                _ => udp_frame(&client, family.front(), b""),
            };
            send(&mut pipeline, &snapshot, &frame, now).0
        };
        let limited = Verdict::Drop(DropReason::NewFlowsLimited);
        let start = later(10);
        let verdicts: Vec<_> = (0..150).map(|n| begin(4000 + n, start)).collect();
        assert!(verdicts[..100].iter().all(|v| *v == Verdict::Forward(INNER)));
        assert!(verdicts[100..].iter().all(|v| *v == limited));
        assert_eq!(begin(4000, start), Verdict::Forward(INNER), "it lives");
        let soon = Time(start.0 + 10_000_000);
        assert_eq!([begin(5000, soon), begin(5001, soon)], [Verdict::Forward(INNER), limited]);
    }
}
