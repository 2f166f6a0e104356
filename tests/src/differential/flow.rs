//! What the ends of a flow know: enough to send packets that a real peer might send.

use super::setup::{FrontKind, Place, Service};
use super::wire::{Ends, Segment, Template, Transport, flag};
use core::net::SocketAddr;
use tidegate_dataplane::types::Protocol;

/// Which end sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Client,
    Backend,
}

impl Side {
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
}

/// How far a flow has come. UDP knows the first and `Established` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    New,
    SynSent,
    SynReceived,
    Established,
    /// At least one FIN was sent.
    Closing,
    /// Both FINs were sent and acknowledged.
    TimeWait,
    /// Reset.
    Reset,
}

/// Where a flow's packets come out in one world, and how they look there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) place: Place,
    pub(super) ends: Ends,
}

/// A packet that an end heard, and its number.
type Heard = (u64, Vec<u8>);

/// A flow, in both worlds at once.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) service: &'static Service,
    pub(super) protocol: Protocol,
    /// Where its client is.
    pub(super) home: Place,
    pub(super) client: SocketAddr,
    pub(super) front: SocketAddr,
    pub(super) front_kind: FrontKind,
    /// Another flow to another front has the same client address and port: where the two meet at
    /// one backend, the second gets another port.
    pub(super) shares_port: bool,
    /// The kernel's, and tidegate's.
    pub(super) arrivals: [Option<Arrival>; 2],
    pub(super) phase: Phase,
    /// Who sends in this batch: packets of both ends would race.
    pub(super) turn: Option<Side>,
    /// Packets until it is replaced by another flow.
    pub(super) packets_left: u32,
    /// What has been sent so far, for errors.
    pub(super) history: Vec<String>,
    next: [u32; 2],
    has_finished: [bool; 2],
    last: [Option<Template>; 2],
    /// What each end heard last of what was sent, and its number: by end, and by world.
    heard: [[Option<Heard>; 2]; 2],
}

impl Flow {
    pub(super) fn new(
        service: &'static Service,
        protocol: Protocol,
        (home, client): (Place, SocketAddr),
        (front_kind, front): (FrontKind, SocketAddr),
        packets: u32,
    ) -> Self {
        Self {
            service,
            protocol,
            home,
            client,
            front,
            front_kind,
            shares_port: false,
            arrivals: [None; 2],
            phase: Phase::New,
            turn: None,
            packets_left: packets,
            history: Vec::new(),
            next: [0; 2],
            has_finished: [false; 2],
            last: [None, None],
            heard: Default::default(),
        }
    }

    /// Whether its client is a pod of the gateway.
    pub(super) fn is_of_pod(&self) -> bool {
        self.home != Place::Client
    }

    /// Whether it is over IPv6.
    pub(super) const fn is_v6(&self) -> bool {
        self.client.is_ipv6()
    }

    /// Whether this end may send now: it is not the other's turn, and a backend has heard before.
    pub(super) fn is_free(&self, side: Side) -> bool {
        let has_heard = side == Side::Client || self.arrivals.iter().all(Option::is_some);
        self.turn.is_none_or(|turn| turn == side) && has_heard && self.packets_left > 0
    }

    /// The ends of a packet in one world.
    pub(super) fn ends(&self, side: Side, world: usize) -> Option<Ends> {
        match side {
            Side::Client => Some(Ends { source: self.client, destination: self.front }),
            Side::Backend => Some(self.arrivals.get(world)?.as_ref()?.ends.reversed()),
        }
    }

    /// The place from which an end sends in one world.
    pub(super) fn place(&self, side: Side, world: usize) -> Option<Place> {
        match side {
            Side::Client => Some(self.home),
            Side::Backend => Some(self.arrivals.get(world)?.as_ref()?.place),
        }
    }

    /// What this end sent last.
    pub(super) fn last(&self, side: Side) -> Option<&Template> {
        self.last[side as usize].as_ref()
    }

    /// Whether this end has sent its FIN.
    pub(super) fn has_finished(&self, side: Side) -> bool {
        self.has_finished[side as usize]
    }

    /// Begins anew with this sequence number.
    pub(super) fn restart(&mut self, sequence: u32) {
        self.next = [sequence, 0];
        self.has_finished = [false; 2];
        self.last = [None, None];
        self.heard = Default::default();
        self.phase = Phase::New;
    }

    /// What this end heard last, in one world.
    pub(super) fn heard(&self, side: Side, world: usize) -> Option<&[u8]> {
        self.heard[side as usize][world].as_ref().map(|(_, packet)| packet.as_slice())
    }

    /// This end hears a packet. One that another overtook changes nothing.
    pub(super) fn hear(&mut self, side: Side, world: usize, number: u64, packet: &[u8]) {
        let heard = &mut self.heard[side as usize][world];
        if heard.as_ref().is_none_or(|(last, _)| *last <= number) {
            *heard = Some((number, packet.to_vec()));
        }
    }

    /// The backend's first sequence number.
    pub(super) fn answer_from(&mut self, sequence: u32) {
        self.next[Side::Backend as usize] = sequence;
    }

    /// This end's next segment.
    pub(super) fn segment(&self, side: Side, flags: u8) -> Segment {
        let has_ack = flags & flag::ACK != 0;
        Segment {
            sequence: self.next[side as usize],
            acknowledgment: if has_ack { self.next[side.other() as usize] } else { 0 },
            flags,
            window: 0xffff,
            urgent: 0,
            options: Vec::new(),
        }
    }

    /// Takes note of what an end sends.
    pub(super) fn note(&mut self, side: Side, template: &Template) {
        self.turn = Some(side);
        self.packets_left = self.packets_left.saturating_sub(1);
        self.last[side as usize] = Some(template.clone());
        match &template.transport {
            Transport::Udp { .. } => self.phase = Phase::Established,
            Transport::Error(_) => {}
            Transport::Tcp(segment) => self.note_segment(side, segment, template.payload.len()),
        }
    }

    fn note_segment(&mut self, side: Side, segment: &Segment, payload: usize) {
        let has = |bit| segment.flags & bit != 0;
        let length = u32::try_from(payload).unwrap_or_default()
            + u32::from(has(flag::SYN))
            + u32::from(has(flag::FIN));
        self.next[side as usize] = segment.sequence.wrapping_add(length);
        self.has_finished[side as usize] |= has(flag::FIN);
        let is_acknowledged = self.has_finished == [true; 2] && !has(flag::FIN);
        self.phase = match (self.phase, side) {
            _ if has(flag::RST) => Phase::Reset,
            _ if has(flag::FIN) => Phase::Closing,
            (Phase::New, Side::Client) => Phase::SynSent,
            (Phase::SynSent, Side::Backend) => Phase::SynReceived,
            (Phase::SynReceived, Side::Client) if !has(flag::SYN) => Phase::Established,
            (Phase::Closing, _) if is_acknowledged => Phase::TimeWait,
            (phase, _) => phase,
        };
    }
}
