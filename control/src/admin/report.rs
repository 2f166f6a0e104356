//! What the daemon tells about itself: the one schema of the admin interface and of `-o json`.
//! Counters count since start; rates are means over the last second.

pub use super::handshake_report::HandshakeReport;
pub use super::worker_report::WorkerReport;
use serde::{Deserialize, Serialize};

/// A list, as kubectl's `-o json` gives one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The things.
    pub items: Vec<T>,
}

/// One screen about the whole: `tidegate status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusReport {
    /// tidegate's version.
    pub version: String,
    /// The kernel's release.
    pub kernel: String,
    /// This node's name.
    pub node: String,
    /// When the daemon started, RFC 3339.
    pub started: String,
    /// Seconds since then.
    pub uptime_seconds: u64,
    /// Whether every check holds.
    pub ready: bool,
    /// The checks, as `/readyz?verbose` lists them.
    pub checks: Vec<Check>,
    /// Where Services come from.
    pub source: SourceReport,
    /// Number of the published snapshot.
    pub snapshot_version: u64,
    /// Each interface's line.
    pub interfaces: Vec<InterfaceReport>,
    /// Workers.
    pub workers: usize,
    /// The longest time that a worker had no heartbeat, in milliseconds.
    #[serde(default)]
    pub heartbeat_gap_milliseconds: u64,
    /// Live flows.
    pub flows: u64,
    /// TCP handshakes, and who has them with clients.
    #[serde(default)]
    pub handshakes: HandshakeReport,
    /// The sum of all packets (T17).
    pub packets: PacketSum,
    /// Everything that is less than it could be.
    pub warnings: Vec<String>,
    /// What an operator may want to know and need not change.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// A condition for being ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// Why not, or what was found.
    pub detail: String,
}

/// Where Services come from, and how old the last good state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceReport {
    /// `file` or `kubernetes`.
    pub kind: String,
    /// The file or folder, or the API server.
    pub location: String,
    /// How the API server lists: `streaming` or `paged`.
    pub listing: Option<String>,
    /// Seconds since the state was kept on disk that serves while the API server does not answer.
    pub kept_age_seconds: Option<u64>,
    /// Seconds since the last good state arrived; none before the first.
    pub age_seconds: Option<u64>,
    /// Why a later state was refused; the last good one keeps serving.
    pub error: Option<String>,
    /// Service ports served.
    pub service_ports: usize,
    /// Fronts that clients can dial.
    pub fronts: usize,
}

/// A service port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceReport {
    /// `metadata.namespace`.
    pub namespace: String,
    /// `metadata.name`.
    pub service: String,
    /// The port's name; empty where the Service names none.
    pub port: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The node port, where it has one.
    pub node_port: Option<u16>,
    /// `externalTrafficPolicy`.
    pub policy: String,
    /// Addresses and ports that clients dial.
    pub fronts: Vec<String>,
    /// Endpoints that are ready.
    pub ready: usize,
    /// Endpoints that serve on while they terminate.
    pub draining: usize,
    /// Live flows.
    pub flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// Bytes both ways, Ethernet header included.
    pub bytes: u64,
    /// Packets per second, both ways.
    pub packets_per_second: f64,
    /// Bits per second, both ways.
    pub bits_per_second: f64,
    /// Packets dropped or rejected.
    pub refused_packets: u64,
    /// Packets dropped or rejected per second.
    pub refused_per_second: f64,
    /// What a new flow meets where there is nothing to forward to: a reason's name.
    pub refusal: Option<String>,
    /// Why backends are not used.
    pub problems: Vec<String>,
}

/// A backend of a service port.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendReport {
    /// `metadata.namespace` of the Service.
    pub namespace: String,
    /// `metadata.name` of the Service.
    pub service: String,
    /// The service port's name.
    pub port: String,
    /// The pod's address and port.
    pub address: String,
    /// `ready`, `unused` (why: see `reason`) or `draining`.
    pub state: String,
    /// Why it is not used.
    pub reason: Option<String>,
    /// Live flows.
    pub flows: u64,
    /// Flows begun.
    pub new_flows: u64,
    /// Packets both ways.
    pub packets: u64,
    /// Bytes both ways.
    pub bytes: u64,
    /// Its part of the service port's flows begun, 0 to 1.
    pub share: f64,
}

/// A live flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FlowReport {
    /// `metadata.namespace` of the Service.
    pub namespace: String,
    /// `metadata.name` of the Service.
    pub service: String,
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// The client's address and port.
    pub client: String,
    /// What it dialled.
    pub front: String,
    /// Where it went.
    pub backend: String,
    /// The address and port that the backend sees, where masqueraded.
    pub snat: Option<String>,
    /// The state, as conntrack names it.
    pub state: String,
    /// Its worker.
    pub worker: u8,
    /// Milliseconds since the last packet.
    pub idle_milliseconds: u64,
    /// Milliseconds until it expires without another packet.
    pub expires_milliseconds: u64,
}

