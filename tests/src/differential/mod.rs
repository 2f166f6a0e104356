//! tidegate against the kernel's own NAT: the same packets through two worlds, compared.
//!
//! Two rigs stand side by side. In one the gateway runs tidegate, in the other nothing but the
//! rules that kube-proxy would write. Packets go into both, and what comes out at clients and at
//! backends must be equal, up to what each world may choose freely: `normal` takes that away,
//! and `exceptions` lists, with reasons, what else may differ.
//!
//! The order of work is in [`run`].

mod arena;
mod cause;
mod exceptions;
mod flow;
mod generator;
mod kind;
mod normal;
mod pieces;
mod rules;
mod run;
mod setup;
mod shot;
mod sums;
mod tap;
mod wire;

pub use run::{Plan, Report, run};
