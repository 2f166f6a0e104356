//! Ageing by a clock hand: a few entries per burst, the whole table within a bounded time.

use crate::flow_table::embryonic::NOWHERE;
use crate::flow_table::table::{FLOW_MAP_CHANGES_MAX, FlowId, TABLE_FULL, cause_of};
use crate::flow_table::{FlowEntry, FlowTable, NewFlow};
use crate::stats::FlowEnd;
use crate::types::Time;
use crate::verdict::{DropReason, Verdict};

/// One round of the hand over the used part of the table. An idle flow lives at most this much
/// longer than its time; shorter costs more cache misses per burst.
const ROUND_MS: u64 = 5_000;

/// Entries looked at per call, at most: bounds the longest call to tens of microseconds.
const STEP_MAX: u64 = 1_024;

/// Flows ended per call, at most: leaves room in the burst's changes for the pipeline.
const ENDED_MAX: usize = FLOW_MAP_CHANGES_MAX / 4;

/// What a flow lives on after a reset that is not believed: as a closed connection rests.
const DOUBTED_MS: u32 = 120_000;

/// Entries looked at for one to evict. Under a SYN flood most are embryonic, so the first few
/// suffice; where none of these may go, the new flow is refused.
const EVICT_SCAN: u32 = 64;

impl FlowTable {
    /// Moves the hand as far as time has passed and ends what is idle. To be called once per round
    /// of the worker's loop, before the burst. What the limits of one call leave undone stays due.
    pub fn expire(&mut self, now: Time) {
        let now_ms = now.as_millis_wrapping();
        self.note_elapsed(now_ms);
        let steps = self.hand_due.div_ceil(ROUND_MS).min(STEP_MAX);
        let mut ended = 0;
        for _ in 0..steps {
            self.hand_due = self.hand_due.saturating_sub(ROUND_MS);
            let flow = self.advance_hand();
            if self.is_idle(flow, now_ms) && self.end_idle(flow) {
                ended += 1;
            }
            if ended == ENDED_MAX {
                return;
            }
        }
    }

    /// Whether entries are still to be looked at by the time of the last [`FlowTable::expire`]: a
    /// worker that has nothing else to do goes on instead of sleeping.
    pub fn is_behind(&self) -> bool {
        self.hand_due > 0
    }

    /// One whole round at most is due: after a longer pause, each entry needs one look.
    fn note_elapsed(&mut self, now_ms: u32) {
        let elapsed = u64::from(now_ms.wrapping_sub(self.hand_moved_ms));
        self.hand_moved_ms = now_ms;
        let entries = u64::from(self.high_water);
        self.hand_due = (self.hand_due + entries * elapsed).min(entries * ROUND_MS);
    }

    fn advance_hand(&mut self) -> FlowId {
        let here = if self.hand >= self.high_water { 0 } else { self.hand };
        self.hand = here + 1;
        FlowId(here)
    }

    /// Whether a flow has run out of time.
    pub(super) fn is_idle(&self, flow: FlowId, now_ms: u32) -> bool {
        let is_over = |e: &FlowEntry| e.is_live && e.idle_ms(now_ms) > self.timeouts.of(e.state);
        self.entry(flow).is_some_and(is_over)
    }

    /// Gives a flow little time, from its last packet on: it may have ended, or somebody who is
    /// none of its ends wanted that. Its next packet shows, and gives it its whole time back; a
    /// host that doubts such a reset too makes its peer send one (RFC 5961 section 3.2).
    #[cold]
    pub fn doubt(&mut self, flow: FlowId) {
        let Some(entry) = self.entries.get_mut(flow.0 as usize) else { return };
        let passed = self.timeouts.of(entry.state).saturating_sub(DOUBTED_MS);
        entry.last_seen_ms = entry.last_seen_ms.wrapping_sub(passed);
    }

    fn end_idle(&mut self, flow: FlowId) -> bool {
        let cause = self.entry(flow).map_or(FlowEnd::Idle, |e| cause_of(e.state));
        self.end(flow, cause)
    }

    /// Ends what is in a new flow's way: the holder of its source port, and the oldest handshake if
    /// it is one itself and as many are under way as may be. Where that is not enough, it ends
    /// nothing.
    pub(super) fn make_way(&mut self, flow: &NewFlow) -> Result<(), Verdict> {
        let holder = flow.instead_of.and_then(|holder| self.entry(holder));
        let gives_place = holder.is_some_and(|entry| entry.handshake != NOWHERE);
        let needs_place = flow.state.is_handshake() && self.handshakes.is_full() && !gives_place;
        if needs_place && !self.evict_oldest(flow.now_ms) {
            return Err(Verdict::Drop(DropReason::EmbryonicFlowsFull));
        }
        match flow.instead_of {
            Some(holder) if !self.end(holder, FlowEnd::Evicted) => Err(TABLE_FULL),
            _ => Ok(()),
        }
    }

