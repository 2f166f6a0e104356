//! Later fragments whose first has not come yet: held for a moment, since the network may have
//! reordered them, or another worker has the first in hand (semantics G10). Where it does not come,
//! it may have gone to the kernel, and so do they: the kernel drops them if not.

use crate::engine::CopyMode;
use crate::stats::Traffic;
use crate::types::{BURST_FRAMES_MAX, ServiceId, Time};
use crate::verdict::{DropReason, PassReason, Verdict};
use crate::worker::Worker;
use crate::worker::burst::{Arrival, Arrivals, Decision, Frames};
use crate::worker::port::TxNote;
use crate::xdp::umem::Frame;
use arrayvec::ArrayVec;
use core::time::Duration;

/// Frames held at once: two datagrams of 64 KiB at an MTU of 1500, and an eighth of a small
/// interface's frames. Beyond it a fragment is dropped at once.
const WAITING_MAX: usize = 64;

/// How long a fragment waits. Reordering within a network is a matter of milliseconds; longer would
/// only hold the frames of datagrams that are lost anyway.
const WAIT_MAX_NS: u64 = 100_000_000;

/// How long a worker sleeps while fragments wait: their first may come to another worker, which
/// does not know whom to wake.
pub(super) const WAITING_SLEEP_MAX: Duration = Duration::from_millis(1);

/// The fragments that wait.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    held: ArrayVec<(Frame, Arrival), WAITING_MAX>,
    /// What was known of datagrams when they were decided last.
    version: u64,
}

impl Waiting {
    /// Whether none waits.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Whether one of them is to be decided: something was learnt, or its time is over.
    fn is_due(&self, version: u64, now: Time) -> bool {
        let is_late = |(_, arrival): &(Frame, Arrival)| is_late(arrival, now);
        version != self.version || self.held.first().is_some_and(is_late)
    }
}

fn is_late(arrival: &Arrival, now: Time) -> bool {
    now.0.saturating_sub(arrival.read_at.0) >= WAIT_MAX_NS
}

impl Worker {
    /// Holds a fragment, in a frame of the copy mode: those of an interface may go with it.
    #[cold]
    pub(super) fn hold(&mut self, mode: CopyMode, frame: Frame, decision: &Decision<'_>) {
        let note = note(decision.arrival);
        if self.waiting.held.is_full() {
            return self.discard(mode, frame, &note, DropReason::FirstFragmentNotFound);
        }
        match self.parts.pools.convert(frame, note.len, (mode, CopyMode::Copy)) {
            Ok(frame) => self.waiting.held.push((frame, *decision.arrival)),
            Err(frame) => self.discard(mode, frame, &note, DropReason::Nomem),
        }
    }

    /// Decides the held fragments anew where there is reason to. Returns how many.
    #[inline]
    pub(super) fn look_after_waiting(&mut self, now: Time) -> usize {
        if self.waiting.is_empty() {
            return 0;
        }
        let version = self.parts.pipeline.datagrams().version();
        if !self.waiting.is_due(version, now) {
            return 0;
        }
        // Load-bearing: read before they are decided, so that nothing is learnt unseen between.
        self.waiting.version = version;
        self.decide_waiting(now)
    }

    fn decide_waiting(&mut self, now: Time) -> usize {
        let (mut frames, mut arrivals) = (Frames::new(), Arrivals::new());
        for (frame, arrival) in core::mem::take(&mut self.waiting.held) {
            if is_late(&arrival, now) {
                let verdict = Verdict::Pass(PassReason::Fragment);
                let note = TxNote { verdict, ..note(&arrival) };
                self.pass(CopyMode::Copy, frame, (&note, now));
            } else {
                frames.push(frame);
                arrivals.push(arrival);
            }
        }
        let count = frames.len();
        // Also where none is left: it sends what is on its way to the kernel.
        self.run_burst(CopyMode::Copy, frames, &arrivals, now);
        count
    }
}

fn note(arrival: &Arrival) -> TxNote {
    TxNote {
        ingress: arrival.ingress,
        verdict: Verdict::Wait,
        service: ServiceId(0),
        len: arrival.len,
        stamp_ns: 0,
        read_at: arrival.read_at,
        traffic: Traffic::Established,
    }
}

const _: () = assert!(WAITING_MAX <= BURST_FRAMES_MAX, "decided as one burst");
