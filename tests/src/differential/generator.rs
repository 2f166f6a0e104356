//! Random packets that a real network might bring, from one seed.

use super::arena::{CLIENTS, client_address};
use super::flow::{Flow, Phase, Side};
use super::kind::Kind;
use super::pieces::Cut;
use super::setup::{Endpoint, FAMILIES, NARROW_MTU, POD_CLIENTS, Place, SERVICES, Service};
use super::shot::{Draft, Origin, Shot};
use super::wire::{Ends, MTU_BYTES, Template};
use crate::spread::Spread;
use core::net::SocketAddr;
use tidegate_control::demo::rig::gateway_of;
use tidegate_control::model::Family;
use tidegate_dataplane::random::Random;
use tidegate_dataplane::types::Protocol;

/// Flows that live side by side.
const FLOWS: usize = 160;

/// The largest packet that is sent in fragments.
const DATAGRAM_BYTES_MAX: usize = 4000;

/// Pods' ports as clients begin here, away from those of their servers.
const POD_PORT_MIN: u16 = 10_000;

/// Tries to find a flow that is ready before another kind of packet is made.
const TRIES: u32 = 40;

/// Makes batches.
#[derive(Debug)]
pub(super) struct Generator {
    random: Random,
    pub(super) flows: Vec<Flow>,
    next_port: u16,
    next_pod_port: u16,
    next_client: u8,
    next_marker: u16,
    next_number: u64,
    /// One packet of a flow per batch: two might overtake each other.
    is_one_each: bool,
}

impl Generator {
    pub(super) fn new(seed: u64, spread: Spread) -> Self {
        let random = Random::new(seed);
        let mut generator = Self {
            random,
            flows: Vec::new(),
            next_port: 1024,
            next_pod_port: POD_PORT_MIN,
            next_client: 0,
            next_marker: 1,
            next_number: 0,
            is_one_each: spread == Spread::Shuffled,
        };
        for _ in 0..FLOWS {
            let flow = generator.new_flow();
            generator.flows.push(flow);
        }
        generator
    }

    /// The next `count` packets. Each flow speaks from one end alone, and once where packets may
    /// overtake each other.
    pub(super) fn batch(&mut self, count: usize) -> Vec<Shot> {
        for index in 0..self.flows.len() {
            self.flows[index].turn = None;
            if self.flows[index].packets_left == 0 {
                self.flows[index] = self.new_flow();
            }
        }
        let mut shots = Vec::with_capacity(count);
        while shots.len() < count {
            let kind = self.kind();
            if let Some(draft) = kind.draft(self) {
                shots.push(self.dress(kind, draft));
            }
        }
        shots
    }

    fn kind(&mut self) -> Kind {
        let total = Kind::WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.below(total);
        for (kind, weight) in Kind::WEIGHTS {
            if left < *weight {
                return *kind;
            }
            left -= weight;
        }
        Kind::Data
    }

    /// Puts on what every kind of packet may have, and takes note.
    fn dress(&mut self, kind: Kind, draft: Draft) -> Shot {
        let ttl = if draft.may_expire && self.chance(15) { 1 } else { self.ttl() };
        let tos = if self.chance(300) { self.one_of(&[0x02, 0xb8, 0x10, 0xff]) } else { 0 };
        let no_options = Vec::new();
        let mut template = Template {
            ttl,
            tos,
            is_df: draft.cut.is_none() && self.chance(500),
            options: if draft.options.is_empty() { no_options } else { draft.options },
            transport: draft.transport,
            payload: draft.payload,
        };
        let may_have_options = !draft.is_repeated && draft.cut.is_none();
        if template.options.is_empty() && may_have_options && self.chance(30) {
            template.options = self.harmless_options();
        }
        // An IPv6 header with an extension header, or an IPv4 header with all options that fit.
        let header_bytes = 48.max(20 + template.options.len());
        let room = self.bytes_max(draft.origin, draft.cut)
            - header_bytes
            - template.transport.header_bytes();
        template.payload.truncate(room);
        let begins = draft.begins || self.begins(draft.origin);
        let is_too_big = draft.cut.is_none() && self.is_too_big(draft.origin, &template);
        if let Origin::Flow(flow, side) = draft.origin {
            if (ttl == 1 || is_too_big) && begins {
                // It never arrives: the next one begins the flow.
                self.flows[flow].turn = Some(side);
            } else if !draft.is_repeated {
                self.flows[flow].note(side, &template);
            } else {
                self.flows[flow].turn = Some(side);
            }
        }
        let marker = self.next_marker;
        if let Origin::Flow(flow, side) = draft.origin {
            let line = format!(
                "#{marker} {kind:?} by {side:?}, TTL {ttl}, {} bytes",
                template.payload.len()
            );
            self.flows[flow].history.push(line);
        }
        self.next_marker = marker.checked_add(1).unwrap_or(1);
        let (of, cut, number) = (draft.origin, draft.cut, self.next_number);
        self.next_number += 1;
        Shot { kind, number, marker, of, template, cut, begins, quotes: draft.quotes }
    }

