//! Source ports for masquerading (T5): a port is free if no live flow of ours has the reply tuple
//! that it would make. So a port is reused across different backends, and rests as long as its
//! last flow's TIME_WAIT entry lives, unless no other is left.
//!
//! Each worker tries its own slice of the range first, where no other is in its way. Where the
//! slice has none free it borrows from the others': the owner directory has every worker's reply
//! tuples, so none is given twice. Nor is a tuple that the host has for a flow of its own
//! (`docs/adr/0005-source-ports.md`).

use crate::flow_table::{FlowId, FlowState, FlowTable};
use crate::types::{FlowKey, IpAddress, L4Port, PortRange, Protocol, Time};

/// Ports tried before the slice counts as used up, and as many again of the whole range: all, where
/// there are no more, else each by chance of its own. Those in use lie in rows, so one after the
/// other would miss what is free behind a row. With 90 % of a slice in use towards one backend the
/// chance to miss a free one is 10^-6.
const TRIES_MAX: u32 = 128;

/// One, in the counter that tells which share of the tries met a port in use.
pub const SHARE_ONE: u64 = 1 << 32;

/// A try counts this much of what the share is made of: it follows the last few hundred tries.
const SHARE_TRIES: u64 = 64;

/// The source ports that a worker may give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourcePorts {
    /// Its own slice, tried first.
    pub own: PortRange,
    /// All workers' slices.
    pub all: PortRange,
}

impl SourcePorts {
    /// Those of worker `index` of `count`; `None` where the range is too small for so many.
    pub fn of_worker(all: PortRange, index: u32, count: u32) -> Option<Self> {
        Some(Self { own: all.slice(index, count)?, all })
    }
}

/// All of a range, for the only worker.
impl From<PortRange> for SourcePorts {
    fn from(all: PortRange) -> Self {
        Self { own: all, all }
    }
}

/// A port in TIME_WAIT is taken back after this time at the earliest: the last segments of the old
/// connection have arrived or are lost. Lower risks that one of them reaches the new connection;
/// higher refuses connections from one node to one backend at a rate that the backend could serve.
const TIME_WAIT_MS_MIN: u32 = 5_000;

/// What a port is wanted for.
#[derive(Debug, Clone, Copy)]
pub struct SnatRequest<'a> {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The chosen backend.
    pub backend: (IpAddress, L4Port),
    /// The node's addresses of which the backend may see any.
    pub addresses: &'a [IpAddress],
    /// The time of the packet.
    pub now: Time,
}

impl SnatRequest<'_> {
    /// How many pairs of address and port there are.
    fn places(&self, range: PortRange) -> u32 {
        let addresses = u32::try_from(self.addresses.len()).unwrap_or(u32::MAX);
        range.count().saturating_mul(addresses)
    }

    /// The reply tuple of a pair, by its number.
    fn reply(&self, range: PortRange, place: u32) -> Option<FlowKey> {
        let addresses = u32::try_from(self.addresses.len()).ok()?;
        let address = *self.addresses.get(place.checked_rem(addresses)? as usize)?;
        let number = u16::try_from(u32::from(range.first()) + place / addresses).ok()?;
        Some(FlowKey::new(self.protocol, self.backend, (address, L4Port::new(number))))
    }
}

/// A source port for a new flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnatPort {
    /// The reply tuple that it makes.
    pub reply: FlowKey,
    /// The flow that has it so far, to be given with the new one as [`NewFlow::instead_of`].
    ///
    /// [`NewFlow::instead_of`]: crate::flow_table::NewFlow::instead_of
    pub instead_of: Option<FlowId>,
}

/// How little a holder needs its port: first how far its flow is, then how long it is idle.
type Dispensability = (Stage, u32);

/// In the order in which flows keep their ports.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    /// Its backend has answered: a client is most likely there.
    Answered,
    /// Nobody has answered.
    Asked,
    /// Over.
    Over,
}

/// The flow so far that needs its port least.
type Holder = Option<(Dispensability, FlowId, FlowKey)>;

