//! The packet path as the control side holds it: start, attach, publish, read, stop.

mod attach;
mod bind;
mod config;
mod observe;
mod publish;
mod records;
mod start;
#[cfg(test)]
mod tests;
mod worker_handle;

pub use config::{
    AttachMode, AttachRequest, Attachment, CopyMode, EngineConfig, Fallback, FlowTimeouts,
    KernelRoad, PollMode, QueueBinding,
};
pub use records::{EngineError, FlowRecord, QueueStatistics, SteeringCounters, WorkerPlacement};
pub use start::Engine;
pub(crate) use start::STALE_AFTER;
