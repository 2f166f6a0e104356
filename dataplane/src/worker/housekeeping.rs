//! What a worker does now and then: ageing, hand-over of histograms, gauges.

use crate::stats::FramePlace;
use crate::types::Time;
use crate::worker::Worker;
use crate::worker::port::Port;

/// Gauges are renewed this often: a census looks at every frame.
const GAUGES_NS: u64 = 100_000_000;

impl Worker {
    /// A bounded share of the chores.
    pub(super) fn housekeep(&mut self, now: Time) {
        self.parts.pipeline.flows.expire(now);
        if !self.parts.pipeline.flows.changes_mut().removed.is_empty() {
            self.sync_flow_map(&mut []);
        }
        self.parts.latency.hand_over();
        if now.0.saturating_sub(self.last_housekeeping.0) >= GAUGES_NS {
            self.last_housekeeping = now;
            self.let_go_of_zero_copy();
            self.ports.iter_mut().flatten().for_each(Port::try_again);
            self.renew_gauges(now);
        }
    }

    fn renew_gauges(&mut self, now: Time) {
        self.parts.pipeline.note_gate();
        let work = &self.parts.counters.work;
        work.heartbeat_ns.set(now.0);
        let census = self.parts.pools.census();
        work.frames_total.set(census.total().into());
        for (place, count) in [
            (FramePlace::Free, census.free),
            (FramePlace::Fill, census.fill),
            (FramePlace::Held, census.held),
            (FramePlace::Handed, census.handed),
            (FramePlace::Tx, census.tx),
        ] {
            work.frames[place as usize].set(count.into());
        }
    }
}
