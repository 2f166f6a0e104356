//! Making the packet path, and ending it.

use crate::admission::Admission;
use crate::affinity::{AFFINITY_CLIENTS_MAX, AffinityTable};
use crate::datagrams::{DATAGRAMS_MAX, DatagramTable};
use crate::engine::attach::AttachedInterface;
use crate::engine::publish::DrainsSince;
use crate::engine::worker_handle::{COMMANDS_MAX, Kept, WorkerHandle, frames_of};
use crate::engine::{
    CopyMode, EngineConfig, EngineError, FlowTimeouts, QueueStatistics, WorkerPlacement,
};
use crate::flow_table::{FlowTable, FlowTableConfig, HashKey, OwnerDirectory, SourcePorts};
use crate::pipeline::{Gate, Pipeline};
use crate::rcu::Publisher;
use crate::snapshot::{FrontKey, Snapshot};
use crate::stats::{LatencyRecorder, WorkerCounters};
use crate::syn_cookie::SynCookies;
use crate::types::{InterfaceSlot, MacAddress, PortRange, WORKERS_MAX, WorkerId};
use crate::worker::{Command, HandOff, Pools, WorkerConfig, WorkerParts};
use crate::xdp::guard::Guard;
use crate::xdp::program::{Steering, SteeringConfig};
use crate::xdp::road::Road;
use crate::xdp::sleep::{SleepBackend, Sleeper};
use crate::xdp::socket::{BindRequest, BoundPair};
use crate::xdp::umem::PoolConfig;
use core::time::Duration;
use crossbeam::channel::bounded;
use crossbeam::queue::ArrayQueue;
use hashbrown::HashMap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A heartbeat older than this is stale (T2).
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(1);

/// The packet path, running.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: EngineConfig,
    pub(super) steering: Steering,
    pub(super) publisher: Publisher<Snapshot>,
    pub(super) workers: Vec<WorkerHandle>,
    pub(super) all_counters: Vec<Arc<WorkerCounters>>,
    pub(super) attached: HashMap<InterfaceSlot, AttachedInterface>,
    /// Free slots of the XSKMAP.
    pub(super) free_xsk: Vec<u32>,
    /// What the sockets of detached queues had counted.
    pub(super) retired: HashMap<(InterfaceSlot, u32), QueueStatistics>,
    /// What the XDP program's front map holds.
    pub(super) steered: HashMap<FrontKey, u32>,
    /// Fronts whose change was not published: the front map was full.
    pub(super) unpublished: BTreeSet<FrontKey>,
    /// Fronts of which the XDP program's map may hold something else than the snapshot.
    pub(super) unsettled: BTreeSet<FrontKey>,
    /// Since when the draining fronts drain.
    pub(super) drained_since: BTreeMap<FrontKey, DrainsSince>,
    /// Fronts that ended draining before a worker that hangs had read so.
    pub(super) ended_unread: u64,
    /// Slots that were ever attached: the XDP program's counters of these are reported.
    pub(super) known_slots: BTreeSet<InterfaceSlot>,
    /// Or why the host's own flows are not guarded.
    pub(super) guard: Result<Guard, EngineError>,
    _road: Road,
}

/// Secrets and numbers that the parts must agree on.
struct Shared {
    hash_key: HashKey,
    road_mac: MacAddress,
    road_magic: u32,
    directory: Option<Arc<OwnerDirectory>>,
    affinity: Arc<AffinityTable>,
    datagrams: Arc<DatagramTable>,
    cookies: Arc<SynCookies>,
    sleepers: Vec<(Sleeper, SleepBackend)>,
    hand_offs: Vec<HandOff>,
}