impl FlowTable {
    /// The reply tuple with a free port of this worker's slice, else of the others'. Where none is
    /// free, the port of our flow that needs it least; that flow ends when the new one begins.
    /// `None` where every holder needs its own.
    ///
    /// Why a port in TIME_WAIT may be taken, as the last resort: the backend, if it is the side
    /// that waits, takes a SYN with a later sequence number or timestamp for a new connection
    /// (RFC 6191, RFC 1122 section 4.2.2.13; Linux `tcp_timewait_state_process`). If the numbers
    /// forbid it, it answers with an ACK, the client resets what it does not know, and its next SYN
    /// succeeds.
    pub fn find_snat(&mut self, request: &SnatRequest<'_>) -> Option<SnatPort> {
        let SourcePorts { own, all } = self.config.source_ports;
        let mut holder = None;
        let free = self.try_ports(own, request, &mut holder);
        let is_alone = own == all;
        let borrow = || (!is_alone).then(|| self.try_ports(all, request, &mut holder)).flatten();
        if let Some(reply) = free.or_else(borrow) {
            return Some(SnatPort { reply, instead_of: None });
        }
        let (_, holder, reply) = holder?;
        Some(SnatPort { reply, instead_of: Some(holder) })
    }

    fn try_ports(
        &mut self,
        range: PortRange,
        request: &SnatRequest<'_>,
        best: &mut Holder,
    ) -> Option<FlowKey> {
        let now_ms = request.now.as_millis_wrapping();
        let places = Some(request.places(range)).filter(|places| *places > 0)?;
        let start = self.random.below(places);
        for step in 0..TRIES_MAX.min(places) {
            let place = match places {
                ..=TRIES_MAX => (start + step) % places,
                _ => self.random.below(places),
            };
            let reply = request.reply(range, place)?;
            let hash = self.hash(&reply);
            let holder = self.find(&reply, hash).map(|(holder, _)| holder);
            let is_hosts = || self.host_flows.as_ref().is_some_and(|h| h.has(&reply, request.now));
            let is_free = holder.is_none() && self.other_owner(hash).is_none() && !is_hosts();
            self.note_try(is_free);
            if is_free {
                return Some(reply);
            }
            let rank = holder.and_then(|holder| self.dispensability(holder, now_ms));
            if rank > best.map(|(rank, ..)| rank) {
                *best = rank.zip(holder).map(|(rank, holder)| (rank, holder, reply));
            }
        }
        None
    }

