//! Takes away what each world may choose freely, so that the rest must be equal.

use super::arena::Seen;
use super::flow::{Arrival, Flow, Side};
use super::pieces::PieceSeen;
use super::setup::{Place, Service};
use super::shot::{Origin, Shot};
use super::sums::{Checksum, checksum, checksum_offset, ip_sum};
use super::wire::{Ends, Parts, Transport, nobody, parts, quoted};
use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;
use tidegate_control::model::Family;
use tidegate_dataplane::types::Protocol;

/// What each world may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Freedom {
    /// A new flow gets any usable backend of its Service; with affinity its client's.
    Backend,
    /// A masqueraded flow gets any free source port.
    SourcePort,
    /// Packets that the gateway makes itself have any IP identification.
    Identification,
}

impl Freedom {
    pub(super) const ALL: [Self; 3] = [Self::Backend, Self::SourcePort, Self::Identification];
}

/// A packet that came out, comparable with the other world's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Output {
    /// At a backend, not at the client.
    pub(super) is_inside: bool,
    /// Sums are 0, and so is what may be chosen freely.
    pub(super) packet: Vec<u8>,
    ip_sum: Checksum,
    transport_sum: Option<Checksum>,
    /// The pieces that it came in, where it went in whole.
    cut: Vec<PieceSeen>,
}

impl Output {
    /// Whether it went in whole and came out in pieces.
    pub(super) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }
}

/// The backend that each client has where it wants the same again: by world, client and front.
type Memory = BTreeMap<(usize, IpAddr, u16, Protocol), IpAddr>;

/// Knows what has been chosen so far, in both worlds.
#[derive(Debug, Default)]
pub(super) struct Normaliser {
    memory: Memory,
    /// How often each freedom was used, in the order of [`Freedom::ALL`].
    pub(super) used: [u64; 3],
}

impl Normaliser {
    /// Makes a packet comparable. `Err` says what is wrong with it in itself.
    pub(super) fn normal(
        &mut self,
        (world, seen): (usize, &Seen),
        shot: &Shot,
        flows: &mut [Flow],
    ) -> Result<Output, String> {
        let found = parts(&seen.packet).ok_or("cannot be parsed")?;
        let is_inside = !is_to_client(shot.of, flows, seen, &found);
        if let Origin::Flow(index, Side::Client) = shot.of
            && is_inside
            && matches!(found.protocol, 6 | 17)
        {
            let flow = flows.get_mut(index).ok_or("belongs to no flow")?;
            self.track(world, flow, shot, Arrival { place: seen.place, ends: found.ends })?;
        }
        if let Origin::Flow(index, side) = shot.of
            && matches!(found.protocol, 6 | 17)
            && let Some(flow) = flows.get_mut(index)
        {
            flow.hear(side.other(), world, shot.number, &seen.packet);
        }
        let arrival = match shot.of {
            Origin::Flow(index, _) => flows.get(index).and_then(|flow| flow.arrivals[world]),
            Origin::Alone(_) => None,
        };
        let mut packet = seen.packet.clone();
        let (ip_sum, transport_sum) = take_sums(&mut packet, &found);
        // By chance the gateway's own number may be the very same.
        let is_error = quoted(&seen.packet).is_some();
        let is_own = is_error && !matches!(shot.template.transport, Transport::Error(_));
        if found.marker != shot.marker || is_own {
            // Made by the gateway itself.
            self.used[Freedom::Identification as usize] += 1;
            take_marker(&mut packet);
        }
        if is_inside {
            self.blank(&mut packet, seen.place, arrival.as_ref());
        }
        // What goes in in pieces the kernel puts together, and tidegate does not.
        let cut = if shot.cut.is_none() { seen.cut.clone() } else { Vec::new() };
        Ok(Output { is_inside, packet, ip_sum, transport_sum, cut })
    }

    /// A flow's packet has reached a backend: the right one?
    fn track(
        &mut self,
        world: usize,
        flow: &mut Flow,
        shot: &Shot,
        arrival: Arrival,
    ) -> Result<(), String> {
        let (service, ends) = (flow.service, arrival.ends);
        let family = Family::of(ends.source.ip());
        let whose = (flow.protocol, flow.is_of_pod());
        if service.backend(arrival.place, whose, ends.destination).is_none() {
            return Err(format!("{} is no backend of {}", ends.destination, service.name));
        }
        // A pod that is its own backend would answer itself directly (semantics F8).
        let is_hairpin = ends.destination.ip() == flow.client.ip();
        if service.is_local && !is_hairpin {
            self.check_kept(flow, ends)?;
        } else if ends.source.ip() != arrival.place.masquerade(family) {
            return Err(format!("{} is not the address of the way out", ends.source));
        }
        match flow.arrivals[world] {
            Some(known) if !shot.begins && known != arrival => {
                return Err(format!("a live flow moved from {known:?}"));
            }
            Some(_) if !shot.begins => return Ok(()),
            _ => flow.arrivals[world] = Some(arrival),
        }
        if world == 1 && flow.arrivals[0].map(|a| a.ends.destination) != Some(ends.destination) {
            self.used[Freedom::Backend as usize] += 1;
        }
        self.remember(world, service, flow, ends.destination.ip())
    }