impl Engine {
    /// Loads the XDP program and starts the workers. They idle until an interface is attached.
    ///
    /// # Errors
    /// Missing capability, no memory to lock, a CPU that does not exist.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        check(&config)?;
        let shared = Shared::try_new(&config)?;
        let steering = Steering::load(&SteeringConfig {
            flows_max: config.flows_max,
            latency_sample: config.latency_sample,
            fallback: config.fallback,
            stale_after: STALE_AFTER,
            road_mac: shared.road_mac,
        })?;
        let road = Road::open(config.kernel_road.peer_index, shared.road_magic, shared.road_mac)?;
        let guard = Guard::open(&steering.flows, config.source_ports);
        let publisher = Publisher::new(Snapshot::default());
        let mut engine = Self {
            steering,
            publisher,
            workers: Vec::new(),
            all_counters: Vec::new(),
            attached: HashMap::new(),
            free_xsk: (0..crate::xdp::layout::QUEUES_MAX).rev().collect(),
            retired: HashMap::new(),
            steered: HashMap::new(),
            unpublished: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            drained_since: BTreeMap::new(),
            ended_unread: 0,
            known_slots: BTreeSet::new(),
            guard,
            _road: road,
            config,
        };
        engine.start_workers(shared)?;
        Ok(engine)
    }

    fn start_workers(&mut self, mut shared: Shared) -> Result<(), EngineError> {
        let sleepers = core::mem::take(&mut shared.sleepers);
        let hand_offs = core::mem::take(&mut shared.hand_offs);
        for (number, (sleeper, hand_off)) in sleepers.into_iter().zip(hand_offs).enumerate() {
            let id = WorkerId(u8::try_from(number).unwrap_or(u8::MAX));
            let worker = self.start_worker(id, &shared, sleeper, hand_off)?;
            self.all_counters.push(Arc::clone(&worker.counters));
            self.workers.push(worker);
            self.open_road(id)?;
        }
        Ok(())
    }

    fn start_worker(
        &self,
        id: WorkerId,
        shared: &Shared,
        (sleeper, backend): (Sleeper, SleepBackend),
        hand_off: HandOff,
    ) -> Result<WorkerHandle, EngineError> {
        let mut pools = Pools::try_new(PoolConfig {
            frames: frames_of(&self.config),
            frame_size_bytes: self.config.frame_size_bytes,
            ring_size: self.config.ring_size,
        })?;
        let (counters, latency) = (Arc::new(WorkerCounters::default()), LatencyRecorder::default());
        let io_uring_refused = match backend {
            SleepBackend::IoUring => None,
            SleepBackend::Poll { refused } => Some(refused),
        };
        let cpu = self.config.worker_cpus.get(usize::from(id.0)).copied().flatten();
        let kept = Kept {
            placement: WorkerPlacement { worker: id, cpu, io_uring_refused },
            waker: sleeper.waker(),
            latency: latency.exchange(),
            copy_umem: pools.of(CopyMode::Copy).umem().clone(),
            subscription: self.publisher.subscription(),
            heartbeats: self.steering.heartbeats.clone(),
        };
        let table_config = self.table_config(id, shared)?;
        let cookies = Arc::clone(&shared.cookies);
        let gate = Gate::new(&self.config.admission, &table_config, cookies);
        let table = FlowTable::new(table_config, Arc::clone(&counters), shared.directory.clone());
        let guard = self.guard.as_ref().ok();
        let table = table.beside(guard.map(|guard| guard.host_flows().clone()));
        let parts = WorkerParts {
            config: self.worker_config(id, shared),
            pipeline: Pipeline::new(
                table,
                Arc::clone(&shared.affinity),
                Arc::clone(&shared.datagrams),
            )
            .with_gate(gate),
            pools,
            flow_map: self.steering.flows.clone(),
            heartbeats: self.steering.heartbeats.clone(),
            sleeper,
            counters,
            latency,
            hand_off,
            commands: Arc::new(ArrayQueue::new(COMMANDS_MAX)),
        };
        WorkerHandle::start(parts, kept)
    }

    fn worker_config(&self, id: WorkerId, shared: &Shared) -> WorkerConfig {
        let count = u32::try_from(self.config.worker_cpus.len()).unwrap_or(1).max(1);
        WorkerConfig {
            id,
            poll_mode: self.config.poll_mode,
            idle_spin_ns: u64::try_from(self.config.idle_spin.as_nanos()).unwrap_or(u64::MAX),
            road_rate_pps: self.config.kernel_road_rate_pps / count,
            road_magic: shared.road_magic,
        }
    }

    fn table_config(&self, id: WorkerId, shared: &Shared) -> Result<FlowTableConfig, EngineError> {
        let count = u32::try_from(self.config.worker_cpus.len()).unwrap_or(1).max(1);
        let ports = SourcePorts::of_worker(self.config.source_ports, id.0.into(), count);
        Ok(FlowTableConfig {
            worker: id,
            flows_max: (self.config.flows_max / count).max(1),
            embryonic_max: (self.config.admission.embryonic_flows_max / count).max(1),
            hash_key: shared.hash_key,
            timeouts: self.config.timeouts,
            source_ports: ports.ok_or_else(|| too_few_ports(self.config.source_ports, count))?,
            seed: secret()?,
        })
    }

    /// Binds the worker's first socket: to the road, which cannot go away, since later shared binds
    /// go through the first descriptor (T7).
    fn open_road(&self, id: WorkerId) -> Result<(), EngineError> {
        let worker = &self.workers[usize::from(id.0)];
        let request = BindRequest {
            slot: InterfaceSlot(0),
            name: &self.config.kernel_road.device,
            queue: id.0.into(),
            mode: Some(CopyMode::Copy),
            ring_size: self.config.ring_size,
        };
        let pair = Box::new(BoundPair::bind(&worker.copy_umem, &request)?);
        let (reply, answer) = bounded(1);
        worker.tell(Command::AddPair { pair, fill_frames: 0, zero_copy: None, reply })?;
        worker.answer(&answer)??;
        Ok(())
    }

    /// The workers' places, as granted.
    pub fn placements(&self) -> Vec<WorkerPlacement> {
        self.workers.iter().map(|worker| worker.placement.clone()).collect()
    }

    /// Detaches everything, stops the workers and joins them.
    pub fn stop(mut self) {
        self.shut_down();
    }

    fn shut_down(&mut self) {
        let slots: Vec<_> = self.attached.keys().copied().collect();
        slots.into_iter().for_each(|slot| self.detach(slot));
        self.workers.iter_mut().for_each(WorkerHandle::stop);
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.shut_down();
    }
}

