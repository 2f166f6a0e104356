//! One file per verb.

pub mod completion;
pub mod config;
pub mod explain;
pub mod explain_drop;
pub mod get;
pub mod latency;
pub mod run;
pub mod status;
pub mod version;
