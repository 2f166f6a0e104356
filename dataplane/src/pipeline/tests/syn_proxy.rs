//! Handshakes in the backend's place, segment by segment.

mod modes;
mod strays;
mod tagged;

use super::vlans::{tagged, untagged};
use super::{NOW, client, fixture, later};
use crate::admission::{Admission, SynProxyMode};
use crate::flow_table::FlowState;
use crate::packet::headers::tcp_flags::{ACK, FIN, RST, SYN};
use crate::pipeline::Pipeline;
use crate::snapshot::{NextHop, NextHopState, Selection, Snapshot};
use crate::stats::CookieEvent;
use crate::testing::{
    BACKEND_MAC, CLIENT_MAC, Family, Fixture, GATEWAY_INNER_MAC, GATEWAY_MAC, INNER, OUTER,
    checksums_are_right, ends, send, tcp_frame_with,
};
use crate::verdict::{DropReason, PassReason, RejectReason, Verdict};
use etherparse::TcpOptionElement::{
    self, MaximumSegmentSize, SelectiveAcknowledgement, SelectiveAcknowledgementPermitted,
    Timestamp, WindowScale,
};
use etherparse::{SlicedPacket, TcpHeader, TransportSlice};

/// The client's and the backend's initial sequence numbers; both wrap soon.
const ISN: u32 = 0xffff_fff0;
const BACKEND_ISN: u32 = 0xffff_ff00;
const COOKIE: Verdict = Verdict::Reject(RejectReason::SynCookie);

/// What the tests say of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    flags: u8,
    sequence: u32,
    acknowledgment: u32,
    window: u16,
    options: Vec<TcpOptionElement>,
}

fn segment(flags: u8, sequence: u32, acknowledgment: u32, window: u16) -> Segment {
    Segment { flags, sequence, acknowledgment, window, options: vec![] }
}

fn write((from, to): (&str, &str), segment: &Segment, payload: &[u8]) -> Vec<u8> {
    let mut tcp = TcpHeader::new(0, 0, segment.sequence, segment.window);
    tcp.acknowledgment_number = segment.acknowledgment;
    let is_set = |flag| segment.flags & flag != 0;
    (tcp.syn, tcp.ack, tcp.rst, tcp.fin) = (is_set(SYN), is_set(ACK), is_set(RST), is_set(FIN));
    tcp.set_options(&segment.options).unwrap();
    tcp_frame_with(from, to, tcp, payload)
}

fn read(frame: &[u8]) -> Segment {
    assert!(checksums_are_right(frame));
    let Some(TransportSlice::Tcp(tcp)) = SlicedPacket::from_ethernet(frame).unwrap().transport
    else {
        panic!("no TCP")
    };
    let flag = |is_set, flag| if is_set { flag } else { 0 };
    let flags = [(tcp.syn(), SYN), (tcp.ack(), ACK), (tcp.rst(), RST), (tcp.fin(), FIN)];
    Segment {
        flags: flags.iter().map(|(is_set, bit)| flag(*is_set, *bit)).sum(),
        sequence: tcp.sequence_number(),
        acknowledgment: tcp.acknowledgment_number(),
        window: tcp.window_size(),
        options: tcp.options_iterator().map(Result::unwrap).collect(),
    }
}

fn with(family: Family, masquerade: bool, syn_proxy: SynProxyMode) -> Fixture {
    let base = fixture(family);
    Fixture { masquerade, admission: Admission { syn_proxy, ..base.admission }, ..base }
}

fn is_untagged(frame: &[u8]) -> bool {
    matches!(frame[12..14], [0x08, 0x00] | [0x86, 0xdd])
}

/// A client, tidegate and a backend.
struct Talk {
    family: Family,
    pipeline: Pipeline,
    snapshot: Snapshot,
    cookie: u32,
    /// The ends as the backend sees them: its client's and its own.
    inner: (String, String),
    /// The VLAN tag of the client's frames, and of those to it.
    tag: Option<[u8; 2]>,
}

impl Talk {
    fn new(fixture: &Fixture) -> Self {
        let (pipeline, snapshot) = super::rig(fixture);
        let inner = (String::new(), String::new());
        Self { family: fixture.family, pipeline, snapshot, cookie: 0, inner, tag: None }
    }

    fn client_sends(&mut self, segment: &Segment, payload: &[u8]) -> (Verdict, Vec<u8>) {
        let ends = (&*client(self.family), self.family.front());
        let frame = write(ends, segment, payload);
        self.through(&self.tag.map_or_else(|| frame.clone(), |tag| tagged(&frame, tag)))
    }

