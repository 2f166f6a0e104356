//! What the control side tells the packet path at start.

use crate::admission::Admission;
use crate::snapshot::Side;
use crate::types::{IfIndex, InterfaceSlot, MacAddress, PortRange};
use core::time::Duration;

/// Everything that cannot change while the workers run.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// One worker per entry: the CPU to pin it to, or `None` to leave it to the scheduler.
    pub worker_cpus: Vec<Option<usize>>,
    /// What a worker does when it finds no packet.
    pub poll_mode: PollMode,
    /// `Adaptive`: how long to spin before sleeping.
    pub idle_spin: Duration,
    /// Frames per (interface, queue) pair of a NIC; a power of two.
    pub frames_per_queue: u32,
    /// Bytes per frame; 2048 or 4096.
    pub frame_size_bytes: u32,
    /// Descriptors per ring; a power of two.
    pub ring_size: u32,
    /// (interface, queue) pairs that a worker's UMEM has frames for.
    pub queues_per_worker_max: u32,
    /// Flows of all workers together.
    pub flows_max: u32,
    /// What a new flow must pass.
    pub admission: Admission,
    /// Idle times by state.
    pub timeouts: FlowTimeouts,
    /// Source ports for SNAT, cut into one slice per worker.
    pub source_ports: PortRange,
    /// What a new flow to a front meets while its worker is stale (T2).
    pub fallback: Fallback,
    /// Stamp one packet in this many for latency; 0 = none.
    pub latency_sample: u32,
    /// The veth pair of T8, made by the control side.
    pub kernel_road: KernelRoad,
    /// Packets per second that may return to the kernel, all workers together.
    pub kernel_road_rate_pps: u32,
}

/// The default of [`EngineConfig::source_ports`]: away from node ports (30000-32767) and from the
/// kernel's ephemeral ports (32768-60999).
pub(super) const SOURCE_PORTS: PortRange = match PortRange::new_checked(15_000, 29_999) {
    Some(range) => range,
    None => unreachable!(),
};

/// What a worker does when it finds no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollMode {
    /// Spins for ever: lowest latency, a whole core.
    Busy,
    /// Spins for `idle_spin`, then sleeps until a packet comes.
    Adaptive,
    /// Sleeps at once.
    Interrupt,
}

/// What a new flow meets while its worker is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// Passes to the kernel, where kube-proxy may serve it.
    Kernel,
    /// Is dropped.
    Drop,
}

/// Idle times by state. Defaults: nf_conntrack's, and kube-proxy's where it sets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowTimeouts {
    /// TCP ESTABLISHED.
    pub tcp_established: Duration,
    /// TCP CLOSE_WAIT.
    pub tcp_close_wait: Duration,
    /// TCP FIN_WAIT.
    pub tcp_fin: Duration,
    /// UDP without a reply yet.
    pub udp: Duration,
    /// UDP with replies.
    pub udp_stream: Duration,
}

impl Default for FlowTimeouts {
    fn default() -> Self {
        Self {
            tcp_established: Duration::from_hours(24),
            tcp_close_wait: Duration::from_hours(1),
            tcp_fin: Duration::from_mins(2),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_mins(2),
        }
    }
}

/// The veth pair by which packets return to the kernel (T8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRoad {
    /// The end that workers transmit on (`tidegate0`): one queue per worker.
    pub device: String,
    /// Its number.
    pub device_index: IfIndex,
    /// The end whose tc program redirects to the original interface (`tidegate1`).
    pub peer_index: IfIndex,
}

/// Which XDP hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// Native where the driver can, else generic. Only asked for, never reported.
    Auto,
    /// In the driver.
    Native,
    /// After the socket buffer was made (`skb`); slow.
    Generic,
}

/// How packets reach the UMEM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMode {
    /// Zero-copy where the driver can, else copy. Only asked for, never reported.
    Auto,
    /// By DMA.
    ZeroCopy,
    /// Copied by the kernel.
    Copy,
}

/// An interface to take packets from.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// The slot that the control side gave it.
    pub slot: InterfaceSlot,
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: IfIndex,
    /// Its link address; frames to others pass to the kernel.
    pub mac: MacAddress,
    /// Receive queues to bind.
    pub queues: Vec<u32>,
    /// Which hook.
    pub attach_mode: AttachMode,
    /// Which mode.
    pub copy_mode: CopyMode,
    /// A veth: small rings (T7).
    pub is_small: bool,
    /// Whose traffic enters by it.
    pub side: Side,
    /// The VLANs on it of which the host has interfaces: they stay the kernel's.
    pub vlans: Vec<u16>,
}

/// What the kernel granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The slot.
    pub slot: InterfaceSlot,
    /// Native or Generic, as the kernel reports it back.
    pub attach_mode: AttachMode,
    /// Why native was refused, in the kernel's words, where `Auto` fell back to Generic.
    pub native_refused: Option<String>,
    /// The bound queues.
    pub queues: Vec<QueueBinding>,
}

/// A bound (interface, queue) pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueBinding {
    /// The queue's number.
    pub queue: u32,
    /// The worker that owns it.
    pub worker: crate::types::WorkerId,
    /// ZeroCopy or Copy, as the kernel reports it back.
    pub copy_mode: CopyMode,
    /// Why zero-copy was refused, in the kernel's words, where `Auto` fell back to Copy.
    pub zero_copy_refused: Option<String>,
}
