//! Ageing by a clock hand: a few entries per burst, the whole table within a bounded time.

use crate::flow_table::table::{FLOW_MAP_CHANGES_MAX, FlowId, cause_of};
use crate::flow_table::{FlowEntry, FlowTable};
use crate::stats::FlowEnd;
use crate::types::Time;

/// One round of the hand over the used part of the table. An idle flow lives at most this much
/// longer than its time; shorter costs more cache misses per burst.
const ROUND_MS: u64 = 5_000;

/// Entries looked at per call, at most: bounds the longest call to tens of microseconds.
const STEP_MAX: u64 = 1_024;

/// Flows ended per call, at most: leaves room in the burst's changes for the pipeline.
const ENDED_MAX: usize = FLOW_MAP_CHANGES_MAX / 4;

/// Entries looked at for one to evict. Under a SYN flood most are embryonic, so the first few
/// suffice; where none of these is, the new flow is refused.
const EVICT_SCAN: u32 = 64;

impl FlowTable {
    /// Moves the hand as far as time has passed and ends what is idle. To be called once per round
    /// of the worker's loop, before the burst.
    pub fn expire(&mut self, now: Time) {
        let now_ms = now.as_millis_wrapping();
        let elapsed = u64::from(now_ms.wrapping_sub(self.hand_moved_ms));
        let steps = (u64::from(self.high_water) * elapsed).div_ceil(ROUND_MS).min(STEP_MAX);
        if elapsed == 0 || steps == 0 {
            return;
        }
        self.hand_moved_ms = now_ms;
        let mut ended = 0;
        for _ in 0..steps {
            let flow = self.advance_hand();
            if self.is_idle(flow, now_ms) && self.end_idle(flow) {
                ended += 1;
            }
            if ended == ENDED_MAX {
                return;
            }
        }
    }

    fn advance_hand(&mut self) -> FlowId {
        let here = if self.hand >= self.high_water { 0 } else { self.hand };
        self.hand = here + 1;
        FlowId(here)
    }

    fn is_idle(&self, flow: FlowId, now_ms: u32) -> bool {
        let is_over = |e: &FlowEntry| e.is_live && e.idle_ms(now_ms) > self.timeouts.of(e.state);
        self.entry(flow).is_some_and(is_over)
    }

    fn end_idle(&mut self, flow: FlowId) -> bool {
        let cause = self.entry(flow).map_or(FlowEnd::Idle, |e| cause_of(e.state));
        self.end(flow, cause)
    }

    /// Ends one embryonic flow that no packet of this very moment belongs to.
    pub(super) fn evict_embryonic(&mut self, now_ms: u32) {
        for _ in 0..EVICT_SCAN {
            let flow = self.advance_hand();
            let may_go =
                |e: &FlowEntry| e.is_live && e.state.is_embryonic() && e.last_seen_ms != now_ms;
            if self.entry(flow).is_some_and(may_go) && self.end(flow, FlowEnd::Evicted) {
                return;
            }
        }
    }
}
