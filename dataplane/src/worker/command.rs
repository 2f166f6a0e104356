//! What the control side asks of a worker, between two bursts.

use crate::clock;
use crate::engine::{CopyMode, EngineError, FlowRecord};
use crate::flow_table::{Direction, FlowEntry};
use crate::snapshot::FrontKey;
use crate::types::{InterfaceSlot, WorkerId};
use crate::verdict::DropReason;
use crate::worker::Worker;
use crate::worker::burst::Frames;
use crate::worker::dispatch::Egress;
use crate::worker::port::Port;
use crate::xdp::socket::BoundPair;
use crate::xdp::umem::{FramePool, PairIndex};
use core::time::Duration;
use crossbeam::channel::Sender;

/// Pairs of one worker, the road included.
pub(super) const PAIRS_MAX: usize = 256;

/// Entries copied per round for a dump: bounds the pause that `get flows` makes.
const DUMP_ENTRIES_PER_ROUND: usize = 256;

/// The answer to [`Command::AddPair`].
pub type PairAdded = Result<PairIndex, EngineError>;

/// A question or an order.
#[derive(Debug)]
pub enum Command {
    /// Drive this pair: keep `fill_frames` frames with the kernel. Answers when it is filled.
    AddPair {
        /// The pair.
        pair: Box<BoundPair>,
        /// Frames to keep with the kernel.
        fill_frames: u32,
        /// The zero-copy pool, where the pair is the first of that mode.
        zero_copy: Option<Box<FramePool>>,
        /// The answer.
        reply: Sender<PairAdded>,
    },
    /// Give a pair up. Its frames stay with the kernel until [`Command::Reclaim`].
    RemovePair(PairIndex, Sender<Option<Box<BoundPair>>>),
    /// The pair's socket is closed: take its frames back.
    Reclaim(PairIndex),
    /// Who transmits on an interface.
    SetEgress(InterfaceSlot, Option<WorkerId>),
    /// List flows.
    Flows(FlowDump),
    /// End.
    Stop,
}

/// A list of flows in the making.
#[derive(Debug)]
pub struct FlowDump {
    /// The list; its capacity is the limit, so that it never grows here.
    pub records: Vec<FlowRecord>,
    /// Where to go on.
    pub next: u32,
    /// The answer.
    pub reply: Sender<Vec<FlowRecord>>,
}

impl Worker {
    /// Does what was asked first. One a round: between two the worker beats and serves its queues,
    /// since to give up a socket may take a quarter second.
    pub(super) fn obey_commands(&mut self) {
        // To ask a queue whether it is empty costs less than to take nothing out of it.
        if !self.parts.commands.is_empty()
            && let Some(command) = self.parts.commands.pop()
        {
            self.obey(command);
        }
        if let Some(dump) = self.dump.take() {
            self.dump = self.go_on_dumping(dump);
        }
    }

    #[cold]
    fn obey(&mut self, command: Command) {
        match command {
            Command::AddPair { pair, fill_frames, zero_copy, reply } => {
                let added = self.adopt(*pair, fill_frames, zero_copy);
                self.answer(added, &reply);
            }
            Command::RemovePair(index, reply) => {
                reply.try_send(self.remove_pair(index)).ok();
            }
            Command::Reclaim(index) => self.reclaim(index),
            Command::SetEgress(slot, owner) => self.set_egress(slot, owner),
            Command::Flows(dump) => self.dump = Some(dump),
            Command::Stop => self.is_stopping = true,
        }
    }

    /// A pair with its pool, or neither.
    fn adopt(
        &mut self,
        pair: BoundPair,
        fill_frames: u32,
        zero_copy: Option<Box<FramePool>>,
    ) -> PairAdded {
        let has_new_pool = zero_copy.is_some();
        if !zero_copy.is_none_or(|pool| self.parts.pools.add_zero_copy(*pool)) {
            let errno = libc::EBUSY;
            return Err(EngineError { errno, ..limit("it has zero-copy frames already") });
        }
        let added = self.add_pair(pair, fill_frames);
        if added.is_err() && has_new_pool {
            self.parts.pools.drop_zero_copy();
        }
        added
    }

    /// Answers; where nobody waits any more, the pair is given up again, or nobody ever would.
    fn answer(&mut self, added: PairAdded, reply: &Sender<PairAdded>) {
        let Err(unwanted) = reply.try_send(added) else { return };
        let Ok(index) = unwanted.into_inner() else { return };
        // Load-bearing order: the socket is closed before its frames are taken back.
        drop(self.remove_pair(index));
        self.reclaim(index);
    }