    fn backend_sends(&mut self, segment: &Segment, payload: &[u8]) -> (Verdict, Vec<u8>) {
        let frame = write((&self.inner.1, &self.inner.0), segment, payload);
        self.through(&frame)
    }

    /// What comes of a frame: to the client with its tag, which is taken out.
    fn through(&mut self, frame: &[u8]) -> (Verdict, Vec<u8>) {
        let (verdict, out) = send(&mut self.pipeline, &self.snapshot, frame, NOW);
        let out = match (verdict, self.tag) {
            (COOKIE | Verdict::Forward(OUTER), Some(tag)) => untagged(&out, tag),
            _ => out,
        };
        assert!(self.tag.is_none() || is_untagged(&out));
        (verdict, out)
    }

    /// The one frame that was made, as the backend gets it.
    fn generated(&mut self) -> Segment {
        let generated = self.pipeline.generated();
        assert_eq!(generated.len(), 1);
        let frame = generated.get(0).unwrap();
        assert_eq!(frame.egress, INNER);
        assert!(is_untagged(frame.bytes));
        assert_eq!(ends(frame.bytes), self.inner);
        let (to, from) = frame.bytes[..12].split_at(6);
        assert_eq!((to, from), (&BACKEND_MAC[..], &GATEWAY_INNER_MAC[..]));
        let segment = read(frame.bytes);
        self.pipeline.generated_mut().clear();
        segment
    }

    fn syn(&mut self, sequence: u32) -> (Verdict, Vec<u8>) {
        let options = vec![
            MaximumSegmentSize(1_400),
            SelectiveAcknowledgementPermitted,
            Timestamp(1, 0),
            WindowScale(7),
        ];
        let answer =
            self.client_sends(&Segment { options, ..segment(SYN, sequence, 0, 64_240) }, b"");
        if answer.0 == COOKIE {
            self.cookie = read(&answer.1).sequence;
        }
        answer
    }

    /// The client's ACK, whose window is 500 times 128 bytes.
    fn ack(&mut self) -> (Verdict, Vec<u8>) {
        let ack = segment(ACK, ISN.wrapping_add(1), self.cookie.wrapping_add(1), 500);
        let answer = self.client_sends(&ack, b"");
        if answer.0 == Verdict::Forward(INNER) {
            self.inner = ends(&answer.1);
        }
        answer
    }

    fn syn_ack(&mut self) -> (Verdict, Vec<u8>) {
        let options =
            vec![MaximumSegmentSize(1_460), SelectiveAcknowledgementPermitted, WindowScale(9)];
        let answer = segment(SYN | ACK, BACKEND_ISN, ISN.wrapping_add(1), 64_240);
        self.backend_sends(&Segment { options, ..answer }, b"")
    }

    /// Both handshakes.
    fn open(fixture: &Fixture) -> Self {
        let mut talk = Self::new(fixture);
        talk.syn(ISN);
        talk.ack();
        assert_eq!(talk.syn_ack().0, Verdict::Forward(OUTER));
        talk.generated();
        talk
    }

    fn cookies(&self, event: CookieEvent) -> u64 {
        self.pipeline.flows.counters().work.syn_cookies[event as usize].get()
    }

    fn state(&self) -> FlowState {
        self.pipeline.flows.scan(0, 8).0.next().unwrap().state
    }
}

fn always() -> impl Iterator<Item = Fixture> {
    let both = |family| [true, false].map(|m| with(family, m, SynProxyMode::Always));
    Family::ALL.into_iter().flat_map(both)
}

#[test]
fn a_syn_is_answered_with_a_cookie_and_leaves_nothing_behind() {
    for fixture in always() {
        let (mut talk, family) = (Talk::new(&fixture), fixture.family);
        let (verdict, out) = talk.syn(ISN);
        assert_eq!(verdict, COOKIE);
        assert_eq!(ends(&out), (family.front().into(), client(family)));
        assert_eq!((&out[..6], &out[6..12]), (&CLIENT_MAC[..], &GATEWAY_MAC[..]));
        let answer = read(&out);
        let link = 1_500 - u16::try_from(family.header_bytes() + 20).unwrap();
        let options = [MaximumSegmentSize(link), SelectiveAcknowledgementPermitted, WindowScale(7)];
        let told: Vec<_> =
            answer.options.iter().filter(|o| **o != TcpOptionElement::Noop).collect();
        assert_eq!(told, options.iter().collect::<Vec<_>>(), "no timestamps");
        let expected = segment(SYN | ACK, talk.cookie, ISN.wrapping_add(1), 0);
        assert_eq!(Segment { options: vec![], ..answer }, expected, "the window is closed");
        assert!(talk.pipeline.flows.is_empty() && talk.pipeline.generated().is_empty());
        assert_eq!(talk.cookies(CookieEvent::Sent), 1);
    }
}

