//! The kinds of packets: a variant, a weight and a function each.

use super::flow::{Flow, Phase, Side};
use super::generator::Generator;
use super::setup::{SERVICES, Service};
use super::shot::Draft;
use super::wire::{Complaint, Ends, Segment, Transport, flag};
use tidegate_dataplane::types::Protocol;

/// A kind of packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// A client's SYN of a new flow.
    Open,
    /// A backend's SYN/ACK.
    Accept,
    /// Acknowledgments and data of either end.
    Data,
    /// A FIN of either end.
    Finish,
    /// A reset by either end.
    Reset,
    /// What an end sent last, once more.
    Retransmit,
    /// A SYN on a tuple that was closed or reset.
    Reopen,
    /// Control bits that no stack sends, on a live flow.
    OddFlags,
    /// The same, of no flow.
    OddOpening,
    /// A TCP segment of no flow, not a SYN.
    Stray,
    /// A client's UDP datagram.
    Datagram,
    /// A backend's.
    Answer,
    /// A datagram of either end, in fragments.
    Fragments,
    /// To a Service without usable endpoints.
    Unserved,
    /// To a port of the gateway that is no front.
    NoFront,
    /// A datagram that asks routers to write their addresses into it (RFC 791 record route).
    RecordRoute,
    /// A datagram that says which way it will go (RFC 791 loose source route).
    SourceRoute,
    /// A UDP datagram over IPv6 without a checksum.
    Unsummed,
    /// An ICMP error about what an end heard last.
    Complain,
}

impl Kind {
    /// All kinds, and how often each is tried, in relation to the others.
    pub(super) const WEIGHTS: &[(Self, u32)] = &[
        (Self::Open, 80),
        (Self::Accept, 80),
        (Self::Data, 300),
        (Self::Finish, 60),
        (Self::Reset, 15),
        (Self::Retransmit, 50),
        (Self::Reopen, 20),
        (Self::OddFlags, 10),
        (Self::OddOpening, 6),
        (Self::Stray, 10),
        (Self::Datagram, 150),
        (Self::Answer, 100),
        (Self::Fragments, 60),
        (Self::Unserved, 15),
        (Self::NoFront, 15),
        (Self::RecordRoute, 4),
        (Self::SourceRoute, 4),
        (Self::Unsummed, 4),
        (Self::Complain, 40),
    ];