    fn note_try(&self, is_free: bool) {
        let share = &self.counters.work.snat_ports_share;
        let (before, met) = (share.get(), if is_free { 0 } else { SHARE_ONE });
        share.set(before - before / SHARE_TRIES + met / SHARE_TRIES);
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
        let stage = match entry.state {
            _ if is_over => Stage::Over,
            FlowState::SynRecv => Stage::Answered,
            _ => Stage::Asked,
        };
        (may_go && idle_ms > 0).then_some((stage, idle_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow_table::expiry::tests::{
        BACKEND, NODE, begin, config, new_flow, table, table_of,
    };
    use crate::flow_table::{Direction, FlowTableConfig, NewFlow, OwnerDirectory};
    use crate::host_flows::{HOST_SLOTS, HostFlows};
    use crate::stats::FlowEnd;
    use crate::types::WorkerId;
    use crate::verdict::{DropReason, Verdict};
    use core::sync::atomic::AtomicU64;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    const PORTS: u16 = 4;

    /// So many ports from 15000 on.
    fn range(count: u16) -> PortRange {
        PortRange::new_checked(15_000, 14_999 + count).unwrap()
    }

    fn find(flows: &mut FlowTable, now_ms: u32) -> Option<FlowKey> {
        flows.forgotten();
        find_of(flows, &[NODE], now_ms)
    }

    fn find_of(flows: &mut FlowTable, addresses: &[IpAddress], now_ms: u32) -> Option<FlowKey> {
        let port = ask(flows, addresses, now_ms)?;
        assert!(port.instead_of.is_none_or(|holder| flows.end(holder, FlowEnd::Evicted)));
        Some(port.reply)
    }

    fn ask(flows: &mut FlowTable, addresses: &[IpAddress], now_ms: u32) -> Option<SnatPort> {
        let protocol = Protocol::Tcp;
        let now = Time(u64::from(now_ms) * 1_000_000);
        flows.find_snat(&SnatRequest { protocol, backend: BACKEND, addresses, now })
    }

    fn share(flows: &FlowTable) -> u64 {
        flows.counters().work.snat_ports_share.get()
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
    fn what_was_answered_goes_last() {
        use FlowState::{SynRecv, SynSent};
        let mut flows = used_up([SynRecv, SynRecv, SynSent, SynRecv]);
        let asked = flows.scan(0, 8).0.find(|entry| entry.state == SynSent);
        let asked = asked.map(|entry| entry.key(Direction::Reply));
        assert_eq!(find(&mut flows, 10), asked);
        assert!(find(&mut flows, 10).is_some(), "none of the rest is established");
    }

    #[test]
    fn who_takes_a_tuple_of_his_own_back_in_the_same_burst_keeps_it() {
        let [mut one, mut other] = workers();
        let reply = find(&mut one, 0).unwrap();
        let flow = begin(&mut one, (1, reply), FlowState::Established, 0).unwrap();
        assert!(one.end(flow, FlowEnd::Fin));
        begin(&mut one, (1, reply), FlowState::Established, 0).unwrap();
        one.forgotten();
        let given = (2..5).map(|number| {
            let reply = find(&mut other, 0).unwrap();
            begin(&mut other, (number, reply), FlowState::Established, 0).unwrap();
            reply
        });
        assert!(!given.collect::<Vec<_>>().contains(&reply));
    }

    #[test]
    fn what_is_over_goes_before_what_begins() {
        use FlowState::{Close, Established, SynSent};
        let mut flows = used_up([SynSent, Close, SynSent, Established]);
        let closed = flows.scan(0, 64).0.find(|e| e.state == Close).copied().unwrap();
        let reply = find(&mut flows, 1).unwrap();
        assert_eq!(reply, closed.key(Direction::Reply));
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

    /// Two workers with two ports each.
    fn workers() -> [FlowTable; 2] {
        let directory = Arc::new(OwnerDirectory::with_capacity(64));
        let all = PortRange::new_checked(15_000, 15_003).unwrap();
        [0, 1].map(|number| {
            let own = SourcePorts::of_worker(all, u32::from(number), 2).unwrap();
            table_of(WorkerId(number), own, Some(Arc::clone(&directory)))
        })
    }

    #[test]
    fn a_worker_that_has_all_the_load_gets_all_the_ports_its_own_first() {
        let [mut busy, mut other] = workers();
        let mut given = Vec::new();
        for number in 1..=4 {
            let reply = find(&mut busy, 0).unwrap();
            begin(&mut busy, (number, reply), FlowState::Established, 0).unwrap();
            given.push(reply.dst_port.number());
        }
        given[..2].sort_unstable();
        given[2..].sort_unstable();
        assert_eq!(given, [15_000, 15_001, 15_002, 15_003]);
        assert_eq!(find(&mut busy, 0), None);
        assert_eq!(find(&mut other, 0), None, "its slice is lent");
    }

    #[test]
    fn what_another_worker_has_is_not_taken_and_returns_with_its_flow() {
        let [mut busy, mut other] = workers();
        let mut flows = [1, 2, 3].map(|number| {
            let reply = find(&mut busy, 0).unwrap();
            (reply, begin(&mut busy, (number, reply), FlowState::Established, 0).unwrap())
        });
        let last = find(&mut other, 0).unwrap();
        assert!(flows.iter().all(|(reply, _)| *reply != last));
        begin(&mut other, (9, last), FlowState::Established, 0).unwrap();
        assert_eq!(find(&mut other, 0), None);
        flows.sort_by_key(|(reply, _)| reply.dst_port);
        let (lent, flow) = flows[2];
        assert!(busy.end(flow, FlowEnd::Fin));
        assert_eq!(find(&mut other, 0), None, "the flow map has the entry still");
        busy.forgotten();
        assert_eq!(find(&mut other, 0), Some(lent));
    }

    #[test]
    fn several_addresses_have_the_ports_several_times() {
        let addresses = [NODE, IpAddress::v4([10, 2, 0, 9]), IpAddress::v4([10, 2, 0, 8])];
        let mut flows = table(64);
        let mut given = BTreeSet::new();
        for number in 1..=12 {
            let reply = find_of(&mut flows, &addresses, 0).unwrap();
            begin(&mut flows, (number, reply), FlowState::Established, 0).unwrap();
            assert!(given.insert((reply.dst, reply.dst_port)), "given twice: {reply:?}");
        }
        assert_eq!(find_of(&mut flows, &addresses, 0), None);
        assert!(addresses.iter().all(|a| given.iter().filter(|(of, _)| of == a).count() == 4));
    }

    #[test]
    fn what_the_host_itself_has_is_passed_over_until_it_rests_no_more() {
        let marks: Vec<AtomicU64> = (0..HOST_SLOTS).map(|_| AtomicU64::new(0)).collect();
        let host = HostFlows::new(Arc::new(marks));
        let mut flows = table(64).beside(Some(host.clone()));
        for number in 1..=3 {
            let reply = find(&mut flows, 0).unwrap();
            begin(&mut flows, (number, reply), FlowState::Established, 0).unwrap();
        }
        let last = find(&mut flows, 0).unwrap();
        host.set(&last, Time(100_000_000_000));
        assert_eq!(find(&mut flows, 99_999), None);
        assert_eq!(find(&mut flows, 100_000), Some(last));
    }

    #[test]
    fn who_gives_up_its_port_ends_when_the_new_flow_begins_and_not_before() {
        let mut flows = used_up([FlowState::TimeWait; 4]);
        let now_ms = TIME_WAIT_MS_MIN;
        let port = ask(&mut flows, &[NODE], now_ms).unwrap();
        let flow = new_flow((9, port.reply), FlowState::SynSent, now_ms);
        let flow = NewFlow { instead_of: port.instead_of, ..flow };
        let begun = &mut flows.changes_mut().begun;
        while begun.try_push((port.reply, FlowId(63))).is_ok() {}
        assert_eq!(flows.begin(&flow), Err(Verdict::Drop(DropReason::FlowTableFull)));
        assert_eq!((flows.len(), evicted(&flows)), (4, 0));
        flows.changes_mut().begun.clear();
        flows.begin(&flow).unwrap();
        assert_eq!((flows.len(), evicted(&flows)), (4, 1));
        assert_eq!(flows.changes_mut().removed[..], [port.reply], "the kernel must forget it");
        assert!(flows.changes_mut().begun.iter().any(|(reply, _)| *reply == port.reply));
    }

    /// The place of one is the place of the other: no third has to go.
    #[test]
    fn a_handshake_that_gives_up_its_port_gives_up_its_place_too() {
        let config = FlowTableConfig { embryonic_max: 4, ..config(64, range(PORTS).into()) };
        let mut flows = FlowTable::new(config, Arc::default(), None);
        for number in 1..=4 {
            let reply = find(&mut flows, 0).unwrap();
            begin(&mut flows, (number, reply), FlowState::SynSent, number.into()).unwrap();
        }
        let port = ask(&mut flows, &[NODE], 10).unwrap();
        let flow = new_flow((9, port.reply), FlowState::SynSent, 10);
        flows.begin(&NewFlow { instead_of: port.instead_of, ..flow }).unwrap();
        assert_eq!((flows.len(), flows.embryonic(), evicted(&flows)), (4, 4, 1));
    }

    /// As it is after a burst of connections: a walk port by port would begin within the row.
    #[test]
    fn a_free_port_is_found_behind_a_long_row_of_used_ones() {
        let marks: Vec<AtomicU64> = (0..HOST_SLOTS).map(|_| AtomicU64::new(0)).collect();
        let host = HostFlows::new(Arc::new(marks));
        let mut flows = table_of(WorkerId(0), range(1_000).into(), None).beside(Some(host.clone()));
        for number in 15_000..15_900 {
            let to = (NODE, L4Port::new(number));
            host.set(&FlowKey::new(Protocol::Tcp, BACKEND, to), Time(100_000_000_000));
        }
        for _ in 0..200 {
            assert!(find(&mut flows, 0).is_some_and(|reply| reply.dst_port.number() >= 15_900));
        }
    }

    #[test]
    fn the_share_tells_how_near_the_end_is() {
        let mut flows = table(64);
        assert!((1..100).all(|_| find(&mut flows, 0).is_some()));
        assert_eq!(share(&flows), 0);
        let mut flows = used_up([FlowState::Established; 4]);
        assert!((1..200).all(|_| find(&mut flows, 0).is_none()));
        assert!(share(&flows) > SHARE_ONE / 100 * 99 && share(&flows) <= SHARE_ONE);
    }
}
