//! tidegate's packet path. Start at [`worker`]; `docs/ARCHITECTURE.md` has the picture.
#![deny(missing_docs)]

pub mod admission;
pub mod affinity;
mod buckets;
mod clock;
pub mod datagrams;
pub mod engine;
pub mod flow_table;
pub mod host_flows;
mod limiter;
mod memory;
pub mod packet;
pub mod pipeline;
pub mod random;
pub mod rcu;
mod sequence_lock;
pub mod snapshot;
pub mod stats;
pub mod syn_cookie;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod types;
pub mod verdict;
pub mod worker;
pub mod xdp;
