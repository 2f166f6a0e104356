//! Counters and latency. Each counter has one writer, its worker; anybody may read.

pub mod counters;
pub mod latency;

pub use counters::{
    BackendCounters, CookieEvent, Counter, FlowEnd, FramePlace, InterfaceCounters, LoopCounters,
    ServiceCounters, WorkerCounters,
};
pub use latency::{LatencyExchange, LatencyRecorder, LatencySet, Stage, Traffic};
