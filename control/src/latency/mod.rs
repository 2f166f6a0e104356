//! How long packets stay: what the workers hand over, gathered, and the forms in which it leaves.

pub mod hgrm;
pub mod hlog;
pub mod interval;
pub mod log;
pub mod measured;
pub mod totals;
