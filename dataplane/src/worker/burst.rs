//! One burst through the pipeline: frames in, decided frames out.

use crate::clock;
use crate::pipeline::{BURST_FRAMES_MAX, Packet};
use crate::stats::FlowEnd;
use crate::types::{FlowKey, InterfaceSlot, Time, WorkerId};
use crate::verdict::{DropReason, Verdict};
use crate::worker::Worker;
use crate::worker::port::{Samples, TxNote, record};
use crate::xdp::layout::{METADATA_MAGIC, Metadata, OWNER_NONE};
use crate::xdp::maps::FLOW_BATCH_MAX;
use crate::xdp::umem::Frame;
use crate::{engine::CopyMode, flow_table::FlowId};
use arrayvec::ArrayVec;
use zerocopy::FromBytes;

/// What is known of a frame before the pipeline sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Where it came in.
    pub ingress: InterfaceSlot,
    /// The XDP program knows its owner: a reply.
    pub owner: Option<WorkerId>,
    /// The XDP program's stamp; 0 if it was not sampled.
    pub stamp_ns: u64,
    /// When a worker read it first.
    pub read_at: Time,
    /// It came from another worker.
    pub is_handed: bool,
    /// Its bytes.
    pub len: usize,
}

/// A decided packet: the frame's content is what leaves.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decision<'a> {
    pub arrival: &'a Arrival,
    /// What the packet leaves with, or is dropped with. Made once and passed by reference: what was
    /// written in parts this very moment cannot be copied without waiting.
    pub note: TxNote,
    flow: Option<FlowId>,
}

/// Frames of a burst.
pub(super) type Frames = ArrayVec<Frame, BURST_FRAMES_MAX>;
/// What is known of them.
pub(super) type Arrivals = ArrayVec<Arrival, BURST_FRAMES_MAX>;
type Decisions<'a> = ArrayVec<Decision<'a>, BURST_FRAMES_MAX>;

impl Worker {
    /// Reads a burst from one pair and sees it through. Returns how many packets it had.
    pub(super) fn serve_port(&mut self, at: usize) -> usize {
        let Some(port) = self.ports.get_mut(at).and_then(Option::as_mut) else { return 0 };
        let (mode, slot) = (port.pair.mode, port.pair.slot);
        let pool = self.parts.pools.of(mode);
        port.complete(pool);
        let mut frames = Frames::new();
        port.pair.receive(pool, &mut frames);
        port.pair.refill(pool);
        if frames.is_empty() {
            return 0;
        }
        // Another CPU has written them: fetch them all at once, not one after the other.
        frames.iter_mut().for_each(|frame| pool.prefetch(frame));
        let queue = &port.pair.counters;
        // After the read: a packet is never read before its stamp.
        let now = clock::now();
        let arrivals: Arrivals =
            frames.iter_mut().map(|frame| arrival(pool, frame, slot, now)).collect();
        let count = frames.len();
        let bytes = arrivals.iter().map(|a| a.len as u64).sum();
        queue.received_packets.add(count as u64);
        queue.received_bytes.add(bytes);
        let received = self.parts.counters.interface(slot);
        received.received_packets.add(count as u64);
        received.received_bytes.add(bytes);
        self.parts.counters.work.bursts.add(count);
        self.run_burst(mode, frames, &arrivals, now);
        count
    }

    /// Decides a burst, tells the kernel of its flows, and sends it.
    pub(super) fn run_burst(
        &mut self,
        mode: CopyMode,
        mut frames: Frames,
        arrivals: &Arrivals,
        now: Time,
    ) {
        let mut decisions = self.decide(mode, &mut frames, arrivals, now);
        self.sync_flow_map(&mut decisions);
        for (frame, decision) in frames.into_iter().zip(&decisions) {
            self.dispatch(mode, frame, decision, now);
        }
        if !self.parts.pipeline.generated().is_empty() {
            self.send_generated(now);
        }
        self.flush();
    }

