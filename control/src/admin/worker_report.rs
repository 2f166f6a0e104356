//! What a worker does, for `tidegate get workers`.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkerReport {
    /// Its number.
    pub worker: u8,
    /// The CPU that it is pinned to.
    pub cpu: Option<usize>,
    /// How it sleeps: `io_uring` or `poll`.
    pub sleep: String,
    /// Why not by `io_uring`, in the kernel's words.
    pub io_uring_refused: Option<String>,
    /// Part of the last second spent on packets, 0 to 1.
    pub busy: f64,
    /// Milliseconds since its last heartbeat.
    pub heartbeat_milliseconds: u64,
    /// The longest time without one since the start, in milliseconds; a sleep is up to 250.
    #[serde(default)]
    pub heartbeat_gap_milliseconds: u64,
    /// Rounds that found packets.
    pub polls_work: u64,
    /// Rounds that found nothing.
    pub polls_empty: u64,
    /// Times it slept.
    pub sleeps: u64,
    /// Flows in its table.
    pub flows: u64,
    /// Source ports in use.
    pub snat_ports: u64,
    /// Packets handed to other workers.
    pub handed_packets: u64,
    /// Packets taken from other workers.
    pub taken_packets: u64,
    /// Packets that it originated; outside the sum.
    pub generated_packets: u64,
    /// Transmit kicks.
    pub kicks: u64,
    /// Frames in its UMEM.
    pub frames_total: u64,
    /// Frames by place; they sum up to the total.
    pub frames: BTreeMap<String, u64>,
    /// Snapshot that it used last.
    pub snapshot_version: u64,
}
