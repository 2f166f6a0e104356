//! The table itself: find, begin, end.

use crate::engine::FlowTimeouts;
use crate::flow_table::embryonic::{Handshakes, NOWHERE};
use crate::flow_table::index::{Index, Reference};
use crate::flow_table::{
    Direction, FlowEntry, FlowState, HashKey, NewFlow, OwnerDirectory, SourcePorts, TimeoutTable,
};
use crate::host_flows::HostFlows;
use crate::memory;
use crate::random::Random;
use crate::stats::{FlowEnd, WorkerCounters};
use crate::types::{FlowKey, Time, WorkerId};
use crate::verdict::{DropReason, Verdict};
use arrayvec::ArrayVec;
use std::sync::Arc;

pub(super) const TABLE_FULL: Verdict = Verdict::Drop(DropReason::FlowTableFull);

/// Number of a flow within its worker's table. Valid until the flow ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowId(pub(crate) u32);

/// Changes that the XDP program's flow map must learn of before the burst's packets leave.
/// Removals come first: a reply tuple may end and begin anew within one burst.
#[derive(Debug, Default)]
pub struct FlowMapChanges {
    /// Reply tuples of flows that ended.
    pub removed: ArrayVec<FlowKey, FLOW_MAP_CHANGES_MAX>,
    /// Reply tuples of flows that began, with their flows.
    pub begun: ArrayVec<(FlowKey, FlowId), FLOW_MAP_CHANGES_MAX>,
}

/// Changes per burst: 64 packets can begin 64 flows and evict as many; the rest is for ageing.
pub const FLOW_MAP_CHANGES_MAX: usize = 256;

/// What a table is made of.
#[derive(Debug, Clone)]
pub struct FlowTableConfig {
    /// The worker that owns it.
    pub worker: WorkerId,
    /// Flows it can hold.
    pub flows_max: u32,
    /// TCP handshakes under way that it can hold, at least one. Beyond it the oldest gives way.
    pub embryonic_max: u32,
    /// The secret that all workers share.
    pub hash_key: HashKey,
    /// Idle times.
    pub timeouts: FlowTimeouts,
    /// The source ports that it may give.
    pub source_ports: SourcePorts,
    /// Seed of the table's own random numbers.
    pub seed: u64,
}

/// The live flows of one worker.
#[derive(Debug)]
pub struct FlowTable {
    pub(super) config: FlowTableConfig,
    pub(super) timeouts: TimeoutTable,
    index: Index,
    pub(super) entries: Box<[FlowEntry]>,
    free: Vec<u32>,
    pub(super) handshakes: Handshakes,
    /// Entries at and above this number were never used: ageing need not look at them.
    pub(super) high_water: u32,
    pub(super) hand: u32,
    pub(super) hand_moved_ms: u32,
    /// Work of the hand that time has made due: entries times milliseconds of a round.
    pub(super) hand_due: u64,
    pub(super) random: Random,
    pub(super) counters: Arc<WorkerCounters>,
    directory: Option<Arc<OwnerDirectory>>,
    pub(super) host_flows: Option<HostFlows>,
    changes: FlowMapChanges,
}

impl FlowTable {
    /// An empty table; allocates all that it ever will. `directory` is needed only where there
    /// are several workers.
    pub fn new(
        config: FlowTableConfig,
        counters: Arc<WorkerCounters>,
        directory: Option<Arc<OwnerDirectory>>,
    ) -> Self {
        let flows_max = config.flows_max.clamp(1, 1 << 30);
        Self {
            timeouts: TimeoutTable::new(&config.timeouts),
            index: Index::with_capacity(flows_max as usize * 2),
            entries: memory::filled(FlowEntry::EMPTY, flows_max as usize),
            free: (0..flows_max).rev().collect(),
            handshakes: Handshakes::with_capacity(config.embryonic_max.min(flows_max)),
            high_water: 0,
            hand: 0,
            hand_moved_ms: 0,
            hand_due: 0,
            random: Random::new(config.seed),
            config,
            counters,
            directory,
            host_flows: None,
            changes: FlowMapChanges::default(),
        }
    }

    /// A table that gives no source port to a backend to which the host itself has it.
    #[must_use]
    pub fn beside(self, host_flows: Option<HostFlows>) -> Self {
        Self { host_flows, ..self }
    }

    /// The worker that owns it.
    pub fn worker(&self) -> WorkerId {
        self.config.worker
    }

    /// The worker's counters.
    #[inline]
    pub fn counters(&self) -> &WorkerCounters {
        &self.counters
    }

    /// Live flows.
    pub fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Bytes that the table takes, however many flows live.
    pub fn bytes(&self) -> usize {
        let entries = size_of_val(&*self.entries) + self.free.capacity() * size_of::<u32>();
        entries + self.index.bytes() + self.handshakes.bytes()
    }

