//! Two workers under a snapshot, and what they have forwarded.

use crate::check::{Gauges, Passage, check_table, joined};
use crate::cluster::snapshot;
use crate::scenario::{Shape, Spoil, Start, Step};
use core::net::SocketAddr;
use etherparse::{SlicedPacket, TransportSlice};
use std::collections::BTreeMap;
use std::sync::Arc;
use tidegate_dataplane::admission::{Admission, MidFlow, SynProxyMode};
use tidegate_dataplane::affinity::AffinityTable;
use tidegate_dataplane::datagrams::DatagramTable;
use tidegate_dataplane::engine::FlowTimeouts;
use tidegate_dataplane::flow_table::{
    FlowTable, FlowTableConfig, HashKey, OwnerDirectory, SourcePorts,
};
use tidegate_dataplane::pipeline::{Gate, Packet, Pipeline};
use tidegate_dataplane::snapshot::Snapshot;
use tidegate_dataplane::stats::WorkerCounters;
use tidegate_dataplane::syn_cookie::SynCookies;
use tidegate_dataplane::testing::{
    Family, INNER, OUTER, ends, tcp_frame, tcp_frame_with, udp_frame,
};
use tidegate_dataplane::types::{
    FlowKey, InterfaceSlot, L4Port, PortRange, Protocol, Time, WorkerId,
};
use tidegate_dataplane::verdict::{RejectReason, Verdict};

const FRAME_BYTES: usize = 2048;

thread_local! {
    /// Megabytes: made once, and never set back.
    static COUNTERS: [Arc<WorkerCounters>; 2] = Default::default();
}

const GOOD: Shape = Shape { is_tcp: true, flags: 2, payload: 64, worker: false, spoil: Spoil::Not };

/// A packet that reached a backend: how it looked there, and to whom its answer must go.
#[derive(Debug, Clone)]
struct Arrival {
    frame: Vec<u8>,
    client: String,
    front: String,
    worker: usize,
}

pub(crate) struct World {
    workers: [Box<Pipeline>; 2],
    /// What the counters said before the first flow.
    idle: [Gauges; 2],
    snapshot: Snapshot,
    flows_max: u32,
    now: Time,
    arrivals: Vec<Arrival>,
    /// By the ends of the answer: whose it is now. Another flow may have it later.
    owners: BTreeMap<(String, String, bool), usize>,
}