/// An interface that tidegate takes packets from, or wants to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InterfaceReport {
    /// The kernel's name.
    pub name: String,
    /// The kernel's number.
    pub index: u32,
    /// Bytes.
    pub mtu: u32,
    /// Whether packets flow.
    pub attached: bool,
    /// Why it is not attached; retried.
    pub error: Option<String>,
    /// `native` or `generic`.
    pub attach_mode: Option<String>,
    /// Why native was refused.
    pub native_refused: Option<String>,
    /// `ZERO-COPY` or `COPY`; `MIXED` where the queues differ.
    pub copy_mode: Option<String>,
    /// Why zero-copy was refused.
    pub zero_copy_refused: Option<String>,
    /// The bound queues.
    pub queues: Vec<QueueReport>,
    /// Packets that the XDP program saw.
    pub received_packets: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Packets that it sent to workers.
    pub redirected_packets: u64,
    /// Packets that it left to the kernel.
    pub passed_packets: u64,
    /// Packets that workers transmitted here.
    pub transmitted_packets: u64,
    /// Bytes of those.
    pub transmitted_bytes: u64,
    /// Received per second.
    pub received_per_second: f64,
    /// Transmitted per second.
    pub transmitted_per_second: f64,
}

/// A bound queue, with the kernel's own counters of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueReport {
    /// The queue's number.
    pub queue: u32,
    /// Its worker.
    pub worker: u8,
    /// Dropped: too big for a frame or no memory.
    pub rx_dropped: u64,
    /// Dropped: receive ring full.
    pub rx_ring_full: u64,
    /// Diagnostic: fill ring found empty.
    pub fill_ring_empty: u64,
    /// Diagnostic: bad descriptors, both rings.
    pub invalid_descriptors: u64,
}

/// Where packets ended that were not forwarded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DropsReport {
    /// Dropped, by reason and interface; reasons that occurred.
    pub dropped: Vec<ReasonReport>,
    /// Answered with an ICMP error.
    pub rejected: Vec<ReasonReport>,
    /// Left or given back to the kernel.
    pub passed: Vec<ReasonReport>,
    /// The sum of all packets.
    pub sum: PacketSum,
}

/// A reason, as it occurred on one interface.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonReport {
    /// The stable name.
    pub reason: String,
    /// The stage that decided.
    pub stage: String,
    /// `config`, `capacity`, `traffic` or `bug`.
    pub kind: String,
    /// Packets.
    pub packets: u64,
    /// Packets per second.
    pub per_second: f64,
    /// Seconds since the last one was seen, as sampled each second; none for those before the
    /// first sample.
    pub last_seconds: Option<u64>,
    /// The interface.
    pub interface: String,
    /// What an operator does next.
    pub next_step: String,
}

/// The sum that must close (T17): received = forwarded + passed + rejected + dropped + in flight,
/// and what is left over.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PacketSum {
    /// Seen by the XDP program.
    pub received: u64,
    /// Rewritten and put on a transmit ring.
    pub forwarded: u64,
    /// Left or given back to the kernel.
    pub passed: u64,
    /// Answered with an ICMP error.
    pub rejected: u64,
    /// Dropped for a reason.
    pub dropped: u64,
    /// On their way through rings and workers.
    pub in_flight: u64,
    /// Packets that no term explains, or that two terms claim. Not zero = a bug.
    pub unaccounted: u64,
}

/// Latency of forwarded packets since start or reset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyReport {
    /// One packet in this many is stamped; 0 = none.
    pub sampled_every: u32,
    /// Seconds that the figures cover.
    pub seconds: u64,
    /// The last interval that ended; 0 before the first. What came `after` it can be asked for.
    pub last_interval: u64,
    /// The stages, and within each: all packets, then each kind.
    pub stages: Vec<StageReport>,
}

/// One stage's figures, nanoseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StageReport {
    /// `queue wait`, `forwarding` or `total`.
    pub stage: String,
    /// `all`, `new flow`, `established` or `reply`.
    pub kind: String,
    /// Packets measured.
    pub count: u64,
    /// Smallest.
    pub min_ns: u64,
    /// Half are at most this.
    pub p50_ns: u64,
    /// 90 % are at most this.
    pub p90_ns: u64,
    /// 99 % are at most this.
    pub p99_ns: u64,
    /// 99.9 % are at most this.
    pub p999_ns: u64,
    /// 99.99 % are at most this.
    pub p9999_ns: u64,
    /// Largest.
    pub max_ns: u64,
}

/// Where backends are: the published next hops.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NeighborReport {
    /// The backend's address.
    pub address: String,
    /// `resolved`, `unresolved`, `not-attached`, `no-route` or `local`.
    pub state: String,
    /// The interface to leave by.
    pub interface: Option<String>,
    /// The link address of the backend or of its gateway.
    pub mac: Option<String>,
    /// The node's address that backends see under masquerading.
    pub snat_address: Option<String>,
}