    fn add_pair(&mut self, mut pair: BoundPair, fill_frames: u32) -> PairAdded {
        let index = self.free_index().ok_or_else(|| limit("256 pairs are bound"))?;
        let pool = self.parts.pools.of(pair.mode);
        // As many again, for the frames that are being sent.
        if pool.free_count() < fill_frames as usize * 2 {
            return Err(limit("no frames are left: raise memory.framesPerQueue"));
        }
        if fill_frames > 0 {
            // The last step that may be refused: from here on the kernel has frames of ours.
            self.parts.sleeper.watch(pair.fd())?;
        }
        pair.index = index;
        pair.set_fill_target(fill_frames);
        while !pair.is_filled() && pool.free_count() > 0 {
            pair.refill(pool);
        }
        if fill_frames > 0 {
            self.set_own_egress(pair.slot, index);
        }
        let at = usize::from(index.0);
        if at == self.ports.len() {
            self.ports.push(None);
        }
        self.ports[at] = Some(Port::new(pair));
        Ok(index)
    }

    /// The lowest number without a pair.
    fn free_index(&self) -> Option<PairIndex> {
        let free = self.ports.iter().position(Option::is_none).unwrap_or(self.ports.len());
        (free < PAIRS_MAX).then(|| u16::try_from(free).ok().map(PairIndex)).flatten()
    }

    /// By the first of its queues here, which is the lowest: with an XDP program virtio-net
    /// receives on higher ones too that it does not send from.
    fn set_own_egress(&mut self, slot: InterfaceSlot, index: PairIndex) {
        if let Some(egress) = self.egress.get_mut(usize::from(slot.0))
            && !matches!(egress, Egress::Own(_))
        {
            *egress = Egress::Own(index);
        }
    }

    fn remove_pair(&mut self, index: PairIndex) -> Option<Box<BoundPair>> {
        let mut port = self.ports.get_mut(usize::from(index.0))?.take()?;
        self.count_unread(&mut port);
        self.parts.sleeper.unwatch(port.pair.fd());
        for egress in &mut self.egress {
            if *egress == Egress::Own(index) {
                *egress = Egress::Nobody;
            }
        }
        Some(Box::new(port.pair))
    }

    /// What the XDP program sent to a ring that nobody will read any more is lost by name.
    fn count_unread(&mut self, port: &mut Port) {
        let (mode, slot) = (port.pair.mode, port.pair.slot);
        let counters = self.parts.counters.interface(slot);
        let pool = self.parts.pools.of(mode);
        loop {
            let mut frames = Frames::new();
            port.pair.receive(pool, &mut frames);
            if frames.is_empty() {
                return;
            }
            let count = frames.len() as u64;
            counters.received_packets.add(count);
            counters.received_bytes.add(frames.iter().map(|frame| frame.len() as u64).sum());
            counters.dropped_packets[DropReason::DevReady as usize].add(count);
            frames.drain(..).for_each(|frame| pool.put(frame));
        }
    }

    fn reclaim(&mut self, index: PairIndex) {
        for mode in [CopyMode::Copy, CopyMode::ZeroCopy] {
            self.parts.pools.of(mode).reclaim(index);
        }
        self.let_go_of_zero_copy();
    }

    /// Without a pair of that mode its frames go too: the first socket bound them to an interface,
    /// and the next interface that can do it brings its own (T7).
    pub(super) fn let_go_of_zero_copy(&mut self) {
        let is_its = |port: &Port| port.pair.mode == CopyMode::ZeroCopy;
        if !self.ports.iter().flatten().any(is_its) {
            self.parts.pools.drop_zero_copy();
        }
    }

    fn set_egress(&mut self, slot: InterfaceSlot, owner: Option<WorkerId>) {
        let Some(egress) = self.egress.get_mut(usize::from(slot.0)) else { return };
        if matches!(egress, Egress::Own(_)) {
            return;
        }
        *egress = owner.map_or(Egress::Nobody, Egress::Other);
    }

    fn go_on_dumping(&self, mut dump: FlowDump) -> Option<FlowDump> {
        let flows = &self.parts.pipeline.flows;
        let (entries, next) = flows.scan(dump.next, DUMP_ENTRIES_PER_ROUND);
        for entry in entries {
            if dump.records.len() < dump.records.capacity() {
                dump.records.push(self.record_of(entry));
            }
        }
        match next {
            Some(next) if dump.records.len() < dump.records.capacity() => {
                Some(FlowDump { next, ..dump })
            }
            _ => {
                dump.reply.try_send(dump.records).ok();
                None
            }
        }
    }

    fn record_of(&self, entry: &FlowEntry) -> FlowRecord {
        let flows = &self.parts.pipeline.flows;
        let now = clock::now();
        let (forward, reply) = (entry.key(Direction::Forward), entry.key(Direction::Reply));
        let ms = |n: u32| Duration::from_millis(n.into());
        FlowRecord {
            worker: self.parts.config.id,
            protocol: entry.protocol,
            client: (forward.src, forward.src_port),
            front: FrontKey::dialled(&forward),
            backend: (reply.src, reply.src_port),
            snat: entry.is_masqueraded().then_some((reply.dst, reply.dst_port)),
            service: entry.service,
            state: entry.state.name(),
            idle: ms(entry.idle_ms(now.as_millis_wrapping())),
            expires: ms(flows.expires_in_ms(entry, now)),
        }
    }
}

fn limit(words: &str) -> EngineError {
    EngineError {
        what: "add a queue to a worker".into(),
        kernel: words.into(),
        errno: 0,
        fix: None,
    }
}