    /// A packet of this kind; `None` if no flow is ready for one.
    pub(super) fn draft(self, of: &mut Generator) -> Option<Draft> {
        match self {
            Self::Open => open(of),
            Self::Accept => accept(of),
            Self::Data => data(of),
            Self::Finish => finish(of),
            Self::Reset => reset(of),
            Self::Retransmit => retransmit(of),
            Self::Reopen => reopen(of),
            Self::OddFlags => odd_flags(of),
            Self::OddOpening => odd_opening(of),
            Self::Stray => stray(of),
            Self::Datagram => datagram(of),
            Self::Answer => answer(of),
            Self::Fragments => fragments(of),
            Self::Unserved => Some(unserved(of)),
            Self::NoFront => no_front(of),
            Self::RecordRoute => with_option(of, &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Self::Unsummed => unsummed(of),
            Self::Complain => complain(of),
            Self::SourceRoute => with_option(of, &[131, 7, 4, 192, 0, 2, 1, 0]),
        }
    }
}

/// Combinations that conntrack calls invalid (`tcp_valid_flags`), and no SYN among them.
const ODD_FLAGS: &[u8] = &[
    0,
    flag::FIN,
    flag::PSH,
    flag::URG,
    flag::FIN | flag::PSH | flag::URG,
    flag::FIN | flag::RST | flag::ACK,
    flag::SYN | flag::RST,
    flag::SYN | flag::RST | flag::ACK,
];

fn open(of: &mut Generator) -> Option<Draft> {
    let flow = of.find(|f| f.protocol == Protocol::Tcp && f.phase == Phase::New, Side::Client)?;
    of.restart(flow);
    Some(syn(of, flow))
}

fn reopen(of: &mut Generator) -> Option<Draft> {
    let is_over = |phase| matches!(phase, Phase::TimeWait | Phase::Reset);
    let flow = of.find(|f| is_over(f.phase), Side::Client)?;
    of.restart(flow);
    Some(Draft { begins: true, ..syn(of, flow) })
}

fn syn(of: &mut Generator, flow: usize) -> Draft {
    let ecn = of.one_of(&[0, 0, 0xc0]);
    let mut segment = of.flow(flow).segment(Side::Client, flag::SYN | ecn);
    segment.options = of.syn_options();
    // TCP fast open: data on a SYN.
    let payload = if of.chance(50) { of.payload(100) } else { Vec::new() };
    Draft::of_flow(flow, Side::Client, Transport::Tcp(segment), payload).may_expire()
}

fn accept(of: &mut Generator) -> Option<Draft> {
    let flow = of.find(|f| f.phase == Phase::SynSent, Side::Backend)?;
    let sequence = of.number();
    of.flow_mut(flow).answer_from(sequence);
    let mut segment = of.flow(flow).segment(Side::Backend, flag::SYN | flag::ACK);
    segment.options = of.syn_options();
    Some(Draft::of_flow(flow, Side::Backend, Transport::Tcp(segment), Vec::new()))
}

fn data(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let is_ready = |phase| match phase {
        Phase::SynReceived => side == Side::Client,
        phase => matches!(phase, Phase::Established | Phase::Closing | Phase::TimeWait),
    };
    let flow = of.find(|f| f.protocol == Protocol::Tcp && is_ready(f.phase), side)?;
    let more = of.one_of(&[0, 0, flag::PSH, flag::PSH, flag::URG]);
    let mut segment = of.flow(flow).segment(side, flag::ACK | more);
    segment.urgent = u16::from(more == flag::URG);
    segment.window = of.one_of(&[0, 1, 500, 0xffff]);
    segment.options = of.data_options();
    let payload = if of.flow(flow).has_finished(side) { Vec::new() } else { of.any_payload() };
    Some(Draft::of_flow(flow, side, Transport::Tcp(segment), payload).may_expire())
}

fn finish(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let is_open = |phase| matches!(phase, Phase::Established | Phase::Closing);
    let flow = of
        .find(|f| f.protocol == Protocol::Tcp && is_open(f.phase) && !f.has_finished(side), side)?;
    let segment = of.flow(flow).segment(side, flag::FIN | flag::ACK);
    let payload = if of.chance(200) { of.payload(50) } else { Vec::new() };
    Some(Draft::of_flow(flow, side, Transport::Tcp(segment), payload))
}

fn reset(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let is_live = |phase| {
        matches!(phase, Phase::SynSent | Phase::SynReceived | Phase::Established | Phase::Closing)
    };
    let flow = of.find(|f| f.protocol == Protocol::Tcp && is_live(f.phase), side)?;
    let mut segment = of.flow(flow).segment(side, flag::RST | flag::ACK);
    if side == Side::Backend && of.flow(flow).phase == Phase::SynSent {
        // The answer to a SYN that nobody listens for (RFC 9293 section 3.10.7.1).
        segment.sequence = 0;
    }
    segment.window = 0;
    Some(Draft::of_flow(flow, side, Transport::Tcp(segment), Vec::new()))
}

fn retransmit(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let flow = of.find(|f| f.phase != Phase::Reset && f.last(side).is_some(), side)?;
    let last = of.flow(flow).last(side)?.clone();
    let draft = Draft::of_flow(flow, side, last.transport, last.payload);
    Some(Draft { options: last.options, is_repeated: true, ..draft })
}

fn odd_flags(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let flow = of.find(|f| f.protocol == Protocol::Tcp && f.phase == Phase::Established, side)?;
    let flags = of.one_of(ODD_FLAGS);
    let segment = of.flow(flow).segment(side, flags);
    of.finish_with_next(flow);
    let payload = of.payload(20);
    Some(Draft::of_flow(flow, side, Transport::Tcp(segment), payload))
}

fn odd_opening(of: &mut Generator) -> Option<Draft> {
    let service = served(of)?;
    let odd = [&[flag::SYN | flag::FIN, flag::SYN | flag::FIN | flag::PSH][..], ODD_FLAGS].concat();
    let flags = of.one_of(&odd);
    let segment = random_segment(of, flags);
    Some(Draft::alone(of.fresh_ends(service.node_port), Transport::Tcp(segment), Vec::new()))
}

fn stray(of: &mut Generator) -> Option<Draft> {
    let service = served(of)?;
    let flags = of.one_of(&[
        flag::ACK,
        flag::ACK | flag::PSH,
        flag::FIN | flag::ACK,
        flag::RST,
        flag::RST | flag::ACK,
        flag::SYN | flag::ACK,
    ]);
    let (segment, payload) = (random_segment(of, flags), of.any_payload());
    Some(Draft::alone(of.fresh_ends(service.node_port), Transport::Tcp(segment), payload))
}

fn served(of: &mut Generator) -> Option<&'static Service> {
    let services: Vec<&Service> = SERVICES.iter().filter(|s| s.is_served()).collect();
    (!services.is_empty()).then(|| of.one_of(&services))
}

fn random_segment(of: &mut Generator, flags: u8) -> Segment {
    Segment {
        sequence: of.number(),
        acknowledgment: if flags & flag::ACK == 0 { 0 } else { of.number() },
        flags,
        window: 1000,
        urgent: 0,
        options: of.data_options(),
    }
}