    /// How large a packet may be.
    fn bytes_max(&self, origin: Origin, cut: Option<Cut>) -> usize {
        match origin {
            _ if cut.is_some() => DATAGRAM_BYTES_MAX,
            Origin::Flow(flow, Side::Backend) if self.flows[flow].service.is_narrow() => NARROW_MTU,
            Origin::Flow(..) | Origin::Alone(_) => MTU_BYTES,
        }
    }

    /// Whether it does not fit the link that it has to leave by, and must not be cut.
    fn is_too_big(&self, origin: Origin, template: &Template) -> bool {
        let Origin::Flow(flow, Side::Client) = origin else { return false };
        let flow = &self.flows[flow];
        let may_be_cut = !flow.is_v6() && !template.is_df;
        let is_too_big = template.ip_bytes(flow.is_v6()) > NARROW_MTU;
        flow.service.is_narrow() && is_too_big && !may_be_cut
    }

    fn begins(&self, origin: Origin) -> bool {
        match origin {
            Origin::Flow(flow, Side::Client) => self.flows[flow].phase == Phase::New,
            Origin::Flow(_, Side::Backend) => false,
            Origin::Alone(_) => true,
        }
    }

    fn ttl(&mut self) -> u8 {
        self.one_of(&[64, 64, 64, 63, 128, 255, 2])
    }

    /// No operation, end of list, and an option that no router acts on.
    fn harmless_options(&mut self) -> Vec<u8> {
        let all: [&[u8]; 3] = [&[1; 4], &[0; 40], &[0x82, 4, 1, 2, 1, 1, 1, 0]];
        self.one_of(&all).to_vec()
    }

    /// A flow that fits and whose `side` is free, by chance.
    pub(super) fn find(&mut self, fits: impl Fn(&Flow) -> bool, side: Side) -> Option<usize> {
        (0..TRIES).find_map(|_| {
            let index = self.below_usize(self.flows.len());
            let flow = &self.flows[index];
            let may_speak = flow.turn.is_none() || !self.is_one_each;
            (may_speak && flow.is_free(side) && fits(flow)).then_some(index)
        })
    }

    pub(super) fn flow(&self, index: usize) -> &Flow {
        &self.flows[index]
    }

    /// The next packet of a flow is its last: the worlds treat it differently, so that what is
    /// known of the flow afterwards differs too.
    pub(super) fn finish_with_next(&mut self, index: usize) {
        self.flows[index].packets_left = 1;
    }

    pub(super) fn flow_mut(&mut self, index: usize) -> &mut Flow {
        &mut self.flows[index]
    }

    /// A flow begins anew with a sequence number by chance.
    pub(super) fn restart(&mut self, index: usize) {
        let sequence = self.number();
        self.flows[index].restart(sequence);
    }

    fn new_flow(&mut self) -> Flow {
        let served: Vec<&Service> = SERVICES.iter().filter(|s| s.is_served()).collect();
        let service = self.one_of(&served);
        let protocol = if self.chance(600) { Protocol::Tcp } else { Protocol::Udp };
        let packets = 2 + self.below(40);
        let family = self.one_of(&FAMILIES);
        let front = self.one_of(&service.fronts(family, protocol));
        // A pod's memory is its own: under both policies it may have got any backend before.
        let may_be_pod = !(service.is_local && service.is_sticky);
        let client = if may_be_pod && self.chance(150) {
            self.pod_end(family)
        } else {
            (Place::Client, self.client_end(family))
        };
        let mut flow = Flow::new(service, protocol, client, front, packets);
        if self.chance(50) && !self.flows.is_empty() {
            self.share_port(&mut flow);
        }
        flow
    }