    fn decide<'a>(
        &mut self,
        mode: CopyMode,
        frames: &mut Frames,
        arrivals: &'a Arrivals,
        now: Time,
    ) -> Decisions<'a> {
        let pool = self.parts.pools.of(mode);
        let packet = |(frame, arrival): (_, &Arrival)| Packet {
            owner: arrival.owner,
            is_handed: arrival.is_handed,
            ..Packet::new(pool.buffer(frame), arrival.len, arrival.ingress)
        };
        let mut packets: ArrayVec<Packet<'_>, BURST_FRAMES_MAX> =
            frames.iter_mut().zip(arrivals).map(packet).collect();
        // The burst boundary: the quiescent state of the snapshot before.
        let snapshot = self.reader.read();
        self.parts.counters.work.snapshot_version.set_release(snapshot.version.0);
        self.parts.pipeline.process(&mut packets, snapshot, now);
        let decision = |(packet, arrival): (&Packet<'_>, &'a Arrival)| Decision {
            arrival,
            note: TxNote::of(packet, arrival),
            flow: packet.flow,
        };
        packets.iter().zip(arrivals).map(decision).collect()
    }

    /// Tells the kernel's flow map what began and ended, before the burst's packets leave: so the
    /// first reply finds its way. A flow that does not fit there is refused here too.
    pub(super) fn sync_flow_map(&mut self, decisions: &mut [Decision<'_>]) {
        let changes = self.parts.pipeline.flows.changes_mut();
        if !changes.removed.is_empty() {
            self.parts.flow_map.remove_batch(&changes.removed);
            self.parts.pipeline.flows.forgotten();
        }
        let begun = core::mem::take(&mut self.parts.pipeline.flows.changes_mut().begun);
        for chunk in begun.chunks(FLOW_BATCH_MAX) {
            let keys: ArrayVec<FlowKey, FLOW_BATCH_MAX> = chunk.iter().map(|(k, _)| *k).collect();
            let stored = self.parts.flow_map.insert_batch(&keys, self.parts.config.id);
            for (_, flow) in chunk.get(stored..).unwrap_or_default() {
                self.refuse(*flow, decisions);
            }
        }
    }

    #[cold]
    fn refuse(&mut self, flow: FlowId, decisions: &mut [Decision<'_>]) {
        for decision in decisions.iter_mut().filter(|d| d.flow == Some(flow)) {
            decision.note.verdict = Verdict::Drop(DropReason::FlowMapFull);
        }
        self.parts.pipeline.flows.end(flow, FlowEnd::Evicted);
    }

    /// Sends what waits on every pair, and records the sampled packets.
    pub(super) fn flush(&mut self) {
        let mut samples = Samples::new();
        for port in self.ports.iter_mut().flatten() {
            let pool = self.parts.pools.of(port.pair.mode);
            port.transmit(pool, &self.parts.counters, &mut samples);
        }
        if !samples.is_empty() {
            record(&mut self.parts.latency, &samples, clock::now());
        }
        self.parts.hand_off.ring_bells();
    }
}

/// Reads the metadata that the XDP program left before the frame.
fn arrival(
    pool: &crate::xdp::umem::FramePool,
    frame: &mut Frame,
    ingress: InterfaceSlot,
    read_at: Time,
) -> Arrival {
    let len = frame.len();
    let bytes = pool.take_metadata::<{ size_of::<Metadata>() }>(frame);
    let metadata = bytes.and_then(|b| Metadata::read_from_bytes(&b).ok());
    let metadata = metadata.filter(|m| m.magic == METADATA_MAGIC);
    let owner = metadata.filter(|m| m.owner != OWNER_NONE).and_then(|m| u8::try_from(m.owner).ok());
    Arrival {
        ingress,
        owner: owner.map(WorkerId),
        stamp_ns: metadata.map_or(0, |m| m.stamp_ns),
        read_at,
        is_handed: false,
        len,
    }
}
