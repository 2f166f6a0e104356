//! A bound pair as its worker drives it, with what must be known of frames that wait to be sent.

use crate::pipeline::Packet;
use crate::stats::{LatencyRecorder, Stage, Traffic, WorkerCounters};
use crate::types::{InterfaceSlot, ServiceId, Time};
use crate::verdict::{DropReason, RejectReason, Verdict};
use crate::worker::burst::Arrival;
use crate::xdp::socket::{BoundPair, PENDING_TX_MAX};
use crate::xdp::umem::{Frame, FramePool};
use arrayvec::ArrayVec;

/// What is counted when a frame leaves, or does not.
#[derive(Debug, Clone, Copy)]
pub(super) struct TxNote {
    /// Where the packet came in.
    pub ingress: InterfaceSlot,
    /// Forward, Reject or Pass.
    pub verdict: Verdict,
    /// The service port it concerned.
    pub service: ServiceId,
    /// Its bytes.
    pub len: usize,
    /// The XDP program's stamp; 0 if it was not sampled.
    pub stamp_ns: u64,
    /// When a worker read it first.
    pub read_at: Time,
    /// Which part of its flow it is.
    pub traffic: Traffic,
}

impl TxNote {
    /// Of a packet that was decided.
    #[inline]
    pub(super) fn of(packet: &Packet<'_>, arrival: &Arrival) -> Self {
        Self {
            ingress: arrival.ingress,
            verdict: packet.verdict,
            service: packet.service,
            len: packet.len,
            stamp_ns: arrival.stamp_ns,
            read_at: arrival.read_at,
            traffic: packet.traffic,
        }
    }

    /// Of a packet that no packet that came turned into.
    pub(super) fn of_generated(len: usize, now: Time) -> Self {
        Self {
            ingress: InterfaceSlot(0),
            verdict: Verdict::Generated,
            service: ServiceId(0),
            len,
            stamp_ns: 0,
            read_at: now,
            traffic: Traffic::Established,
        }
    }
}

/// A pair and its notes.
#[derive(Debug)]
pub(super) struct Port {
    /// The pair.
    pub pair: BoundPair,
    notes: ArrayVec<TxNote, PENDING_TX_MAX>,
}

impl Port {
    pub(super) fn new(pair: BoundPair) -> Self {
        Self { pair, notes: ArrayVec::new() }
    }

    /// Puts a frame on the list to send. The frame comes back where the list is full.
    #[inline]
    pub(super) fn enqueue(&mut self, frame: Frame, note: &TxNote) -> Result<(), Frame> {
        self.pair.enqueue(frame)?;
        // Both lists have the same capacity and length.
        self.notes.try_push(*note).ok();
        Ok(())
    }

    /// Whether nothing is in the rings that this side must see to before it sleeps. What waits for
    /// a link that is down may stay there meanwhile: see [`Port::try_again`].
    pub(super) fn is_at_rest(&mut self) -> bool {
        !self.pair.has_received() && (self.pair.is_refused() || !self.pair.has_unsent())
    }

    /// Frees what was sent, and reminds the kernel of what was not.
    pub(super) fn complete(&mut self, pool: &mut FramePool) {
        self.pair.complete(pool);
        if self.pair.has_unsent() && !self.pair.is_refused() {
            self.pair.kick();
        }
    }

    /// To be called now and then: a link that was down may be up.
    pub(super) fn try_again(&mut self) {
        if self.pair.is_refused() {
            self.pair.kick();
        }
    }

    /// Sends the list and counts each of its packets. Returns the sampled ones' times.
    pub(super) fn transmit(
        &mut self,
        pool: &mut FramePool,
        counters: &WorkerCounters,
        samples: &mut Samples,
    ) {
        if self.notes.is_empty() {
            return;
        }
        let refused = self.pair.transmit(pool);
        let sent = self.notes.len().saturating_sub(refused);
        let mut bytes = 0;
        for (at, note) in self.notes.drain(..).enumerate() {
            if at >= sent {
                count_drop(counters, &note, DropReason::FullRing);
                continue;
            }
            bytes += note.len as u64;
            count_sent(counters, &note);
            if note.stamp_ns != 0 && matches!(note.verdict, Verdict::Forward(_)) {
                samples.try_push((note.traffic, note.stamp_ns, note.read_at)).ok();
            }
        }
        let (egress, queue) = (counters.interface(self.pair.slot), &self.pair.counters);
        egress.transmitted_packets.add(sent as u64);
        egress.transmitted_bytes.add(bytes);
        queue.transmitted_packets.add(sent as u64);
        queue.transmitted_bytes.add(bytes);
        if self.pair.kick() {
            counters.work.kicks.add(1);
        }
    }
}

fn count_sent(counters: &WorkerCounters, note: &TxNote) {
    let ingress = counters.interface(note.ingress);
    match note.verdict {
        Verdict::Forward(_) => ingress.forwarded_packets.add(1),
        Verdict::Reject(reason) => {
            ingress.rejected_packets[reason as usize].add(1);
            // A client that gets a cookie is not refused.
            if reason != RejectReason::SynCookie {
                counters.service(note.service).rejected_packets.add(1);
            }
            counters.work.generated_packets.add(1);
        }
        Verdict::Generated => counters.work.generated_packets.add(1),
        Verdict::Pass(reason) => ingress.passed_packets[reason as usize].add(1),
        Verdict::Pending | Verdict::Drop(_) | Verdict::HandOff(_) | Verdict::Wait => {}
    }
}

/// Counts a packet that goes nowhere. One that we made is no part of the sum.
pub(super) fn count_drop(counters: &WorkerCounters, note: &TxNote, reason: DropReason) {
    if note.verdict == Verdict::Generated {
        return counters.work.generated_lost.add(1);
    }
    counters.interface(note.ingress).dropped_packets[reason as usize].add(1);
    if note.service != ServiceId(0) {
        counters.service(note.service).dropped_packets.add(1);
        counters.service_drops.add(note.service, reason);
    }
}

/// Kind, stamp and time of reading of the sampled packets of a burst.
pub(super) type Samples = ArrayVec<(Traffic, u64, Time), PENDING_TX_MAX>;

/// Records sampled packets that were put on a transmit ring at `sent_at`.
pub(super) fn record(latency: &mut LatencyRecorder, samples: &Samples, sent_at: Time) {
    for &(traffic, stamp_ns, read_at) in samples {
        for (stage, from, to) in [
            (Stage::QueueWait, stamp_ns, read_at.0),
            (Stage::Forwarding, read_at.0, sent_at.0),
            (Stage::Total, stamp_ns, sent_at.0),
        ] {
            latency.record(traffic, stage, to.saturating_sub(from));
        }
    }
}