    /// Gives a flow the client's end of another one that goes elsewhere.
    fn share_port(&mut self, flow: &mut Flow) {
        let index = self.below_usize(self.flows.len());
        let other = &mut self.flows[index];
        let is_same_kind = other.protocol == flow.protocol
            && other.front.ip() == flow.front.ip()
            && other.home == flow.home;
        let differs = is_same_kind && other.front != flow.front;
        if differs && !other.shares_port && other.phase == Phase::New {
            flow.client = other.client;
            (flow.shares_port, other.shares_port) = (true, true);
        }
    }

    /// A client's end that no flow has had yet, and a node port.
    pub(super) fn fresh_ends(&mut self, node_port: u16) -> Ends {
        let family = self.one_of(&FAMILIES);
        let destination = SocketAddr::new(gateway_of(family), node_port);
        Ends { source: self.client_end(family), destination }
    }

    fn client_end(&mut self, family: Family) -> SocketAddr {
        self.next_client = (self.next_client + 1) % CLIENTS;
        if self.next_client == 0 {
            self.next_port = self.next_port.checked_add(1).unwrap_or(1024);
        }
        SocketAddr::new(client_address(family, self.next_client), self.next_port)
    }

    /// A pod's end that no flow has had for long.
    fn pod_end(&mut self, family: Family) -> (Place, SocketAddr) {
        let pod: Endpoint = self.one_of(&POD_CLIENTS);
        self.next_pod_port = self.next_pod_port.checked_add(1).unwrap_or(POD_PORT_MIN);
        (pod.place, SocketAddr::new(pod.address(family), self.next_pod_port))
    }

    /// How a datagram is cut: into pieces that every link takes.
    pub(super) fn cut(&mut self) -> Cut {
        Cut { bytes: self.one_of(&[256, 512, 1000, 1200]), is_backward: self.chance(500) }
    }

    /// Which end sends.
    pub(super) fn side(&mut self) -> Side {
        if self.chance(500) { Side::Client } else { Side::Backend }
    }

    /// Options of a SYN.
    pub(super) fn syn_options(&mut self) -> Vec<u8> {
        let [a, b, c, d] = self.number().to_be_bytes();
        let all: [&[u8]; 4] = [
            &[],
            &[2, 4, 5, 180],
            &[2, 4, 5, 180, 4, 2, 8, 10, a, b, c, d, 0, 0, 0, 0, 1, 3, 3, 7],
            // An option of an experiment (RFC 6994), and end of list.
            &[254, 6, a, b, c, d, 0, 0],
        ];
        self.one_of(&all).to_vec()
    }

    /// Options of other segments.
    pub(super) fn data_options(&mut self) -> Vec<u8> {
        let [a, b, c, d] = self.number().to_be_bytes();
        let all: [&[u8]; 3] =
            [&[], &[1, 1, 8, 10, a, b, c, d, d, c, b, a], &[1, 1, 5, 10, a, b, c, d, a, b, c, d]];
        self.one_of(&all).to_vec()
    }

    /// From nothing to as much as there is room for.
    pub(super) fn any_payload(&mut self) -> Vec<u8> {
        match self.below(6) {
            0 => Vec::new(),
            1 => self.payload(2),
            2 => vec![0; MTU_BYTES],
            3 => self.bytes(MTU_BYTES),
            4 => self.payload(1460),
            _ => self.payload(100),
        }
    }

    /// At most `max` random bytes.
    pub(super) fn payload(&mut self, max: usize) -> Vec<u8> {
        let length = self.below_usize(max + 1);
        self.bytes(length)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        let words = (0..length.div_ceil(8)).flat_map(|_| self.random.next_u64().to_be_bytes());
        words.take(length).collect()
    }

    pub(super) fn number(&mut self) -> u32 {
        self.below(u32::MAX)
    }

    pub(super) fn below(&mut self, count: u32) -> u32 {
        self.random.below(count)
    }

    fn below_usize(&mut self, count: usize) -> usize {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        usize::try_from(self.below(count)).unwrap_or_default()
    }

    /// True in this many of 1000 times.
    pub(super) fn chance(&mut self, of_1000: u32) -> bool {
        self.below(1000) < of_1000
    }

    pub(super) fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        let index = self.below_usize(choices.len());
        choices[index]
    }
}
