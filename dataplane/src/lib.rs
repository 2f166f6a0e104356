//! tidegate's packet path. Start at [`worker`]; `docs/ARCHITECTURE.md` has the picture.
#![deny(missing_docs)]

pub mod engine;
pub mod snapshot;
pub mod stats;
pub mod types;
pub mod verdict;