#[test]
fn a_right_ack_opens_the_backend_as_the_client_asked_as_often_as_it_comes() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        for _ in 0..3 {
            let (verdict, out) = talk.ack();
            assert_eq!(verdict, Verdict::Forward(INNER));
            let syn = read(&out);
            let told = |option| syn.options.contains(&option);
            assert!(told(MaximumSegmentSize(1_400)) && told(WindowScale(7)), "{syn:?}");
            assert!(told(SelectiveAcknowledgementPermitted) && !told(Timestamp(1, 0)));
            assert_eq!(Segment { options: vec![], ..syn }, segment(SYN, ISN, 0, 64_000));
            let is_masqueraded = talk.inner.0 != client(fixture.family);
            assert_eq!(is_masqueraded, fixture.masquerade);
        }
        assert_eq!((talk.pipeline.flows.len(), talk.state()), (1, FlowState::SynSent));
        assert_eq!(talk.cookies(CookieEvent::Valid), 1, "then it has a flow");
    }
}

#[test]
fn the_backends_answer_opens_the_clients_window_and_is_acknowledged_however_often_it_comes() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        for _ in 0..2 {
            let (verdict, out) = talk.syn_ack();
            assert_eq!(verdict, Verdict::Forward(OUTER));
            assert_eq!(ends(&out), (fixture.family.front().into(), client(fixture.family)));
            let (cookie, next) = (talk.cookie.wrapping_add(1), ISN.wrapping_add(1));
            assert_eq!(read(&out), segment(ACK, cookie, next, 64_240 >> 7));
            let made = segment(ACK, next, BACKEND_ISN.wrapping_add(1), 500);
            assert_eq!(talk.generated(), made);
            assert_eq!(
                (talk.state(), talk.pipeline.flows.embryonic()),
                (FlowState::Established, 0)
            );
        }
    }
}

#[test]
fn sequence_numbers_acknowledgments_and_windows_are_those_of_each_side() {
    for fixture in always() {
        let mut talk = Talk::open(&fixture);
        let (seen, theirs) = (talk.cookie.wrapping_add(1), BACKEND_ISN.wrapping_add(1));
        let next = ISN.wrapping_add(1);
        let block = |start: u32| (start.wrapping_add(300), start.wrapping_add(900));
        let sack = |start| vec![SelectiveAcknowledgement(block(start), [None; 3])];
        let data = Segment { options: sack(seen), ..segment(ACK, next, seen, 400) };
        let (verdict, out) = talk.client_sends(&data, b"question");
        assert_eq!(verdict, Verdict::Forward(INNER));
        let mut expected = Segment { options: sack(theirs), ..segment(ACK, next, theirs, 400) };
        let mut there = read(&out);
        there.options.retain(|option| *option != TcpOptionElement::Noop);
        assert_eq!(there, expected);
        // The backend's blocks are about what the client sent: as the client knows them.
        let data = Segment { options: sack(next), ..segment(ACK | FIN, theirs, next, 100) };
        let (verdict, out) = talk.backend_sends(&data, b"an odd answer");
        assert_eq!(verdict, Verdict::Forward(OUTER));
        expected = Segment { options: sack(next), ..segment(ACK | FIN, seen, next, 400) };
        let mut here = read(&out);
        here.options.retain(|option| *option != TcpOptionElement::Noop);
        assert_eq!(here, expected, "100 << 9 is 400 << 7");
        assert_eq!(talk.state(), FlowState::FinWait);
        assert_eq!(talk.backend_sends(&segment(RST, theirs, 0, 0), b"").0, Verdict::Forward(OUTER));
        assert_eq!(talk.state(), FlowState::Close);
    }
}

#[test]
fn a_client_whose_ack_was_lost_is_served_by_its_window_probe() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        let probe = segment(ACK, ISN, talk.cookie.wrapping_add(1), 500);
        let (verdict, out) = talk.client_sends(&probe, b"");
        assert_eq!(verdict, Verdict::Forward(INNER));
        assert_eq!((read(&out).flags, read(&out).sequence), (SYN, ISN));
    }
}