    /// Whether no flow lives.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// TCP handshakes under way.
    #[inline]
    pub fn embryonic(&self) -> u32 {
        self.handshakes.len()
    }

    /// The hash of a tuple.
    #[inline]
    pub fn hash(&self, key: &FlowKey) -> u64 {
        self.config.hash_key.hash(key)
    }

    /// Random numbers, not for secrets.
    pub fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// First half of a lookup's cache misses.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Second half. Returns where the flow probably is, for [`FlowTable::find_at`].
    #[inline]
    pub fn prefetch_entry(&self, key: &FlowKey, hash: u64) -> Option<Reference> {
        let hint = self.index.hint(hash)?;
        let entry = self.entries.get(hint.flow() as usize)?;
        memory::prefetch(entry);
        if !key.src.is_v4() {
            memory::prefetch(entry.second_line());
        }
        Some(hint)
    }

    /// The flow of a packet with this tuple, looked for where [`FlowTable::prefetch_entry`] said.
    #[inline]
    pub fn find_at(
        &self,
        hint: Option<Reference>,
        key: &FlowKey,
        hash: u64,
    ) -> Option<(FlowId, Direction)> {
        if let Some(reference) = hint {
            let entry = self.entries.get(reference.flow() as usize);
            if entry.is_some_and(|e| e.matches(reference.direction(), key)) {
                return Some((FlowId(reference.flow()), reference.direction()));
            }
        }
        // No hint, a wrong one, or a flow that this very burst began or ended.
        self.find(key, hash)
    }

    /// The flow of a packet with this tuple, and which way it goes.
    #[inline]
    pub fn find(&self, key: &FlowKey, hash: u64) -> Option<(FlowId, Direction)> {
        let is_match = |reference: Reference| {
            let entry = self.entries.get(reference.flow() as usize);
            entry.is_some_and(|e| e.matches(reference.direction(), key))
        };
        let found = self.index.find(hash, is_match)?;
        Some((FlowId(found.flow()), found.direction()))
    }

    /// The state of a flow.
    #[inline]
    pub fn entry(&self, flow: FlowId) -> Option<&FlowEntry> {
        self.entries.get(flow.0 as usize)
    }

    /// The state of a flow, to change.
    #[inline]
    pub fn entry_mut(&mut self, flow: FlowId) -> Option<&mut FlowEntry> {
        self.entries.get_mut(flow.0 as usize)
    }

    /// The other worker that has the flow of this hash.
    #[inline]
    pub fn other_owner(&self, hash: u64) -> Option<WorkerId> {
        let owner = self.directory.as_ref()?.owner(hash)?;
        (owner != self.config.worker).then_some(owner)
    }

    /// Begins a flow, evicting one that nobody relies on if the table is full; of a handshake, the
    /// oldest other one if as many are under way as may be.
    ///
    /// # Errors
    /// The packet's verdict: dropped where nothing may be evicted or the changes of this burst are
    /// full, handed off where another worker began the same flow just now.
    pub fn begin(&mut self, flow: &NewFlow) -> Result<FlowId, Verdict> {
        if self.changes.begun.is_full() {
            return Err(TABLE_FULL);
        }
        self.make_way(flow)?;
        let number = self.take_free(flow.now_ms).ok_or(TABLE_FULL)?;
        let id = FlowId(number);
        if let Err(verdict) = self.store(id, flow) {
            self.free.push(number);
            return Err(verdict);
        }
        if let Some(entry) = self.entries.get_mut(number as usize) {
            *entry = FlowEntry::new(flow);
            if flow.state.is_handshake() {
                entry.handshake = self.handshakes.push(number);
            }
        }
        self.high_water = self.high_water.max(number + 1);
        // Room was checked above.
        self.changes.begun.try_push((flow.reply, id)).ok();
        self.count_begin(flow);
        Ok(id)
    }

    fn take_free(&mut self, now_ms: u32) -> Option<u32> {
        if self.free.is_empty() && !self.evict_oldest(now_ms) {
            self.evict_one(now_ms);
        }
        self.free.pop()
    }

    /// To be told that a flow's state has changed: a handshake that is over gives up its place.
    #[cold]
    pub fn settle(&mut self, flow: FlowId) {
        let Some(entry) = self.entries.get_mut(flow.0 as usize) else { return };
        if entry.state.is_handshake() || entry.handshake == NOWHERE {
            return;
        }
        let place = core::mem::replace(&mut entry.handshake, NOWHERE);
        self.leave_handshakes(place);
    }

    fn leave_handshakes(&mut self, place: u32) {
        self.handshakes.remove(place);
        self.counters.work.embryonic_flows.set(self.handshakes.len().into());
    }

