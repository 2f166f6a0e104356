//! When SYNs are answered with cookies, and when not.

use super::super::{client, rig};
use super::{COOKIE, ISN, NOW, Talk, always, segment, with, write};
use crate::admission::{Admission, SynProxyMode};
use crate::packet::headers::tcp_flags::{ACK, RST, SYN};
use crate::pipeline::{Packet, Pipeline};
use crate::stats::FlowEnd;
use crate::testing::{Family, Fixture, INNER, OUTER, send, tcp_frame};
use crate::types::Time;
use crate::verdict::{DropReason, Verdict};

#[test]
fn auto_begins_at_half_the_limit_of_handshakes_and_ends_below_a_quarter() {
    for family in Family::ALL {
        let base = with(family, true, SynProxyMode::Auto);
        let admission = Admission { embryonic_flows_max: 16, ..base.admission };
        let (mut pipeline, snapshot) = rig(&Fixture { admission, ..base });
        let syn = |pipeline: &mut Pipeline, port, flags| {
            let frame = tcp_frame(&family.client(1, port), family.front(), flags, b"");
            send(pipeline, &snapshot, &frame, NOW).0
        };
        let ports = 4_000..4_008;
        assert!(ports.clone().all(|p| syn(&mut pipeline, p, SYN) == Verdict::Forward(INNER)));
        assert_eq!(syn(&mut pipeline, 5_000, SYN), COOKIE);
        for port in ports.take(4) {
            assert_eq!(syn(&mut pipeline, 5_000, SYN), COOKIE, "{}", pipeline.flows.embryonic());
            syn(&mut pipeline, port, RST);
        }
        assert_eq!(pipeline.flows.embryonic(), 4);
        assert_eq!(syn(&mut pipeline, 5_000, SYN), COOKIE, "not below a quarter");
        pipeline.note_gate();
        assert_eq!(pipeline.flows.counters().work.syn_proxy_on.get(), 1);
        syn(&mut pipeline, 4_004, RST);
        assert_eq!(syn(&mut pipeline, 5_000, SYN), Verdict::Forward(INNER));
        pipeline.note_gate();
        assert_eq!(pipeline.flows.counters().work.syn_proxy_on.get(), 0);
    }
}

#[test]
fn off_answers_nothing_however_many_come() {
    let base = with(Family::V4, true, SynProxyMode::Off);
    let admission = Admission { embryonic_flows_max: 16, ..base.admission };
    let (mut pipeline, snapshot) = rig(&Fixture { admission, ..base });
    for port in 0..100 {
        let frame = tcp_frame(&Family::V4.client(1, 4_000 + port), Family::V4.front(), SYN, b"");
        let now = Time(NOW.0 + u64::from(port) * 1_000_000);
        assert_eq!(send(&mut pipeline, &snapshot, &frame, now).0, Verdict::Forward(INNER));
        pipeline.flows.changes_mut().begun.clear();
        pipeline.flows.changes_mut().removed.clear();
    }
    assert_eq!(pipeline.flows.len(), 16);
}

#[test]
fn where_our_syn_does_not_fit_the_frame_no_flow_begins() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        let ack = segment(ACK, ISN.wrapping_add(1), talk.cookie.wrapping_add(1), 500);
        let mut frame = write((&client(fixture.family), fixture.family.front()), &ack, b"");
        let len = frame.len();
        let mut packet = Packet::new(&mut frame, len, OUTER);
        talk.pipeline.process(core::slice::from_mut(&mut packet), &talk.snapshot, NOW);
        assert_eq!(packet.verdict, Verdict::Drop(DropReason::Nomem));
        let work = &talk.pipeline.flows.counters().work;
        assert_eq!((work.flows.get(), work.snat_ports_used.get()), (0, 0));
        assert_eq!(work.flows_ended[FlowEnd::Refused as usize].get(), 1);
        assert_eq!(talk.ack().0, Verdict::Forward(INNER), "the cookie is good still");
    }
}