impl World {
    pub(crate) fn new(start: &Start) -> Self {
        let flows_max = 2 + u32::from(start.flows_max % 32);
        let directory = Arc::new(OwnerDirectory::with_capacity(64));
        let affinity = Arc::new(AffinityTable::with_capacity(64));
        let datagrams = Arc::new(DatagramTable::with_capacity(64));
        let admission = admission(start, flows_max);
        let cookies = Arc::new(SynCookies::new([5, 6]));
        let counters = COUNTERS.with(Clone::clone);
        let idle = counters.each_ref().map(|counters| Gauges::of(counters));
        let worker = |index: u8, counters: &Arc<WorkerCounters>| {
            let ports = PortRange::new_checked(15_000, 24_999).expect("a range");
            let ports = SourcePorts::of_worker(ports, u32::from(index), 2);
            let config = FlowTableConfig {
                worker: WorkerId(index),
                flows_max,
                embryonic_max: flows_max / 2,
                hash_key: HashKey::new([1, 2, 3, 4]),
                timeouts: FlowTimeouts::default(),
                source_ports: ports.expect("a slice"),
                seed: 42,
            };
            let gate = Gate::new(&admission, &config, Arc::clone(&cookies));
            let flows = FlowTable::new(config, Arc::clone(counters), Some(Arc::clone(&directory)));
            let pipeline = Pipeline::new(flows, Arc::clone(&affinity), Arc::clone(&datagrams));
            pipeline.with_gate(gate)
        };
        Self {
            workers: [0, 1].map(|n: u8| Box::new(worker(n, &counters[usize::from(n)]))),
            idle,
            snapshot: snapshot(1, &start.cluster),
            flows_max,
            now: Time(1_000_000_000),
            arrivals: Vec::new(),
            owners: BTreeMap::new(),
        }
    }

    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Ask { packet, is_v6, host, port, front } => {
                self.ask(packet, *is_v6, (*host, *port), *front);
            }
            Step::Answer { packet, flow, knows_owner } => {
                self.answer(packet, (*flow).into(), *knows_owner);
            }
            Step::Complain { packet, flow, kind, code, quote_bytes } => {
                self.complain(packet, (*flow).into(), [*kind, *code], (*quote_bytes).into());
            }
            Step::Noise { head, bytes, worker } => {
                // All of a good frame up to there, and then anything.
                let (mut packet, _) = build(&GOOD, &Family::V4.client(1, 4000), Family::V4.front());
                packet.truncate((*head).into());
                packet.extend(bytes.iter().take(FRAME_BYTES - packet.len()));
                self.send(&packet, FRAME_BYTES, (usize::from(*worker), None), OUTER);
            }
            Step::Wait { seconds } => self.wait(*seconds),
            Step::Change(cluster) => {
                self.snapshot = snapshot(self.snapshot.version.0 + 1, cluster);
            }
        }
        for (worker, idle) in self.workers.iter_mut().zip(&self.idle) {
            check_table(&worker.flows, self.flows_max, idle);
            // What the engine does once per burst.
            let changes = worker.flows.changes_mut();
            changes.begun.clear();
            changes.removed.clear();
        }
    }

    fn ask(&mut self, shape: &Shape, is_v6: bool, (host, port): (u8, u8), front: u8) {
        let family = if is_v6 { Family::V6 } else { Family::V4 };
        let client = family.client(1 + u16::from(host % 4), 4000 + u16::from(port % 8));
        let (address, _) = family.front().rsplit_once(':').expect("a port");
        let front = format!("{address}:{}", 30_080 + u16::from(front % 3));
        let (frame, room) = build(shape, &client, &front);
        let passage = self.send(&frame, room, (usize::from(shape.worker), None), OUTER);
        let Some((client, front, is_tcp)) = whole(&frame) else { return };
        if passage.verdict == Verdict::Reject(RejectReason::SynCookie) {
            return self.complete(&passage.after, (client, front), shape);
        }
        self.note_arrival(passage, (client, front), is_tcp);
    }

    fn note_arrival(&mut self, passage: Passage, (client, front): (String, String), is_tcp: bool) {
        if passage.egress() == Some(INNER) {
            let (from, to) = ends(&passage.after);
            assert!(to.ends_with(":5000"), "{to} is no backend");
            let worker = self.worker_of(&from, &to, is_tcp);
            self.owners.insert((to, from, is_tcp), self.arrivals.len());
            self.arrivals.push(Arrival { frame: passage.after, client, front, worker });
        }
    }

    /// The client brings its cookie back, and mostly the backend answers.
    fn complete(&mut self, cookie: &[u8], (client, front): (String, String), shape: &Shape) {
        let answer = SlicedPacket::from_ethernet(cookie).expect("a whole frame").transport;
        let Some(TransportSlice::Tcp(answer)) = answer else { return };
        let numbered = |from: &str, to: &str, is_syn, numbers: (u32, u32)| {
            let mut tcp = etherparse::TcpHeader::new(0, 0, numbers.0, 500);
            (tcp.syn, tcp.ack, tcp.acknowledgment_number) = (is_syn, true, numbers.1);
            tcp_frame_with(from, to, tcp, b"")
        };
        let next = answer.acknowledgment_number();
        let ack =
            numbered(&client, &front, false, (next, answer.sequence_number().wrapping_add(1)));
        // Any worker knows it.
        let passage = self.send(&ack, FRAME_BYTES, (shape.payload as usize % 2, None), OUTER);
        let Some(INNER) = passage.egress() else { return };
        let (from, to) = ends(&passage.after);
        self.note_arrival(passage, (client, front), true);
        if shape.payload % 8 != 7 {
            let syn_ack = numbered(&to, &from, true, (77_000, next));
            let worker = self.arrivals.last().map_or(0, |arrival| arrival.worker);
            let passage = self.send(&syn_ack, FRAME_BYTES, (worker, None), INNER);
            assert_eq!(passage.egress(), Some(OUTER), "the client's window opens");
        }
    }

    /// The worker that has the flow of a packet as its backend sees it.
    fn worker_of(&self, from: &str, to: &str, is_tcp: bool) -> usize {
        let end = |text: &str| {
            let end: SocketAddr = text.parse().expect("an address and a port");
            (end.ip().into(), L4Port::new(end.port()))
        };
        let protocol = if is_tcp { Protocol::Tcp } else { Protocol::Udp };
        let key = FlowKey::new(protocol, end(to), end(from));
        let has = |worker: &Pipeline| worker.flows.find(&key, worker.flows.hash(&key)).is_some();
        self.workers.iter().position(|w| has(w)).expect("a forwarded packet has a flow")
    }

    fn answer(&mut self, shape: &Shape, flow: usize, knows_owner: bool) {
        let Some(arrival) = self.arrivals.get(flow % self.arrivals.len().max(1)) else { return };
        let (from, to) = ends(&arrival.frame);
        let owner = knows_owner.then(|| WorkerId(u8::try_from(arrival.worker).unwrap_or(0)));
        let (frame, room) = build(shape, &to, &from);
        let worker = (usize::from(shape.worker), owner);
        let passage = self.send(&frame, room, worker, INNER);
        let Some((from, to, is_tcp)) = whole(&frame) else { return };
        let latest = self.owners.get(&(from, to, is_tcp));
        if let (Some(index), Some(egress)) = (latest, passage.egress()) {
            let asked = &self.arrivals[*index];
            assert_eq!(egress, OUTER);
            let expected = (asked.front.clone(), asked.client.clone());
            assert_eq!(ends(&passage.after), expected, "an answer goes to who asked");
        }
    }

    fn complain(&mut self, shape: &Shape, flow: usize, [kind, code]: [u8; 2], quote: usize) {
        let Some(arrival) = self.arrivals.get(flow % self.arrivals.len().max(1)) else { return };
        let (from, to) = ends(&arrival.frame);
        let quoted = &arrival.frame[14..];
        let quoted = &quoted[..quoted.len().min(28 + quote)];
        let mut payload = vec![kind % 16, code, 0, 0, 0, 0, 0, 0];
        payload.extend(quoted);
        // A UDP frame whose UDP header makes way for the ICMP header.
        let mut frame = udp_frame(&to, &from, &payload);
        let is_v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
        let (l4, protocol, length) = if is_v6 { (54, 20, 18) } else { (34, 23, 16) };
        frame.drain(l4..l4 + 8);
        frame[protocol] = if is_v6 { 58 } else { 1 };
        let ip_bytes = frame.len() - if is_v6 { 54 } else { 14 };
        let field = u16::try_from(ip_bytes).unwrap_or_default().to_be_bytes();
        frame[length..length + 2].copy_from_slice(&field);
        let room = spoil(&mut frame, &shape.spoil);
        self.send(&frame, room, (usize::from(shape.worker), None), INNER);
    }

    fn wait(&mut self, seconds: u16) {
        self.now = Time(self.now.0 + u64::from(seconds % 200) * 1_000_000_000);
        for worker in &mut self.workers {
            worker.flows.expire(self.now);
        }
    }

    /// Through one worker, and on to the other where the first says so.
    fn send(
        &mut self,
        frame: &[u8],
        room: usize,
        (worker, owner): (usize, Option<WorkerId>),
        ingress: InterfaceSlot,
    ) -> Passage {
        let mut passage = self.process(frame, room, (worker, owner), (ingress, false));
        passage.check();
        if let Verdict::HandOff(to) = passage.verdict {
            let to = usize::from(to.0);
            assert_ne!(to, worker, "handed to itself");
            passage = self.process(frame, room, (to, owner), (ingress, true));
            passage.check();
            assert!(!matches!(passage.verdict, Verdict::HandOff(_)), "handed on for ever");
        }
        passage
    }

    fn process(
        &mut self,
        frame: &[u8],
        room: usize,
        (worker, owner): (usize, Option<WorkerId>),
        (ingress, is_handed): (InterfaceSlot, bool),
    ) -> Passage {
        let mut buffer = frame.to_vec();
        buffer.resize(room.max(frame.len()), 0);
        let room = buffer.len();
        let mut packets = [Packet::new(&mut buffer, frame.len(), ingress)];
        (packets[0].owner, packets[0].is_handed) = (owner, is_handed);
        self.workers[worker].process(&mut packets, &self.snapshot, self.now);
        let [packet] = packets;
        let (before, after) = (frame.to_vec(), packet.bytes().to_vec());
        let verdict = packet.verdict;
        let made = self.workers[worker].generated();
        let pieces: Vec<_> = made.iter().map(|made| (made.egress, made.bytes)).collect();
        let after = joined(&before, after, &pieces);
        self.workers[worker].generated_mut().clear();
        Passage { before, after, room, verdict }
    }
}

