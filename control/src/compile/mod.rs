//! From cluster, network and configuration to the snapshot that workers read (T10-T12). Pure.

mod compiled;
mod compiler;

pub use compiled::{
    Attached, BackendReport, BackendState, Compiled, SelectionKind, ServiceReport, WantedInterface,
};
pub use compiler::Compiler;
