//! The control side of tidegate: configuration, sources, model, compiler and kernel mirror.
//! The packet path knows nothing of this crate.
#![deny(missing_docs)]

pub mod admin;
pub mod cli;
pub mod compile;
pub mod config;
pub mod daemon;
pub mod demo;
pub mod events;
pub mod explain;
pub mod fault;
pub mod health;
pub mod latency;
pub mod metrics;
pub mod model;
pub mod netlink;
pub mod source;