/// What new flows must pass, by bits of the start that nothing else reads.
fn admission(start: &Start, flows_max: u32) -> Admission {
    let syn_proxy = match start.flows_max >> 6 {
        0 => SynProxyMode::Off,
        1 => SynProxyMode::Auto,
        _ => SynProxyMode::Always,
    };
    let mid_flow = if start.flows_max >> 5 & 1 == 0 { MidFlow::Pass } else { MidFlow::Forward };
    let embryonic_flows_max = flows_max / 2;
    Admission { syn_proxy, mid_flow, embryonic_flows_max, ..Admission::for_flows(flows_max) }
}

/// The ends of a frame, and whether it is TCP; `None` if it is not whole.
fn whole(frame: &[u8]) -> Option<(String, String, bool)> {
    let is_tcp = match SlicedPacket::from_ethernet(frame).ok()?.transport? {
        TransportSlice::Tcp(_) => true,
        TransportSlice::Udp(_) => false,
        _ => return None,
    };
    let (from, to) = ends(frame);
    Some((from, to, is_tcp))
}

/// A frame and the room that it has.
fn build(shape: &Shape, from: &str, to: &str) -> (Vec<u8>, usize) {
    let payload = vec![0x5a; usize::from(shape.payload % 1600)];
    let mut frame = if shape.is_tcp {
        tcp_frame(from, to, shape.flags, &payload)
    } else {
        udp_frame(from, to, &payload)
    };
    let room = spoil(&mut frame, &shape.spoil);
    (frame, room)
}

