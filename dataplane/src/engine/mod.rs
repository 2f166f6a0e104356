//! The packet path as the control side holds it: start, attach, publish, read, stop.

mod config;

pub use config::{
    AttachMode, AttachRequest, Attachment, CopyMode, EngineConfig, Fallback, FlowTimeouts,
    KernelRoad, PollMode, QueueBinding,
};

use crate::snapshot::{FrontKey, Snapshot, Version};
use crate::stats::{LatencySet, WorkerCounters};
use crate::types::{InterfaceSlot, IpAddress, L4Port, Protocol, ServiceId, WorkerId};
use core::time::Duration;
use std::sync::Arc;

/// A live flow, for `get flows`.
#[derive(Debug, Clone)]
pub struct FlowRecord {
    /// Its worker.
    pub worker: WorkerId,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The client.
    pub client: (IpAddress, L4Port),
    /// What it dialled.
    pub front: FrontKey,
    /// Where it went.
    pub backend: (IpAddress, L4Port),
    /// The address and port that the backend sees, where masqueraded.
    pub snat: Option<(IpAddress, L4Port)>,
    /// The service port.
    pub service: ServiceId,
    /// The state's name, as conntrack's.
    pub state: &'static str,
    /// Since the last packet.
    pub idle: Duration,
    /// Until it expires without another packet.
    pub expires: Duration,
}

/// What the XDP program counted for one interface; all CPUs summed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SteeringCounters {
    /// The interface.
    pub slot: InterfaceSlot,
    /// Packets seen.
    pub received_packets: u64,
    /// Bytes seen, Ethernet header included.
    pub received_bytes: u64,
    /// Packets sent on to a worker's socket.
    pub redirected_packets: u64,
    /// Packets passed to the kernel, by `PassReason as usize`.
    pub passed_packets: Vec<u64>,
    /// Packets dropped for a stale worker.
    pub stale_dropped_packets: u64,
}

/// What the kernel lost between program and ring (XDP_STATISTICS), for one bound queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QueueStatistics {
    /// The interface.
    pub slot: InterfaceSlot,
    /// The queue.
    pub queue: u32,
    /// Dropped: too big for a frame or no memory.
    pub rx_dropped: u64,
    /// Dropped: receive ring full.
    pub rx_ring_full: u64,
    /// Diagnostic: bad descriptor in the fill ring.
    pub rx_invalid_descs: u64,
    /// Diagnostic: fill ring found empty.
    pub rx_fill_ring_empty_descs: u64,
    /// Diagnostic: bad descriptor in the transmit ring.
    pub tx_invalid_descs: u64,
    /// Diagnostic: transmit ring found empty.
    pub tx_ring_empty_descs: u64,
}

/// Why the engine could not do what was asked. Text is a fragment that fits "failed to …".
#[derive(Debug, thiserror::Error)]
#[error("{what}: {kernel}")]
pub struct EngineError {
    /// What failed.
    pub what: String,
    /// The kernel's own words, errno name included.
    pub kernel: String,
    /// The errno, 0 where there is none.
    pub errno: i32,
    /// What to type, where we know.
    pub fix: Option<String>,
}

/// The packet path, running.
#[derive(Debug)]
pub struct Engine {}

impl Engine {
    /// Loads the XDP program and starts the workers. They idle until an interface is attached.
    ///
    /// # Errors
    /// Missing capability, no memory to lock, a CPU that does not exist.
    pub fn start(config: EngineConfig) -> Result<Self, EngineError> {
        let _ = config;
        todo!()
    }

    /// Attaches the program to an interface and binds its queues; packets flow when it returns.
    ///
    /// # Errors
    /// The kernel refused the program or a queue; nothing is left attached then.
    pub fn attach(&mut self, request: &AttachRequest) -> Result<Attachment, EngineError> {
        let _ = request;
        todo!()
    }

    /// Detaches an interface: its packets go to the kernel from now on. Idempotent. Also right when
    /// the interface has vanished already.
    pub fn detach(&mut self, slot: InterfaceSlot) {
        let _ = slot;
        todo!()
    }

    /// Publishes a snapshot: fronts are added to the XDP map first, then the pointer is stored, then
    /// removed fronts start to drain. The version in `snapshot` is set by this call and returned.
    ///
    /// # Errors
    /// The front map is full; the old snapshot stays.
    pub fn publish(&mut self, snapshot: Snapshot) -> Result<Version, EngineError> {
        let _ = snapshot;
        todo!()
    }

    /// The snapshot that was published last.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        todo!()
    }

    /// To be called a few times per second: frees old snapshots, checks heartbeats, ends drained
    /// fronts. Returns the workers that have not beaten for more than a second.
    pub fn tick(&mut self) -> Vec<WorkerId> {
        todo!()
    }

    /// The workers' counters, by worker.
    pub fn counters(&self) -> &[Arc<WorkerCounters>] {
        todo!()
    }

    /// The XDP program's counters of every attached interface, and of those detached since start.
    pub fn steering_counters(&self) -> Vec<SteeringCounters> {
        todo!()
    }

    /// The kernel's counters of every bound queue (detached ones keep their last values).
    pub fn queue_statistics(&self) -> Vec<QueueStatistics> {
        todo!()
    }

    /// What each worker recorded since the last call; asks for the next (one interval later).
    pub fn collect_latency(&mut self) -> Vec<(WorkerId, Box<LatencySet>)> {
        todo!()
    }

    /// Up to `limit` live flows over all workers. Waits for the workers, at most `patience`.
    pub fn flows(&self, limit: usize, patience: Duration) -> Vec<FlowRecord> {
        let _ = (limit, patience);
        todo!()
    }

    /// Detaches everything, stops the workers and joins them.
    pub fn stop(self) {
        todo!()
    }
}
