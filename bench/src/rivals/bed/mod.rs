//! What a turn stands on: namespaces and cables, the kernel's limits, where work runs and what it
//! costs.

pub(super) mod conntrack;
pub(super) mod cpu;
pub(super) mod ends;
pub(super) mod napi;
pub(super) mod priority;
pub(super) mod programs;
pub(crate) mod rig;
