//! The stages, in order, over a burst.

use crate::affinity::AffinityTable;
use crate::datagrams::DatagramTable;
use crate::flow_table::FlowTable;
use crate::pipeline::balance::State;
use crate::pipeline::flow::Ways;
use crate::pipeline::packet::{Packet, PacketKind};
use crate::pipeline::{Gate, Generated, balance, flow, fragment, icmp, parse};
use crate::snapshot::Snapshot;
use crate::types::Time;
use crate::verdict::{PassReason, Verdict};
use std::sync::Arc;

/// The packet path of one worker: its state and its one entry point.
#[derive(Debug)]
pub struct Pipeline {
    /// The live flows.
    pub flows: FlowTable,
    affinity: Arc<AffinityTable>,
    datagrams: Arc<DatagramTable>,
    answers: icmp::Answers,
    gate: Gate,
    generated: Generated,
}

impl Pipeline {
    /// A packet path over this table. `affinity` and `datagrams` are shared by all workers.
    pub fn new(
        flows: FlowTable,
        affinity: Arc<AffinityTable>,
        datagrams: Arc<DatagramTable>,
    ) -> Self {
        let (answers, gate) = (icmp::Answers::default(), Gate::default());
        Self { flows, affinity, datagrams, answers, gate, generated: Generated::default() }
    }

    /// The same with a gate that new flows must pass.
    #[must_use]
    pub fn with_gate(self, gate: Gate) -> Self {
        Self { gate, ..self }
    }

    /// What was made besides the packets that came.
    pub fn generated(&self) -> &Generated {
        &self.generated
    }

    /// The same; the caller sends and clears it once per burst.
    pub fn generated_mut(&mut self) -> &mut Generated {
        &mut self.generated
    }

    /// To be called now and then: tells by a gauge whether SYNs are answered with cookies, also
    /// where none comes.
    pub fn note_gate(&mut self) {
        let is_on = self.gate.is_proxying(&self.flows);
        self.flows.counters().work.syn_proxy_on.set(is_on.into());
    }

    /// The datagrams in fragments.
    pub fn datagrams(&self) -> &DatagramTable {
        &self.datagrams
    }

    /// Decides every packet of a burst. After it, no verdict is `Pending`; bytes have changed where
    /// the verdict is `Forward` or `Reject` and nowhere else.
    ///
    /// Several loops, so that the cache misses of up to 64 packets run side by side: first the
    /// bucket, then the entry, then the work.
    pub fn process(&mut self, packets: &mut [Packet<'_>], snapshot: &Snapshot, now: Time) {
        Self::parse_all(packets);
        self.hash_all(packets);
        self.find_all(packets);
        self.decide_all(packets, snapshot, now);
    }

    /// The first part of [`Pipeline::process`]: bytes to headers. The parts are there to be timed
    /// one by one; one alone does nothing useful.
    #[inline]
    pub fn parse_all(packets: &mut [Packet<'_>]) {
        packets.iter_mut().for_each(parse);
    }

    /// The second part: hashes, and the buckets on their way. A loop of its own: a key that was
    /// written this very moment, in parts, could not be read as a whole without waiting.
    #[inline]
    pub fn hash_all(&self, packets: &mut [Packet<'_>]) {
        for packet in packets {
            packet.hash = self.flows.hash(&packet.headers.key);
            self.flows.prefetch_bucket(packet.hash);
        }
    }

    /// The third part: where flows probably are, and those on their way.
    #[inline]
    pub fn find_all(&self, packets: &mut [Packet<'_>]) {
        for packet in packets {
            packet.hint = self.flows.prefetch_entry(&packet.headers.key, packet.hash);
        }
    }

    /// The last part: what becomes of each packet, and its bytes.
    #[inline]
    pub fn decide_all(&mut self, packets: &mut [Packet<'_>], snapshot: &Snapshot, now: Time) {
        for packet in packets {
            if packet.verdict == Verdict::Pending {
                packet.verdict = self.decide(packet, snapshot, now);
            }
            if packet.tag.is_some() {
                packet.retag();
            }
        }
    }

    #[inline]
    fn decide(&mut self, packet: &mut Packet<'_>, snapshot: &Snapshot, now: Time) -> Verdict {
        match packet.headers.kind {
            PacketKind::Whole | PacketKind::FirstFragment(_) => {}
            PacketKind::Error(_) => {
                let state = (&self.flows, &mut self.generated);
                return icmp::translate(state, packet, snapshot);
            }
            PacketKind::LaterFragment(_) => {
                let mut ways = Ways { flows: &mut self.flows, generated: &mut self.generated };
                let state = (&mut ways, &*self.datagrams);
                return fragment::follow(state, packet, snapshot, now);
            }
        }
        let mut ways = Ways { flows: &mut self.flows, generated: &mut self.generated };
        let known = flow::known(&mut ways, packet, snapshot, now);
        let mut verdict = known.unwrap_or_else(|| {
            let mut state = State { ways, affinity: &self.affinity, gate: &mut self.gate };
            balance::new_flow(&mut state, packet, snapshot, now)
        });
        if let Verdict::Reject(reason) = verdict {
            verdict = self.answers.answer((&self.flows, snapshot), packet, reason, now);
        }
        if matches!(packet.headers.kind, PacketKind::FirstFragment(_)) {
            fragment::remember((&self.flows, &self.datagrams), packet, verdict, now);
        }
        verdict
    }
}

#[inline]
fn parse(packet: &mut Packet<'_>) {
    let frame = packet.buffer.get(..packet.len).unwrap_or_default();
    if let Err(verdict) = parse::parse_into(&mut packet.headers, frame) {
        packet.verdict = verdict;
        if verdict == Verdict::Pass(PassReason::NotIp) && packet.untag() {
            parse_untagged(packet);
        }
    }
}

/// Apart, so that the parser stands in the loop over the burst once.
#[cold]
fn parse_untagged(packet: &mut Packet<'_>) {
    let frame = packet.buffer.get(..packet.len).unwrap_or_default();
    let parsed = parse::parse_into(&mut packet.headers, frame);
    packet.verdict = parsed.err().unwrap_or(Verdict::Pending);
}