#[test]
fn a_wrong_or_old_cookie_opens_nothing() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        let stray = segment(ACK, ISN.wrapping_add(1), 7, 500);
        let passed = Verdict::Pass(PassReason::TcpNotSyn);
        assert_eq!(talk.client_sends(&stray, b"").0, passed);
        assert_eq!(talk.cookies(CookieEvent::Invalid), 0, "none could have come back");
        talk.syn(ISN);
        assert_eq!(talk.client_sends(&stray, b"").0, passed);
        let reset = segment(RST | ACK, ISN.wrapping_add(1), talk.cookie.wrapping_add(1), 0);
        assert_eq!(talk.client_sends(&reset, b"").0, passed);
        assert_eq!(talk.cookies(CookieEvent::Invalid), 1);
        let late = segment(ACK, ISN.wrapping_add(1), talk.cookie.wrapping_add(1), 500);
        let ends = (&*client(fixture.family), fixture.family.front());
        let frame = write(ends, &late, b"");
        assert_eq!(send(&mut talk.pipeline, &talk.snapshot, &frame, later(130)).0, passed);
        assert!(talk.pipeline.flows.is_empty());
    }
}

#[test]
fn a_backend_that_refuses_is_heard_by_the_client() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        let next = ISN.wrapping_add(1);
        let (verdict, out) = talk.backend_sends(&segment(RST | ACK, 0, next, 0), b"");
        assert_eq!(verdict, Verdict::Forward(OUTER));
        assert_eq!(read(&out), segment(RST | ACK, talk.cookie.wrapping_add(1), next, 0));
        assert_eq!((talk.state(), talk.pipeline.flows.embryonic()), (FlowState::Close, 0));
    }
}

#[test]
fn a_client_that_gives_up_or_starts_anew_before_the_backend_answered_is_followed() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        assert_eq!(talk.syn(ISN).0, Verdict::Forward(INNER), "a late copy is our SYN again");
        assert_eq!(talk.syn(ISN + 5).0, COOKIE, "another connection");
        assert!(talk.pipeline.flows.is_empty());
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        let (verdict, out) = talk.client_sends(&segment(RST, ISN.wrapping_add(1), 0, 0), b"");
        assert_eq!(verdict, Verdict::Forward(INNER));
        assert_eq!(read(&out), segment(RST, ISN.wrapping_add(1), 0, 0));
        talk.syn_ack();
        assert_eq!(talk.state(), FlowState::Close, "a late answer establishes nothing");
    }
}

#[test]
fn a_backend_that_speaks_of_another_connection_is_reset_and_asked_again() {
    for fixture in always() {
        let mut talk = Talk::new(&fixture);
        talk.syn(ISN);
        talk.ack();
        let old = segment(ACK, 5_000, 6_000, 100);
        let (verdict, _) = talk.backend_sends(&old, b"");
        assert_eq!(verdict, Verdict::Drop(DropReason::FlowStateInvalid));
        assert_eq!(talk.generated(), segment(RST, 6_000, 0, 0));
        assert_eq!(read(&talk.ack().1).flags, SYN);
        assert_eq!(talk.syn_ack().0, Verdict::Forward(OUTER));
    }
}

#[test]
fn what_refuses_a_syn_refuses_it_before_any_cookie() {
    for family in Family::ALL {
        let fixture = with(family, true, SynProxyMode::Always);
        for (selection, expected) in [
            (
                Selection::Reject(RejectReason::NoEndpoints),
                Verdict::Reject(RejectReason::NoEndpoints),
            ),
            (
                Selection::Drop(DropReason::NoLocalEndpoints),
                Verdict::Drop(DropReason::NoLocalEndpoints),
            ),
        ] {
            let snapshot = fixture.snapshot_with(selection);
            let mut talk = Talk { snapshot, ..Talk::new(&fixture) };
            assert_eq!(talk.syn(ISN).0, expected);
        }
        let mut talk = Talk::new(&fixture);
        let away = |hop: &NextHop| NextHop { state: NextHopState::Unresolved, ..hop.clone() };
        talk.snapshot.next_hops = talk.snapshot.next_hops.iter().map(away).collect();
        assert_eq!(talk.syn(ISN).0, Verdict::Drop(DropReason::NeighFailed));
    }
}
