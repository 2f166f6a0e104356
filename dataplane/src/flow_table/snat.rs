//! Source ports for masquerading (T5): a port is free if no live flow of ours has the reply tuple
//! that it would make. So a port is reused across different backends, and rests as long as its
//! last flow's TIME_WAIT entry lives, unless no other is left.

use crate::flow_table::{FlowId, FlowState, FlowTable};
use crate::stats::FlowEnd;
use crate::types::{FlowKey, IpAddress, L4Port, Protocol};

/// Ports tried, from a random one on, before the slice counts as used up. With 90 % of a slice in
/// use towards one backend the chance to miss a free one is 10^-6.
const TRIES_MAX: u32 = 128;

/// A port in TIME_WAIT is taken back after this time at the earliest: the last segments of the old
/// connection have arrived or are lost. Lower risks that one of them reaches the new connection;
/// higher refuses connections from one node to one backend at a rate that the backend could serve.
const TIME_WAIT_MS_MIN: u32 = 5_000;

/// What a port is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct SnatRequest {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The chosen backend.
    pub backend: (IpAddress, L4Port),
    /// The node's address that the backend will see.
    pub address: IpAddress,
    /// Milliseconds, wrapping.
    pub now_ms: u32,
}

/// How little a holder needs its port: first whether its flow is over, then how long it is idle.
type Dispensability = (bool, u32);

impl FlowTable {
    /// The reply tuple with a free port of this worker's slice. Where none is free, the port of the
    /// flow that needs it least; that flow ends. `None` where every holder needs its own.
    ///
    /// Why a port in TIME_WAIT may be taken, as the last resort: the backend, if it is the side
    /// that waits, takes a SYN with a later sequence number or timestamp for a new connection
    /// (RFC 6191, RFC 1122 section 4.2.2.13; Linux `tcp_timewait_state_process`). If the numbers
    /// forbid it, it answers with an ACK, the client resets what it does not know, and its next SYN
    /// succeeds.
    pub fn find_snat(&mut self, request: &SnatRequest) -> Option<FlowKey> {
        let range = self.config.source_ports;
        let start = self.random.below(range.count());
        let mut best: Option<(Dispensability, FlowId, FlowKey)> = None;
        for step in 0..TRIES_MAX.min(range.count()) {
            let offset = (start + step) % range.count();
            let number = u16::try_from(u32::from(range.first()) + offset).ok()?;
            let destination = (request.address, L4Port::new(number));
            let reply = FlowKey::new(request.protocol, request.backend, destination);
            let Some((holder, _)) = self.find(&reply, self.hash(&reply)) else {
                return Some(reply);
            };
            let rank = self.dispensability(holder, request.now_ms);
            if rank > best.map(|(rank, ..)| rank) {
                best = rank.map(|rank| (rank, holder, reply));
            }
        }
        let (_, holder, reply) = best?;
        self.end(holder, FlowEnd::Evicted).then_some(reply)
    }

    /// `None` where the flow keeps its port: it lives, or a packet of this very moment belongs to
    /// it.
    fn dispensability(&self, holder: FlowId, now_ms: u32) -> Option<Dispensability> {
        let entry = self.entry(holder)?;
        let idle_ms = entry.idle_ms(now_ms);
        let has_rested = match entry.state {
            FlowState::Close => true,
            FlowState::TimeWait => idle_ms >= TIME_WAIT_MS_MIN,
            _ => false,
        };
        let is_over = has_rested || self.is_idle(holder, now_ms);
        let may_go = is_over || entry.state.is_embryonic();
        (may_go && idle_ms > 0).then_some((is_over, idle_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_table::expiry::tests::{BACKEND, NODE, begin, table};

    const PORTS: u16 = 4;

    fn find(flows: &mut FlowTable, now_ms: u32) -> Option<FlowKey> {
        flows.changes_mut().removed.clear();
        let protocol = Protocol::Tcp;
        flows.find_snat(&SnatRequest { protocol, backend: BACKEND, address: NODE, now_ms })
    }

    /// A table whose every port has a flow in one of these states.
    fn used_up(states: [FlowState; PORTS as usize]) -> FlowTable {
        let mut flows = table(64);
        for (number, state) in (1..).zip(states) {
            let reply = find(&mut flows, 0).unwrap();
            begin(&mut flows, (number, reply), state, 0).unwrap();
        }
        flows
    }

    fn evicted(flows: &FlowTable) -> u64 {
        flows.counters().work.flows_ended[FlowEnd::Evicted as usize].get()
    }

    #[test]
    fn live_flows_keep_their_ports() {
        let mut flows = used_up([
            FlowState::Established,
            FlowState::FinWait,
            FlowState::CloseWait,
            FlowState::LastAck,
        ]);
        assert_eq!(find(&mut flows, 20_000), None);
        assert_eq!((flows.len(), evicted(&flows)), (4, 0));
    }

    #[test]
    fn a_port_in_time_wait_is_taken_after_five_seconds_and_its_flow_ends() {
        use FlowState::{Established, TimeWait};
        let mut flows = used_up([Established, Established, TimeWait, Established]);
        assert_eq!(find(&mut flows, TIME_WAIT_MS_MIN - 1), None);
        let reply = find(&mut flows, TIME_WAIT_MS_MIN).unwrap();
        assert_eq!((flows.len(), evicted(&flows)), (3, 1));
        assert_eq!(flows.changes_mut().removed[..], [reply], "the kernel must forget it");
        begin(&mut flows, (9, reply), Established, TIME_WAIT_MS_MIN).unwrap();
        assert_eq!(find(&mut flows, TIME_WAIT_MS_MIN * 2), None);
    }

    #[test]
    fn embryonic_and_closed_flows_give_way_but_not_in_the_very_moment_that_they_begin() {
        for state in [FlowState::SynSent, FlowState::Close] {
            let mut flows = used_up([state; 4]);
            assert_eq!(find(&mut flows, 0), None);
            assert!(find(&mut flows, 1).is_some());
            assert_eq!((flows.len(), evicted(&flows)), (3, 1));
        }
    }

    #[test]
    fn what_is_over_goes_before_what_begins() {
        use FlowState::{Close, Established, SynSent};
        let mut flows = used_up([SynSent, Close, SynSent, Established]);
        let closed = flows.scan(0, 64).0.find(|e| e.state == Close).copied().unwrap();
        let reply = find(&mut flows, 1).unwrap();
        assert_eq!(reply, closed.key(crate::flow_table::Direction::Reply));
    }

    #[test]
    fn many_short_connections_share_few_ports() {
        let mut flows = used_up([FlowState::TimeWait; 4]);
        for number in 10..100u16 {
            let now_ms = u32::from(number) * TIME_WAIT_MS_MIN;
            let reply = find(&mut flows, now_ms).unwrap();
            begin(&mut flows, (number, reply), FlowState::TimeWait, now_ms).unwrap();
        }
        assert_eq!((flows.len(), evicted(&flows)), (4, 90));
    }
}