impl Shared {
    fn try_new(config: &EngineConfig) -> Result<Self, EngineError> {
        let count = config.worker_cpus.len();
        let sleepers: Vec<_> = (0..count).map(|_| Sleeper::try_new()).collect::<Result<_, _>>()?;
        let bells: Vec<_> = sleepers.iter().map(|(sleeper, _)| sleeper.waker()).collect();
        let [a, b, c, d, e, ..] = secret()?.to_ne_bytes();
        let magic = secret()?.to_ne_bytes();
        Ok(Self {
            hash_key: HashKey::new([secret()?, secret()?, secret()?, secret()?]),
            // Locally administered, unicast.
            road_mac: MacAddress([2, a, b, c, d, e]),
            road_magic: u32::from_ne_bytes([magic[0], magic[1], magic[2], magic[3]]),
            directory: (count > 1)
                .then(|| Arc::new(OwnerDirectory::with_capacity(config.flows_max))),
            affinity: Arc::new(AffinityTable::with_capacity(AFFINITY_CLIENTS_MAX)),
            datagrams: Arc::new(DatagramTable::with_capacity(DATAGRAMS_MAX)),
            cookies: Arc::new(SynCookies::new([secret()?, secret()?])),
            hand_offs: HandOff::for_all(&bells),
            sleepers,
        })
    }
}

fn secret() -> Result<u64, EngineError> {
    getrandom::u64().map_err(|error| EngineError {
        what: "draw a random secret".into(),
        kernel: error.to_string(),
        errno: error.raw_os_error().unwrap_or(0),
        fix: None,
    })
}

fn check(config: &EngineConfig) -> Result<(), EngineError> {
    let count = config.worker_cpus.len();
    if (1..=WORKERS_MAX).contains(&count) {
        return Ok(());
    }
    Err(EngineError {
        what: format!("start {count} workers"),
        kernel: format!("between 1 and {WORKERS_MAX} are possible"),
        errno: libc::EINVAL,
        fix: Some("set workers.cpus".into()),
    })
}

fn too_few_ports(range: PortRange, workers: u32) -> EngineError {
    EngineError {
        what: format!("cut {} source ports into {workers} slices", range.count()),
        kernel: "each worker needs at least one port".into(),
        errno: libc::EINVAL,
        fix: Some("widen loadBalancer.sourcePortRange".into()),
    }
}

impl EngineConfig {
    /// A small engine for tests and benchmarks: one worker, not pinned.
    pub fn small(kernel_road: crate::engine::KernelRoad) -> Self {
        Self {
            worker_cpus: vec![None],
            poll_mode: crate::engine::PollMode::Adaptive,
            idle_spin: Duration::from_micros(50),
            frames_per_queue: 4096,
            frame_size_bytes: 2048,
            ring_size: 1024,
            queues_per_worker_max: 4,
            flows_max: 65_536,
            admission: Admission::for_flows(65_536),
            timeouts: FlowTimeouts::default(),
            source_ports: crate::engine::config::SOURCE_PORTS,
            fallback: crate::engine::Fallback::Kernel,
            latency_sample: 1,
            kernel_road,
            kernel_road_rate_pps: 100_000,
        }
    }
}