/// Few numbers, so that pieces of one datagram meet.
fn make_piece(frame: &mut Vec<u8>, is_v6: bool, (offset, has_more): (u16, bool), id: u8) {
    if is_v6 {
        let place = (offset << 3 | u16::from(has_more)).to_be_bytes();
        let next = core::mem::replace(&mut frame[20], 44);
        frame.splice(54..54, [next, 0, place[0], place[1], 0, 0, 0, id]);
        lengthen(frame, 18);
    } else {
        let place = (offset | u16::from(has_more) << 13).to_be_bytes();
        frame[18..22].copy_from_slice(&[0, id, place[0], place[1]]);
    }
}

/// Eight bytes more stand in the length field at `at`.
fn lengthen(frame: &mut [u8], at: usize) {
    let length = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(8);
    frame[at..at + 2].copy_from_slice(&length.to_be_bytes());
}

fn spoil(frame: &mut Vec<u8>, spoil: &Spoil) -> usize {
    let is_v6 = frame.get(12..14) == Some(&[0x86, 0xdd]);
    match spoil {
        Spoil::Option { kind, length } if !is_v6 => {
            frame.splice(34..34, [*kind, *length, 4, 0, 0, 0, 0, 0]);
            frame[14] = 0x47;
            lengthen(frame, 16);
        }
        Spoil::Not | Spoil::NotEither | Spoil::NotAtAll | Spoil::Option { .. } => {}
        Spoil::Padding(bytes) => frame.resize(frame.len() + usize::from(*bytes), 0xee),
        Spoil::Ttl(ttl) => frame[if is_v6 { 21 } else { 22 }] = *ttl,
        Spoil::Header { at, xor } => {
            let at = usize::from(*at) % frame.len();
            frame[at] ^= xor;
        }
        Spoil::Cut(at) => frame.truncate(usize::from(*at) % (frame.len() + 1)),
        Spoil::Tight(more) => return frame.len() + usize::from(*more),
        Spoil::Piece { offset, has_more, id } => {
            make_piece(frame, is_v6, (u16::from(offset % 4), *has_more), *id % 4);
        }
    }
    FRAME_BYTES
}