    /// Under policy Local a backend sees the client itself.
    fn check_kept(&mut self, flow: &Flow, ends: Ends) -> Result<(), String> {
        let has_other_port = ends.source.port() != flow.client.port();
        if has_other_port && flow.shares_port {
            self.used[Freedom::SourcePort as usize] += 1;
        }
        if ends.source.ip() != flow.client.ip() || (has_other_port && !flow.shares_port) {
            return Err(format!("{} instead of the client {}", ends.source, flow.client));
        }
        Ok(())
    }

    fn remember(
        &mut self,
        world: usize,
        service: &Service,
        flow: &Flow,
        backend: IpAddr,
    ) -> Result<(), String> {
        if !service.is_sticky {
            return Ok(());
        }
        let key = (world, flow.client.ip(), service.node_port, flow.protocol);
        let known = *self.memory.entry(key).or_insert(backend);
        if known == backend { Ok(()) } else { Err(format!("the client's backend is {known}")) }
    }

    /// Takes away addresses that differ between the worlds, from a packet at a backend and from
    /// what it quotes.
    fn blank(&mut self, packet: &mut [u8], place: Place, arrival: Option<&Arrival>) {
        let Some(outer) = parts(packet) else { return };
        let quote = quoted(packet).map(<[u8]>::len);
        let ends = self.without_choices(outer.ends, place, arrival);
        replace(packet, &outer, ends);
        let Some(length) = quote else { return };
        let at = packet.len() - length;
        let Some(inner_bytes) = packet.get_mut(at..) else { return };
        let Some(inner) = parts(inner_bytes) else { return };
        let ends = self.without_choices(inner.ends.reversed(), place, arrival).reversed();
        take_sums(inner_bytes, &inner);
        replace(inner_bytes, &inner, ends);
    }

    /// The ends of a packet towards a backend, with what was chosen freely taken away. The
    /// masquerading address is not chosen: it was compared with the right one.
    fn without_choices(&mut self, ends: Ends, place: Place, arrival: Option<&Arrival>) -> Ends {
        let is_backend = arrival.is_none_or(|a| a.ends.destination == ends.destination)
            || arrival.is_some_and(|a| a.ends.destination.ip() == ends.destination.ip());
        let is_masqueraded = ends.source.ip() == place.masquerade(Family::of(ends.source.ip()));
        if is_masqueraded {
            self.used[Freedom::SourcePort as usize] += 1;
        }
        // An ICMP error has no port.
        let is_of = |end: SocketAddr| {
            end == ends.source || (end.ip(), 0) == (ends.source.ip(), ends.source.port())
        };
        let is_moved = arrival.is_some_and(|a| is_of(a.ends.source));
        let source = if is_masqueraded || is_moved { nobody(ends.source) } else { ends.source };
        let destination = if is_backend { nobody(ends.destination) } else { ends.destination };
        Ends { source, destination }
    }
}

/// Whether a packet is for the client of the flow that it is of: a pod may be both ends of one.
fn is_to_client(of: Origin, flows: &[Flow], seen: &Seen, found: &Parts) -> bool {
    let flow = match of {
        Origin::Flow(index, _) => flows.get(index).filter(|flow| flow.is_of_pod()),
        Origin::Alone(_) => None,
    };
    let Some(flow) = flow else { return seen.place == Place::Client };
    let quote = quoted(&seen.packet).and_then(parts);
    let end = quote.map_or(found.ends.destination, |inner| inner.ends.source);
    seen.place == flow.home && end == flow.client
}

/// Looks at the sums and sets them to 0.
fn take_sums(packet: &mut [u8], found: &Parts) -> (Checksum, Option<Checksum>) {
    let is_v6 = found.ends.source.is_ipv6();
    let ip = ip_sum(packet);
    let transport = checksum(packet, found);
    let zero = |packet: &mut [u8], at: usize| {
        if let Some(field) = packet.get_mut(at..at + 2) {
            field.fill(0);
        }
    };
    if !is_v6 {
        zero(packet, 10);
    }
    if let Some(offset) = checksum_offset(found.protocol) {
        zero(packet, found.transport + offset);
    }
    (ip, transport)
}

/// Sets the IPv4 identification or the IPv6 flow label to 0.
fn take_marker(packet: &mut [u8]) {
    match packet {
        [first, second, third, fourth, ..] if *first >> 4 == 6 => {
            *second &= 0xf0;
            (*third, *fourth) = (0, 0);
        }
        [_, _, _, _, high, low, ..] => (*high, *low) = (0, 0),
        _ => {}
    }
}

fn replace(packet: &mut [u8], found: &Parts, ends: Ends) {
    let mut put = |at: usize, bytes: &[u8]| {
        if let Some(place) = packet.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            put(12, &source.octets());
            put(16, &destination.octets());
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            put(8, &source.octets());
            put(24, &destination.octets());
        }
        _ => {}
    }
    if matches!(found.protocol, 6 | 17) {
        put(found.transport, &ends.source.port().to_be_bytes());
        put(found.transport + 2, &ends.destination.port().to_be_bytes());
    }
}