fn datagram(of: &mut Generator) -> Option<Draft> {
    let flow = of.find(|f| f.protocol == Protocol::Udp, Side::Client)?;
    let has_checksum = of.flow(flow).is_v6() || !of.chance(200);
    let payload = of.any_payload();
    let transport = Transport::Udp { has_checksum };
    Some(Draft::of_flow(flow, Side::Client, transport, payload).may_expire())
}

fn answer(of: &mut Generator) -> Option<Draft> {
    let flow = of.find(|f| f.protocol == Protocol::Udp, Side::Backend)?;
    let has_checksum = of.flow(flow).is_v6() || !of.chance(200);
    let payload = of.any_payload();
    let transport = Transport::Udp { has_checksum };
    Some(Draft::of_flow(flow, Side::Backend, transport, payload).may_expire())
}

fn fragments(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let flow = of.find(|f| f.protocol == Protocol::Udp, side)?;
    let has_checksum = of.flow(flow).is_v6() || !of.chance(200);
    // More than the smallest piece takes.
    let payload = [of.payload(3700), vec![1; 256]].concat();
    let draft = Draft::of_flow(flow, side, Transport::Udp { has_checksum }, payload);
    Some(Draft { cut: Some(of.cut()), ..draft })
}

fn unserved(of: &mut Generator) -> Draft {
    let services: Vec<&Service> = SERVICES.iter().filter(|s| !s.is_served()).collect();
    let service = of.one_of(&services);
    let ends = of.fresh_ends(service.node_port);
    let transport = opening(of, ends);
    let payload = if of.chance(500) { of.any_payload() } else { of.payload(40) };
    Draft::alone(ends, transport, payload)
}

/// The ports from 32,000 on belong to no Service and to no listener.
fn no_front(of: &mut Generator) -> Option<Draft> {
    let port = 32_000 + of.below(700);
    let ends = of.fresh_ends(u16::try_from(port).ok()?);
    let transport = opening(of, ends);
    let payload = of.any_payload();
    Some(Draft::alone(ends, transport, payload))
}

fn opening(of: &mut Generator, ends: Ends) -> Transport {
    if of.chance(500) {
        Transport::Udp { has_checksum: ends.source.is_ipv6() || !of.chance(100) }
    } else {
        Transport::Tcp(random_segment(of, flag::SYN))
    }
}

/// Type and code of the errors that name a packet, in both families, and whether an MTU follows.
const COMPLAINTS: &[([u8; 2], [u8; 2], bool)] = &[
    ([3, 0], [1, 0], false),
    ([3, 1], [1, 3], false),
    ([3, 3], [1, 4], false),
    ([3, 13], [1, 1], false),
    ([3, 4], [2, 0], true),
    ([11, 0], [3, 0], false),
    ([12, 0], [4, 0], false),
];

fn complain(of: &mut Generator) -> Option<Draft> {
    let side = of.side();
    let has_heard = |f: &Flow| (0..2).all(|world| f.heard(side, world).is_some());
    let flow = of.find(|f| f.phase != Phase::Reset && has_heard(f), side)?;
    let (v4, v6, has_mtu) = of.one_of(COMPLAINTS);
    // A router is hidden where its pod is masqueraded: under policy Local only if the pod was given
    // itself, which one world may have done and the other not.
    let may_be_hairpin = of.flow(flow).is_of_pod() && of.flow(flow).service.is_local;
    let complaint = Complaint {
        v4,
        v6,
        rest: if has_mtu { of.one_of(&[1280, 1400]) } else { 0 },
        quote_bytes: of.one_of(&[8, 8, 20, 100, 500]),
        by_router: of.chance(300) && !may_be_hairpin,
    };
    let quote = |world| of.flow(flow).heard(side, world).map(|heard| complaint.quote(heard));
    let quotes = [quote(0)?.to_vec(), quote(1)?.to_vec()];
    let draft = Draft::of_flow(flow, side, Transport::Error(complaint), Vec::new());
    Some(Draft { is_repeated: true, quotes, ..draft })
}

fn is_live_udp(flow: &Flow) -> bool {
    flow.protocol == Protocol::Udp && flow.phase != Phase::New
}

fn unsummed(of: &mut Generator) -> Option<Draft> {
    let flow = of.find(|f| is_live_udp(f) && f.is_v6(), Side::Client)?;
    of.finish_with_next(flow);
    let transport = Transport::Udp { has_checksum: false };
    let payload = of.payload(100);
    Some(Draft::of_flow(flow, Side::Client, transport, payload))
}

fn with_option(of: &mut Generator, option: &[u8]) -> Option<Draft> {
    let flow = of.find(|f| is_live_udp(f) && !f.is_v6(), Side::Client)?;
    of.finish_with_next(flow);
    let transport = Transport::Udp { has_checksum: true };
    let payload = of.payload(100);
    let draft = Draft::of_flow(flow, Side::Client, transport, payload);
    Some(Draft { options: option.to_vec(), ..draft })
}
