//! `tidegate demo`: namespaces, real servers, real traffic, and what became of every packet.
//!
//! The rig below it serves the tests and the benchmarks too.

mod args;
mod pattern;
mod pod;
pub mod rig;

pub use args::{DemoArgs, PodArgs};
pub use pattern::pattern_chunks;
pub use pod::run_pod;
