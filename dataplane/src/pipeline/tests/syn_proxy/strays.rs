//! Segments that a handshake in the backend's place must not take for its own.

use super::{BACKEND_ISN, ISN, Segment, Talk, always, client, read, segment, write};
use crate::flow_table::FlowState;
use crate::packet::headers::tcp_flags::{ACK, RST, SYN};
use crate::stats::CookieEvent;
use crate::testing::{INNER, OUTER, fragments};
use crate::verdict::{DropReason, PassReason, Verdict};

const STRAY: Verdict = Verdict::Drop(DropReason::FlowStateInvalid);

/// A segment with data, in two pieces: the first has the header.
fn pieces(ends: (&str, &str), segment: &Segment) -> Vec<Vec<u8>> {
    fragments(&write(ends, segment, &[7; 16]), 24)
}

/// The client's ACK with data, in pieces.
fn of_client(talk: &Talk) -> Vec<Vec<u8>> {
    let ack = segment(ACK, ISN.wrapping_add(1), talk.cookie.wrapping_add(1), 500);
    pieces((&*client(talk.family), talk.family.front()), &ack)
}

#[test]
fn a_cookie_in_a_fragment_opens_nothing() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        let first = of_client(&talk).remove(0);
        assert_eq!(talk.through(&first), (Verdict::Pass(PassReason::TcpNotSyn), first));
        assert!(talk.pipeline.flows.is_empty());
        assert_eq!(talk.cookies(CookieEvent::Valid) + talk.cookies(CookieEvent::Invalid), 0);
    }
}

#[test]
fn fragments_are_dropped_while_the_handshake_is_under_way_and_change_nothing() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        let answer = segment(SYN | ACK, BACKEND_ISN, ISN.wrapping_add(1), 64_240);
        let of_backend = pieces((&talk.inner.1, &talk.inner.0), &answer);
        for first in [&of_client(&talk)[0], &of_backend[0]] {
            assert_eq!(talk.through(first), (STRAY, first.clone()));
            assert!(talk.pipeline.generated().is_empty());
        }
        assert_eq!(talk.state(), FlowState::SynSent);
        assert_eq!(talk.syn_ack().0, Verdict::Forward(OUTER));
    }
}

#[test]
fn an_answer_to_another_syn_opens_and_ends_nothing() {
    let (ours, another) = (ISN.wrapping_add(1), ISN.wrapping_add(2));
    for fixture in always() {
        // A reset that acknowledges nothing may be anybody's.
        for (flags, number) in [(SYN | ACK, another), (RST | ACK, another), (RST, ours)] {
            let mut talk = Talk::new(&fixture);
            talk.syn(ISN);
            talk.ack();
            let answer = segment(flags, BACKEND_ISN, number, 100);
            assert_eq!(talk.backend_sends(&answer, b"").0, STRAY);
            if flags & RST == 0 {
                assert_eq!(talk.generated(), segment(RST, another, 0, 0));
            }
            assert!(talk.pipeline.generated().is_empty());
            assert_eq!(talk.state(), FlowState::SynSent);
            assert_eq!(talk.syn_ack().0, Verdict::Forward(OUTER));
        }
    }
}

#[test]
fn a_late_copy_of_the_syn_does_not_tell_the_window() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        let (verdict, out) = talk.syn(ISN);
        assert_eq!(verdict, Verdict::Forward(INNER));
        assert_eq!((read(&out).flags, read(&out).window), (SYN, 64_000), "the ACK's 500 << 7");
        talk.syn_ack();
        assert_eq!(talk.generated().window, 500);
    }
}

#[test]
fn where_the_answer_to_a_backend_has_no_room_its_packet_is_dropped_and_heard_next_time() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        while talk.pipeline.generated_mut().add(INNER, 14).is_some() {}
        assert_eq!(talk.syn_ack().0, Verdict::Drop(DropReason::Nomem));
        assert_eq!(talk.state(), FlowState::SynSent);
        talk.pipeline.generated_mut().clear();
        assert_eq!(talk.syn_ack().0, Verdict::Forward(OUTER));
    }
}
