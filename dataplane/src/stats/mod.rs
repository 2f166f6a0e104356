//! Counters and latency. Each counter has one writer, its worker; anybody may read.

pub mod counters;
pub mod latency;
pub mod service_drops;

pub use counters::{
    BackendCounters, BurstCounters, CookieEvent, Counter, FlowEnd, FramePlace, InterfaceCounters,
    LoopCounters, QueueCounters, ServiceCounters, WorkerCounters,
};
pub use latency::{LatencyExchange, LatencyRecorder, LatencySet, Stage, Traffic};
pub use service_drops::ServiceDrops;