    /// Puts both keys into index and directory, or neither.
    fn store(&mut self, id: FlowId, flow: &NewFlow) -> Result<(), Verdict> {
        let keys = [(flow.forward, Direction::Forward), (flow.reply, Direction::Reply)];
        for (done, (key, direction)) in keys.iter().enumerate() {
            if let Err(verdict) = self.store_key(id, key, *direction) {
                keys[..done].iter().for_each(|(k, d)| self.remove_key(id, k, *d));
                return Err(verdict);
            }
        }
        Ok(())
    }

    fn store_key(&mut self, id: FlowId, key: &FlowKey, d: Direction) -> Result<(), Verdict> {
        let hash = self.hash(key);
        if let Some(directory) = &self.directory {
            let claim = directory.claim(hash, self.config.worker);
            claim.map_err(|owner| owner.map_or(TABLE_FULL, Verdict::HandOff))?;
        }
        if self.index.insert(hash, Reference::new(id.0, d)) {
            return Ok(());
        }
        self.release(hash);
        Err(TABLE_FULL)
    }

    fn remove_key(&mut self, id: FlowId, key: &FlowKey, direction: Direction) {
        let hash = self.hash(key);
        self.index.remove(hash, Reference::new(id.0, direction));
        self.release(hash);
    }

    fn release(&self, hash: u64) {
        if let Some(directory) = &self.directory {
            directory.release(hash, self.config.worker);
        }
    }

    /// Ends a flow. False if it is not live, or the changes of this burst are full (then it stays).
    pub fn end(&mut self, flow: FlowId, cause: FlowEnd) -> bool {
        let Some(entry) = self.entries.get(flow.0 as usize).filter(|e| e.is_live) else {
            return false;
        };
        if self.changes.removed.is_full() {
            return false;
        }
        let entry = *entry;
        let (forward, reply) = (entry.key(Direction::Forward), entry.key(Direction::Reply));
        self.remove_key(flow, &forward, Direction::Forward);
        // Its claim goes with [`FlowTable::forgotten`].
        self.index.remove(self.hash(&reply), Reference::new(flow.0, Direction::Reply));
        self.entries[flow.0 as usize] = FlowEntry::EMPTY;
        self.free.push(flow.0);
        if entry.handshake != NOWHERE {
            self.leave_handshakes(entry.handshake);
        }
        // The flow map must forget the tuple; if it has not learnt of it yet, it never will.
        self.changes.begun.retain(|(_, id)| *id != flow);
        self.changes.removed.try_push(reply).ok();
        self.count_end(&entry, cause);
        true
    }

    /// The flow map has forgotten what `removed` holds. Not before may another worker take those
    /// tuples, or what it puts there would be removed too.
    pub fn forgotten(&mut self) {
        self.changes.removed.iter().for_each(|reply| self.release(self.hash(reply)));
        self.changes.removed.clear();
    }

    /// What the flow map must learn; the caller applies it once per burst, clears what began, and
    /// calls [`FlowTable::forgotten`].
    pub fn changes_mut(&mut self) -> &mut FlowMapChanges {
        &mut self.changes
    }

    fn count_begin(&self, flow: &NewFlow) {
        let backend = self.counters.backend(flow.backend);
        backend.new_flows.add(1);
        backend.flows.add(1);
        self.counters.work.flows.add(1);
        self.counters.work.embryonic_flows.set(self.handshakes.len().into());
        self.counters.service(flow.service).flows.add(1);
        if flow.reply.dst != flow.forward.src {
            self.counters.work.snat_ports_used.add(1);
        }
    }

    fn count_end(&self, entry: &FlowEntry, cause: FlowEnd) {
        self.counters.backend(entry.backend).flows.sub(1);
        self.counters.work.flows.sub(1);
        self.counters.service(entry.service).flows.sub(1);
        self.counters.work.flows_ended[cause as usize].add(1);
        if entry.is_masqueraded() {
            self.counters.work.snat_ports_used.sub(1);
        }
    }

    /// Live entries from number `from` on, for dumps; at most `limit`, and where to go on.
    pub fn scan(&self, from: u32, limit: usize) -> (impl Iterator<Item = &FlowEntry>, Option<u32>) {
        let end = (u64::from(from) + limit as u64).min(u64::from(self.high_water));
        let end = u32::try_from(end).unwrap_or(u32::MAX);
        let range = self.entries.get(from as usize..end as usize).unwrap_or(&[]);
        let next = (end < self.high_water).then_some(end);
        (range.iter().filter(|e| e.is_live), next)
    }

    /// Milliseconds until a flow expires if no further packet comes.
    pub fn expires_in_ms(&self, entry: &FlowEntry, now: Time) -> u32 {
        self.timeouts.of(entry.state).saturating_sub(entry.idle_ms(now.as_millis_wrapping()))
    }
}

/// How a flow that ran out of time ended.
pub(super) const fn cause_of(state: FlowState) -> FlowEnd {
    match state {
        FlowState::TimeWait | FlowState::LastAck => FlowEnd::Fin,
        FlowState::Close => FlowEnd::Rst,
        _ => FlowEnd::Idle,
    }
}
