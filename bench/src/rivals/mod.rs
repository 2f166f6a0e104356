//! tidegate against a bare forwarder and against the kernel, on veths between three namespaces.

mod bare;
mod contest;
mod cpu;
mod forwarder;
mod kernel;
mod measure;
mod napi;
mod rig;
mod table;
mod tidegate;

pub(crate) use contest::{Args, run};

/// Descriptors per ring, of tidegate and of the bare forwarder.
const RING: u32 = 1_024;

/// Frames of a forwarder, of tidegate and of the bare one.
const FRAMES: u32 = 16_384;
