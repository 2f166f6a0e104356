//! What the control side reads from the packet path.

use crate::snapshot::FrontKey;
use crate::types::{InterfaceSlot, IpAddress, L4Port, Protocol, ServiceId, WorkerId};
use core::time::Duration;

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

/// What the kernel lost between program and ring (XDP_STATISTICS), for one bound queue, and what
/// its worker counted there.
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
    /// Packets read from the receive ring.
    pub received_packets: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Packets put on the transmit ring.
    pub transmitted_packets: u64,
    /// Bytes of those.
    pub transmitted_bytes: u64,
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

/// Where a worker runs and how it sleeps, as granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerPlacement {
    /// Which worker.
    pub worker: WorkerId,
    /// The CPU it is pinned to.
    pub cpu: Option<usize>,
    /// Why it sleeps by poll(2) and not by io_uring, in the kernel's words.
    pub io_uring_refused: Option<String>,
}
