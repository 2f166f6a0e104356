//! `tidegate demo`: namespaces, real servers, real traffic, and what became of every packet.
//!
//! The rig below it serves the tests and the benchmarks too.

mod args;
mod interrupt;
mod keep;
mod pattern;
mod pod;
mod report;
pub mod rig;
mod show;
pub mod site;
mod traffic;

pub use args::{DemoArgs, PodArgs};
pub use interrupt::{Interrupt, Interrupted};
pub use pattern::pattern_chunks;
pub use pod::run_pod;
pub use show::run;
