//! From cluster, network and configuration to the snapshot that workers read (T10-T12). Pure.

mod assemble;
mod claims;
mod compiled;
mod compiler;
#[cfg(test)]
pub(crate) mod fixtures;
mod fronts;
mod held;
mod ids;
mod interfaces;
mod next_hops;
mod port;
mod report;
mod reports;
mod share;
mod snat_pool;
mod tables;

pub use compiled::{
    Attached, BackendReport, BackendState, Compiled, LeftOut, SelectionKind, ServiceReport,
    WantedInterface,
};
pub use compiler::Compiler;
pub(crate) use fronts::node_addresses;
pub(crate) use report::refusal;
pub use reports::Reports;
