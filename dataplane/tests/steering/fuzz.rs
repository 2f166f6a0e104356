//! The program over random frames near to good ones. What it sends up, the packet path must be able
//! to parse; what it does not, it must not have touched; and each frame is counted once.

use crate::frames::{CLIENT_MAC, Family, OUR_MAC, Segment, tcp, udp, with_tag};
use crate::net::now;
use crate::rig::{CONFIG, LO, Rig, SLOT, client, draining_front, front, reply};
use bolero::{TypeGenerator, check};
use core::panic::AssertUnwindSafe;
use etherparse::{SlicedPacket, TransportSlice};
use tidegate_dataplane::engine::SteeringCounters;
use tidegate_dataplane::pipeline::Pipeline;
use tidegate_dataplane::snapshot::Snapshot;
use tidegate_dataplane::testing::{Fixture, send};
use tidegate_dataplane::types::Time;
use tidegate_dataplane::verdict::{DropReason, PassReason, Verdict};
use tidegate_dataplane::xdp::program::{Action, Trial};

/// Spoilt bytes of one frame.
const EDITS_MAX: usize = 6;

#[derive(Debug, TypeGenerator)]
struct Input {
    is_v6: bool,
    is_udp: bool,
    segment: u8,
    ends: u8,
    is_tagged: bool,
    edits: Vec<(u8, u8)>,
    cut: Option<u8>,
    padding: Option<u8>,
}

impl Input {
    fn frame(&self) -> Vec<u8> {
        let family = if self.is_v6 { Family::V6 } else { Family::V4 };
        let (from, to) = match self.ends % 4 {
            0 | 1 => (client(family), front(family)),
            2 => reply(family),
            _ => (client(family), draining_front(family)),
        };
        let segment = match self.segment % 3 {
            0 => Segment::Syn,
            1 => Segment::SynAck,
            _ => Segment::Ack,
        };
        let mut frame = if self.is_udp { udp(from, to) } else { tcp(from, to, segment) };
        if self.is_tagged && self.ends > 200 {
            frame = with_tag(frame, 0x8100);
        }
        for (at, value) in self.edits.iter().take(EDITS_MAX) {
            let at = usize::from(*at) % frame.len();
            frame[at] = *value;
        }
        frame.truncate(self.cut.map_or(frame.len(), |cut| usize::from(cut).max(14)));
        frame.resize(frame.len() + self.padding.map_or(0, usize::from), 0xee);
        frame
    }
}

/// The program, and a packet path that knows no front: a packet that it can parse it gives back.
struct Bench {
    rig: Rig,
    pipeline: Pipeline,
    nothing: Snapshot,
}

impl Bench {
    fn try_one(&mut self, frame: &[u8]) {
        // Lest its worker count as stale in a long run.
        self.rig.beat(now());
        let before = self.rig.steering.counters.read(SLOT).unwrap();
        let trial = self.rig.steering.trial((LO, 0), frame).unwrap();
        let after = self.rig.steering.counters.read(SLOT).unwrap();
        check_trial(frame, &trial);
        assert_eq!(total(&after), total(&before) + 1, "{trial:?}");
        assert_eq!(after.received_packets, before.received_packets + 1);
        let is_up = trial.action == Action::Redirect;
        assert_eq!(after.redirected_packets, before.redirected_packets + u64::from(is_up));
        assert!(is_up || !is_good_and_to_a_front(frame), "left to the kernel: {frame:02x?}");
        if is_up {
            let (verdict, _) = send(&mut self.pipeline, &self.nothing, frame, Time(1_000_000_000));
            check_parsed(verdict, frame);
        }
    }
}

#[test]
fn whatever_comes_is_redirected_whole_or_left_alone_and_counted_once() {
    let mut bench = AssertUnwindSafe(Bench {
        rig: Rig::new(&CONFIG),
        pipeline: Fixture::default().pipeline(0, None),
        nothing: Snapshot::default(),
    });
    check!().with_type::<Input>().for_each(move |input| bench.try_one(&input.frame()));
}

fn check_trial(frame: &[u8], trial: &Trial) {
    assert!(matches!(trial.action, Action::Pass | Action::Redirect), "{trial:?}");
    let (metadata, rest) = trial.output.split_at(trial.metadata_bytes);
    assert_eq!(rest, frame, "the frame was changed");
    assert_eq!(metadata.is_empty(), trial.action == Action::Pass);
}

/// What the packet path may say of a frame that is nobody's: it reads more than the program does,
/// but never less.
fn check_parsed(verdict: Verdict, frame: &[u8]) {
    let is_known = match verdict {
        Verdict::Pass(reason) => {
            !matches!(reason, PassReason::NotIp | PassReason::NoService | PassReason::Malformed)
        }
        // The program steps over IPv4's options unseen.
        Verdict::Drop(DropReason::IpInhdr) => {
            let is_tagged = frame.get(12..14) == Some(&[0x81, 0]);
            matches!(frame.get(if is_tagged { 18 } else { 14 }), Some(0x46..=0x4f))
        }
        Verdict::Drop(reason) => reason != DropReason::PktTooSmall,
        // A fragment before its datagram's first one.
        Verdict::Wait => true,
        _ => false,
    };
    assert!(is_known, "{verdict:?} of what the program sent up: {frame:02x?}");
}

/// By an independent parser: a whole TCP or UDP packet from the client to the active front.
fn is_good_and_to_a_front(frame: &[u8]) -> bool {
    let Ok(sliced) = SlicedPacket::from_ethernet(frame) else { return false };
    let macs = [OUR_MAC, CLIENT_MAC].concat();
    if !frame.starts_with(&macs) || !sliced.link_exts.is_empty() {
        return false;
    }
    // The parser takes a length of 0 for the whole frame; in TCP and UDP it is malformed.
    if frame.get(12..14) == Some(&[0x86, 0xdd]) && frame.get(18..20) == Some(&[0, 0]) {
        return false;
    }
    let port = match sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => tcp.destination_port(),
        Some(TransportSlice::Udp(udp)) => udp.destination_port(),
        _ => return false,
    };
    let address: core::net::IpAddr = match sliced.net {
        Some(etherparse::NetSlice::Ipv4(ip)) => ip.header().destination_addr().into(),
        Some(etherparse::NetSlice::Ipv6(ip)) => ip.header().destination_addr().into(),
        _ => return false,
    };
    Family::ALL.into_iter().any(|f| front(f).ip() == address && front(f).port() == port)
}

fn total(counters: &SteeringCounters) -> u64 {
    let passed: u64 = counters.passed_packets.iter().sum();
    counters.redirected_packets + counters.stale_dropped_packets + passed
}
