//! Reports as people read them. Pure: a report in, text out.

pub mod drops;
pub mod explain;
#[cfg(test)]
pub(crate) mod fixtures;
pub mod kubectl;
pub mod latency;
pub mod node;
pub mod number;
pub mod row;
pub mod status;
pub mod table;
pub mod traffic;

pub use row::names;
