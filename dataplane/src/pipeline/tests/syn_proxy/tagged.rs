//! Whole connections behind a proxied handshake: VLAN tags, checksums that are left to
//! the hardware, and errors of others.

use super::{BACKEND_ISN, COOKIE, ISN, NOW, Talk, always, read, segment, write};
use crate::packet::checksum::pseudo_header;
use crate::packet::headers::tcp_flags::ACK;
use crate::pipeline::parse::parse;
use crate::testing::{INNER, OUTER, icmp_error, send};
use crate::verdict::Verdict;

/// From the cookie to the data, with the backend's answer once more: each frame to the client has
/// its tag, none to the backend, nor the one that is made.
#[test]
fn a_tagged_client_shakes_hands_behind_its_tag_and_its_backend_sees_none() {
    for fixture in always() {
        let mut talk = Talk { tag: Some([0x60, 7]), ..Talk::new(&fixture) };
        assert_eq!(talk.syn(ISN).0, COOKIE);
        assert_eq!(talk.ack().0, Verdict::Forward(INNER));
        for _ in 0..2 {
            let (verdict, out) = talk.syn_ack();
            assert_eq!(verdict, Verdict::Forward(OUTER));
            assert_eq!(
                (read(&out).flags, talk.generated().flags),
                (ACK, ACK),
                "a window, and ours"
            );
        }
        let (seen, theirs) = (talk.cookie.wrapping_add(1), BACKEND_ISN.wrapping_add(1));
        let next = ISN.wrapping_add(1);
        let (verdict, out) = talk.client_sends(&segment(ACK, next, seen, 400), b"question");
        assert_eq!((verdict, read(&out).acknowledgment), (Verdict::Forward(INNER), theirs));
        let (verdict, out) = talk.backend_sends(&segment(ACK, theirs, next, 100), b"answer");
        assert_eq!((verdict, read(&out).sequence), (Verdict::Forward(OUTER), seen));
    }
}

/// A router before the client says that an answer is too big: the backend must know its number.
#[test]
fn an_error_about_an_answer_quotes_the_backends_own_sequence_number() {
    for fixture in always() {
        let (mut talk, family) = (Talk::open(&fixture), fixture.family);
        let data = segment(ACK, BACKEND_ISN.wrapping_add(1), ISN.wrapping_add(1), 100);
        let (_, answer) = talk.backend_sends(&data, &[7; 600]);
        let kind = if answer[12] == 8 { (3, 4) } else { (2, 0) };
        let error = icmp_error(family.router(), kind, &answer[..answer.len().min(400)]);
        let (verdict, out) = send(&mut talk.pipeline, &talk.snapshot, &error, NOW);
        assert_eq!(verdict, Verdict::Forward(INNER));
        let quoted = family.l4_offset() + 8 + family.header_bytes() + 4;
        let sequence = BACKEND_ISN.wrapping_add(1).to_be_bytes();
        assert_eq!(out[quoted..quoted + 4], sequence);
    }
}

/// The backend's stack left the checksum to the hardware.
#[test]
fn a_partial_checksum_is_finished_over_the_new_numbers() {
    for fixture in always() {
        let mut talk = Talk::open(&fixture);
        let data = segment(ACK, BACKEND_ISN.wrapping_add(1), ISN.wrapping_add(1), 100);
        let mut frame = write((&talk.inner.1, &talk.inner.0), &data, b"left to the hardware");
        let headers = parse(&frame).unwrap();
        let at = fixture.family.l4_offset() + 16;
        let pseudo = pseudo_header(&headers.key, headers.l4_bytes.into()).fold();
        frame[at..at + 2].copy_from_slice(&pseudo.to_ne_bytes());
        let (_, out) = send(&mut talk.pipeline, &talk.snapshot, &frame, NOW);
        assert_eq!(read(&out).sequence, talk.cookie.wrapping_add(1));
    }
}