    /// Ends one flow that nobody relies on: an embryonic one, or one that has run out of time.
    /// None that a packet of this very moment belongs to.
    pub(super) fn evict_one(&mut self, now_ms: u32) {
        for _ in 0..EVICT_SCAN {
            let flow = self.advance_hand();
            if self.is_idle(flow, now_ms) {
                if self.end_idle(flow) {
                    return;
                }
            } else if self.is_evictable(flow, now_ms) && self.end(flow, FlowEnd::Evicted) {
                return;
            }
        }
    }

    /// Ends the handshake that has been under way the longest; none that a packet of this very
    /// moment belongs to. An established flow is never in the list. False where none may go.
    #[cold]
    pub(super) fn evict_oldest(&mut self, now_ms: u32) -> bool {
        let oldest = self.handshakes.oldest_first().take(EVICT_SCAN as usize).map(FlowId);
        let found = { oldest }.find(|flow| self.is_evictable(*flow, now_ms));
        found.is_some_and(|flow| self.end(flow, FlowEnd::Evicted))
    }

    fn is_evictable(&self, flow: FlowId, now_ms: u32) -> bool {
        let may_go =
            |e: &FlowEntry| e.is_live && e.state.is_embryonic() && e.last_seen_ms != now_ms;
        self.entry(flow).is_some_and(may_go)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::engine::FlowTimeouts;
    use crate::flow_table::{
        FlowKind, FlowState, FlowTableConfig, HashKey, OwnerDirectory, SourcePorts,
    };
    use crate::types::{
        BackendSlot, FlowKey, InterfaceSlot, IpAddress, L4Port, MacAddress, NextHopId, PortRange,
        Protocol, ServiceId, WorkerId,
    };
    use std::sync::Arc;

    pub(in super::super) const BACKEND: (IpAddress, L4Port) =
        (IpAddress::v4([10, 244, 0, 1]), L4Port::new(5000));
    pub(in super::super) const NODE: IpAddress = IpAddress::v4([10, 2, 0, 1]);

    /// A table with the source ports 15000 to 15003.
    pub(in super::super) fn table(flows_max: u32) -> FlowTable {
        let ports = PortRange::new_checked(15_000, 15_003).unwrap();
        FlowTable::new(config(flows_max, ports.into()), Arc::default(), None)
    }

    /// The same with room for fewer handshakes.
    fn table_with(flows_max: u32, embryonic_max: u32) -> FlowTable {
        let ports = PortRange::new_checked(15_000, 15_003).unwrap();
        let config = FlowTableConfig { embryonic_max, ..config(flows_max, ports.into()) };
        FlowTable::new(config, Arc::default(), None)
    }

    /// A worker's table for 64 flows.
    pub(in super::super) fn table_of(
        worker: WorkerId,
        source_ports: SourcePorts,
        directory: Option<Arc<OwnerDirectory>>,
    ) -> FlowTable {
        let config = FlowTableConfig { worker, ..config(64, source_ports) };
        FlowTable::new(config, Arc::default(), directory)
    }

    pub(in super::super) fn config(flows_max: u32, source_ports: SourcePorts) -> FlowTableConfig {
        FlowTableConfig {
            worker: WorkerId(0),
            flows_max,
            embryonic_max: flows_max,
            hash_key: HashKey::new([!0 / 3, !0 / 5, !0 / 7, !0 / 11]),
            timeouts: FlowTimeouts::default(),
            source_ports,
            seed: 7,
        }
    }

    /// Begins the flow of client `number` whose replies have this tuple.
    pub(in super::super) fn begin(
        flows: &mut FlowTable,
        (number, reply): (u16, FlowKey),
        state: FlowState,
        now_ms: u32,
    ) -> Result<FlowId, Verdict> {
        clear(flows);
        flows.begin(&new_flow((number, reply), state, now_ms))
    }

    /// The flow that [`begin`] begins.
    pub(in super::super) fn new_flow(
        (number, reply): (u16, FlowKey),
        state: FlowState,
        now_ms: u32,
    ) -> NewFlow {
        let client = (IpAddress::v4([10, 1, 0, 1]), L4Port::new(number));
        NewFlow {
            forward: FlowKey::new(reply.protocol, client, (NODE, L4Port::new(30_080))),
            reply,
            next_hop: NextHopId(0),
            service: ServiceId(1),
            backend: BackendSlot(1),
            client_interface: InterfaceSlot(1),
            client_mac: MacAddress([2; 6]),
            state,
            kind: FlowKind::Plain,
            version: 1,
            now_ms,
            instead_of: None,
        }
    }

    fn clear(flows: &mut FlowTable) {
        flows.changes_mut().begun.clear();
        flows.changes_mut().removed.clear();
    }

    fn fill(flows: &mut FlowTable, count: u16, state: FlowState) {
        for number in 1..=count {
            let reply = FlowKey::new(Protocol::Tcp, BACKEND, (NODE, L4Port::new(number)));
            begin(flows, (number, reply), state, 0).unwrap();
        }
    }

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn what_one_call_leaves_undone_stays_due() {
        let mut flows = table(4096);
        fill(&mut flows, 3000, FlowState::SynSent);
        clear(&mut flows);
        flows.expire(at(200));
        assert_eq!(flows.len(), 3000 - ENDED_MAX);
        // No further time passes.
        let mut calls = 1;
        while flows.is_behind() {
            clear(&mut flows);
            flows.expire(at(200));
            calls += 1;
            assert!(calls <= 3000 / ENDED_MAX + 1, "more than one round was due");
        }
        assert_eq!(flows.len(), 0);
    }

    #[test]
    fn a_round_over_live_entries_takes_as_many_calls_as_it_needs_and_no_more() {
        let mut flows = table(4096);
        fill(&mut flows, 3000, FlowState::Established);
        let calls = (1..10).find(|_| {
            flows.expire(at(200));
            !flows.is_behind()
        });
        assert_eq!((calls, flows.len()), (Some(3), 3000));
    }

    #[test]
    fn a_full_table_gives_up_what_has_run_out_of_time_but_not_what_lives() {
        let mut flows = table(2);
        fill(&mut flows, 2, FlowState::Established);
        let reply = FlowKey::new(Protocol::Tcp, BACKEND, (NODE, L4Port::new(9)));
        let day_ms = 86_400_000;
        let refused = begin(&mut flows, (9, reply), FlowState::SynSent, day_ms);
        assert!(refused.is_err());
        begin(&mut flows, (9, reply), FlowState::SynSent, day_ms + 1).unwrap();
        let ended = &flows.counters().work.flows_ended;
        assert_eq!(ended[FlowEnd::Idle as usize].get(), 1);
    }

    fn reply(number: u16) -> FlowKey {
        FlowKey::new(Protocol::Tcp, BACKEND, (NODE, L4Port::new(number)))
    }

    fn is_there(flows: &FlowTable, number: u16) -> bool {
        flows.find(&reply(number), flows.hash(&reply(number))).is_some()
    }

    #[test]
    fn at_the_limit_of_handshakes_the_oldest_gives_way_and_never_an_established_flow() {
        let mut flows = table_with(64, 3);
        begin(&mut flows, (1, reply(1)), FlowState::Established, 0).unwrap();
        for (number, state) in [(2, FlowState::SynSent), (3, FlowState::SynSent2)] {
            begin(&mut flows, (number, reply(number)), state, 0).unwrap();
        }
        let settled = begin(&mut flows, (4, reply(4)), FlowState::SynRecv, 0).unwrap();
        flows.entry_mut(settled).unwrap().state = FlowState::Established;
        flows.settle(settled);
        assert_eq!(flows.embryonic(), 2);
        for number in 5..60 {
            begin(&mut flows, (number, reply(number)), FlowState::SynSent, 1 + u32::from(number))
                .unwrap();
        }
        assert_eq!((flows.len(), flows.embryonic()), (5, 3));
        for (number, expected) in [(1, true), (2, false), (4, true), (56, false), (57, true)] {
            assert_eq!(is_there(&flows, number), expected, "{number}");
        }
        assert_eq!(flows.counters().work.embryonic_flows.get(), 3);
    }

    #[test]
    fn handshakes_of_this_very_moment_do_not_give_way() {
        let mut flows = table_with(64, 2);
        for number in 1..=2 {
            begin(&mut flows, (number, reply(number)), FlowState::SynSent, 7).unwrap();
        }
        let refused = begin(&mut flows, (3, reply(3)), FlowState::SynSent, 7);
        assert_eq!(refused, Err(Verdict::Drop(DropReason::EmbryonicFlowsFull)));
        begin(&mut flows, (3, reply(3)), FlowState::SynSent, 8).unwrap();
        assert!(!is_there(&flows, 1) && is_there(&flows, 2));
    }

    #[test]
    fn a_full_table_gives_up_its_oldest_handshake_wherever_the_hand_is() {
        let mut flows = table(200);
        fill(&mut flows, 150, FlowState::Established);
        for number in 151..=200 {
            begin(&mut flows, (number, reply(number)), FlowState::SynSent, number.into()).unwrap();
        }
        for number in 201..=240 {
            begin(&mut flows, (number, reply(number)), FlowState::SynSent, number.into()).unwrap();
            assert!(!is_there(&flows, number - 50), "the oldest");
        }
        assert!((1..=150).all(|number| is_there(&flows, number)));
    }

    #[test]
    fn a_place_is_given_back_when_its_flow_ends() {
        let mut flows = table_with(64, 1);
        for number in 1..=5 {
            let flow = begin(&mut flows, (number, reply(number)), FlowState::SynSent, 0).unwrap();
            assert!(flows.end(flow, FlowEnd::Rst));
        }
        assert_eq!((flows.embryonic(), flows.len()), (0, 0));
    }
}
