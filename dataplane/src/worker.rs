//! START HERE: one pinned thread, and everything it does, in order.
//!
//! ```text
//! beat > commands > for each pair: rx, pipeline, flow map, tx > hand-off > fragments that wait
//!      > housekeeping > sleep?
//! ```

mod burst;
mod command;
mod dispatch;
mod hand_off;
mod housekeeping;
mod pools;
mod port;
mod waiting;

pub use command::{Command, FlowDump, PairAdded};
pub use hand_off::HandOff;
pub use pools::Pools;

use crate::clock;
use crate::engine::PollMode;
use crate::limiter::Limiter;
use crate::pipeline::Pipeline;
use crate::rcu::Reader;
use crate::snapshot::Snapshot;
use crate::stats::{LatencyRecorder, WorkerCounters};
use crate::types::{INTERFACES_MAX, Time, WorkerId};
use crate::xdp::heartbeat::Heartbeats;
use crate::xdp::maps::FlowMap;
use crate::xdp::sleep::{SLEEP_MAX, Sleeper};
use core::time::Duration;
use crossbeam::queue::ArrayQueue;
use dispatch::Egress;
use port::Port;
use std::sync::Arc;
use waiting::{WAITING_SLEEP_MAX, Waiting};

/// What may return to the kernel at once: a tenth of a second's allowance.
const ROAD_BURST: Duration = Duration::from_millis(100);

/// A worker beats this often, where it does not sleep: a thousandth of the time after which it
/// counts as stale.
const BEAT_NS: u64 = 1_000_000;

/// What a worker is told once.
#[derive(Debug, Clone, Copy)]
pub struct WorkerConfig {
    /// Which worker.
    pub id: WorkerId,
    /// What it does when it finds no packet.
    pub poll_mode: PollMode,
    /// How long it spins before sleeping, in nanoseconds.
    pub idle_spin_ns: u64,
    /// Packets per second that it may give back to the kernel.
    pub road_rate_pps: u32,
    /// What the road's program was loaded with.
    pub road_magic: u32,
}

/// What a worker is made of. Everything allocated; nothing more is allocated while it runs.
#[derive(Debug)]
pub struct WorkerParts {
    /// What it is told once.
    pub config: WorkerConfig,
    /// The packet path.
    pub pipeline: Pipeline,
    /// Its frames.
    pub pools: Pools,
    /// The kernel's flow map.
    pub flow_map: FlowMap,
    /// Signs of life.
    pub heartbeats: Heartbeats,
    /// Its sleep.
    pub sleeper: Sleeper,
    /// Its counters.
    pub counters: Arc<WorkerCounters>,
    /// Its histograms.
    pub latency: LatencyRecorder,
    /// Its ends of the hand-off rings.
    pub hand_off: HandOff,
    /// What the control side asks.
    pub commands: Arc<ArrayQueue<Command>>,
}

/// One worker, running.
#[derive(Debug)]
pub struct Worker {
    parts: WorkerParts,
    reader: Reader<Snapshot>,
    /// By `PairIndex`; 0 is the road back to the kernel.
    ports: Vec<Option<Port>>,
    /// By `InterfaceSlot`: who transmits there.
    egress: Box<[Egress]>,
    road_limiter: Limiter,
    waiting: Waiting,
    dump: Option<FlowDump>,
    is_stopping: bool,
    idle_since: Time,
    last_beat: Time,
    last_housekeeping: Time,
}

impl Worker {
    /// A worker for the calling thread.
    pub fn new(parts: WorkerParts, reader: Reader<Snapshot>) -> Self {
        Self {
            road_limiter: Limiter::new(parts.config.road_rate_pps, ROAD_BURST),
            parts,
            reader,
            ports: Vec::with_capacity(command::PAIRS_MAX),
            egress: vec![Egress::Nobody; INTERFACES_MAX].into(),
            waiting: Waiting::default(),
            dump: None,
            is_stopping: false,
            idle_since: clock::now(),
            last_beat: Time(0),
            last_housekeeping: Time(0),
        }
    }

    /// Runs until it is told to stop.
    pub fn run(mut self) {
        while !self.is_stopping {
            let now = clock::now();
            self.beat(now);
            self.obey_commands();
            let packets = self.serve_ports() + self.take_handed() + self.look_after_waiting(now);
            self.housekeep(now);
            self.account_round(now, packets);
            if packets == 0 {
                self.read_snapshot();
                if self.may_sleep(now) {
                    self.sleep();
                }
            }
        }
    }

    /// Not at every round: the XDP program reads the same cache line for each packet, on the CPU
    /// that receives, and would have to fetch it anew each time.
    #[inline]
    fn beat(&mut self, now: Time) {
        let gap_ns = now.0.saturating_sub(self.last_beat.0);
        if gap_ns >= BEAT_NS {
            if self.last_beat != Time(0) {
                self.parts.counters.work.note_heartbeat_gap(gap_ns);
            }
            self.last_beat = now;
            self.parts.heartbeats.beat(self.parts.config.id, now);
        }
    }

    /// One burst from each pair.
    fn serve_ports(&mut self) -> usize {
        (0..self.ports.len()).map(|at| self.serve_port(at)).sum()
    }

    fn account_round(&mut self, now: Time, packets: usize) {
        let work = &self.parts.counters.work;
        if packets == 0 {
            work.polls_empty.add(1);
            return;
        }
        let end = clock::now();
        work.polls_work.add(1);
        work.busy_ns.add(end.0.saturating_sub(now.0));
        self.idle_since = end;
    }

    /// A round without packets reads the snapshot for its version alone: who published it sees that
    /// the next packet meets it.
    fn read_snapshot(&mut self) {
        let version = self.reader.read().version;
        self.parts.counters.work.snapshot_version.set_release(version.0);
    }

    fn may_sleep(&mut self, now: Time) -> bool {
        let spin_ns = match self.parts.config.poll_mode {
            PollMode::Busy => return false,
            PollMode::Adaptive => self.parts.config.idle_spin_ns,
            PollMode::Interrupt => 0,
        };
        let is_idle = now.0.saturating_sub(self.idle_since.0) >= spin_ns;
        is_idle && self.dump.is_none() && self.parts.commands.is_empty() && self.has_nothing_to_do()
    }

    fn has_nothing_to_do(&mut self) -> bool {
        let is_quiet = !self.parts.hand_off.has_work() && !self.parts.pipeline.flows.is_behind();
        is_quiet && self.ports.iter_mut().flatten().all(Port::is_at_rest)
    }

    fn sleep(&mut self) {
        // Load-bearing: a sleeping worker must not keep old snapshots alive.
        self.reader.rest();
        self.parts.counters.work.sleeps.add(1);
        let is_waiting = !self.waiting.is_empty();
        self.parts.sleeper.sleep(if is_waiting { WAITING_SLEEP_MAX } else { SLEEP_MAX });
    }
}
