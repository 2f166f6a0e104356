//! Where a decided frame goes: a transmit ring, another worker, the kernel, or the free list.

use crate::engine::CopyMode;
use crate::pipeline::finish_checksum;
use crate::types::{BURST_FRAMES_MAX, InterfaceSlot, Time, WorkerId};
use crate::verdict::{DropReason, Verdict};
use crate::worker::Worker;
use crate::worker::burst::Decision;
use crate::worker::hand_off::Handed;
use crate::worker::port::{TxNote, count_drop};
use crate::xdp::layout::{ROAD_TRAILER_BYTES, RoadTrailer};
use crate::xdp::umem::{Frame, PairIndex};
use zerocopy::IntoBytes;

/// Who transmits on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Egress {
    /// Not attached.
    Nobody,
    /// This worker, by this pair.
    Own(PairIndex),
    /// Another worker.
    Other(WorkerId),
}

/// The pair that leads back to the kernel.
pub(super) const ROAD: PairIndex = PairIndex(0);

impl Worker {
    /// Sends a decided frame on its way, and counts it or leaves a note for who will.
    #[inline]
    pub(super) fn dispatch(
        &mut self,
        mode: CopyMode,
        frame: Frame,
        decision: &Decision<'_>,
        now: Time,
    ) {
        let note = &decision.note;
        match note.verdict {
            Verdict::Forward(egress) => self.leave_by(egress, mode, frame, note),
            Verdict::Reject(_) => self.leave_by(note.ingress, mode, frame, note),
            Verdict::Pass(_) => self.pass(mode, frame, (note, now)),
            Verdict::Drop(reason) => self.discard(mode, frame, note, reason),
            Verdict::HandOff(worker) => {
                let handed = Handed::to_process(decision, mode);
                self.hand(worker, mode, frame, (handed, note));
            }
            Verdict::Wait => self.hold(mode, frame, decision),
            // Neither leaves the pipeline; a lost packet would show as in flight for ever.
            Verdict::Pending | Verdict::Generated => {
                self.discard(mode, frame, note, DropReason::FlowStateInvalid);
            }
        }
    }

    /// Puts a finished frame on an interface, by our own pair or its owner's.
    #[inline]
    pub(super) fn leave_by(
        &mut self,
        egress: InterfaceSlot,
        mode: CopyMode,
        frame: Frame,
        note: &TxNote,
    ) {
        let who = self.egress.get(usize::from(egress.0)).copied().unwrap_or(Egress::Nobody);
        match who {
            Egress::Own(pair) => self.enqueue(pair, mode, frame, note),
            Egress::Other(worker) => {
                let handed = Handed::to_send(note, egress, mode);
                self.hand(worker, mode, frame, (handed, note));
            }
            Egress::Nobody => self.discard(mode, frame, note, DropReason::DevReady),
        }
    }

    /// Copies what the pipeline made into frames of our own, and puts them on their interfaces.
    #[cold]
    pub(super) fn send_generated(&mut self, now: Time) {
        for number in 0..self.parts.pipeline.generated().len() {
            // The lists of the pairs take a burst at once, and may be as full as that already.
            if number % BURST_FRAMES_MAX == 0 {
                self.flush();
            }
            self.send_one_generated(number, now);
        }
        self.parts.pipeline.generated_mut().clear();
    }

    fn send_one_generated(&mut self, number: usize, now: Time) {
        let Some(made) = self.parts.pipeline.generated().get(number) else { return };
        let (egress, note) = (made.egress, TxNote::of_generated(made.bytes.len(), now));
        let pool = self.parts.pools.of(CopyMode::Copy);
        let Some(mut frame) = pool.take() else {
            return count_drop(&self.parts.counters, &note, DropReason::Nomem);
        };
        match pool.buffer(&mut frame).get_mut(..note.len) {
            Some(place) => {
                place.copy_from_slice(made.bytes);
                self.leave_by(egress, CopyMode::Copy, frame, &note);
            }
            None => self.discard(CopyMode::Copy, frame, &note, DropReason::Nomem),
        }
    }

    #[inline]
    fn enqueue(&mut self, pair: PairIndex, mode: CopyMode, frame: Frame, note: &TxNote) {
        let Some(port) = self.ports.get_mut(usize::from(pair.0)).and_then(Option::as_mut) else {
            return self.discard(mode, frame, note, DropReason::DevReady);
        };
        let to = port.pair.mode;
        let frame = match self.parts.pools.convert(frame, note.len, (mode, to)) {
            Ok(frame) => frame,
            Err(frame) => return self.discard(mode, frame, note, DropReason::Nomem),
        };
        if let Err(frame) = port.enqueue(frame, note) {
            self.discard(to, frame, note, DropReason::FullRing);
        }
    }

    /// The road back to the kernel (T8): the frame and, behind it, where it came from.
    pub(super) fn pass(&mut self, mode: CopyMode, mut frame: Frame, (note, now): (&TxNote, Time)) {
        if !self.road_limiter.take(now) {
            return self.discard(mode, frame, note, DropReason::RateLimited);
        }
        let snapshot = self.reader.read();
        let Some(from) = snapshot.interface(note.ingress).map(|interface| interface.index) else {
            return self.discard(mode, frame, note, DropReason::DevReady);
        };
        let trailer = RoadTrailer::new(self.parts.config.road_magic, from);
        let buffer = self.parts.pools.of(mode).buffer(&mut frame);
        finish_checksum(buffer.get_mut(..note.len).unwrap_or_default());
        let Some(place) = buffer.get_mut(note.len..note.len + ROAD_TRAILER_BYTES) else {
            return self.discard(mode, frame, note, DropReason::Nomem);
        };
        place.copy_from_slice(trailer.as_bytes());
        let note = TxNote { len: note.len + ROAD_TRAILER_BYTES, ..*note };
        self.enqueue(ROAD, mode, frame, &note);
    }

    pub(super) fn discard(
        &mut self,
        mode: CopyMode,
        frame: Frame,
        note: &TxNote,
        reason: DropReason,
    ) {
        self.parts.pools.of(mode).put(frame);
        count_drop(&self.parts.counters, note, reason);
    }

    fn hand(
        &mut self,
        to: WorkerId,
        mode: CopyMode,
        frame: Frame,
        (handed, note): (Handed, &TxNote),
    ) {
        if self.is_stale(to) {
            return self.discard(mode, frame, note, DropReason::StaleWorker);
        }
        if !self.can_hand(to) {
            return self.discard(mode, frame, note, DropReason::HandOffFull);
        }
        let lent = self.parts.pools.of(mode).lend(frame);
        self.parts.counters.work.handed_packets.add(1);
        if let Err(lent) = self.parts.hand_off.give(to, handed.with(lent)) {
            self.parts.pools.take_back(mode, lent.into_index());
            count_drop(&self.parts.counters, note, DropReason::HandOffFull);
        }
    }
}
