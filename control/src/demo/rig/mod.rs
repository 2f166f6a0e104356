//! Namespaces, servers and a gateway on one machine; everything goes when the guard goes.

mod command;
mod daemon;
mod kernel_nat;
mod namespace;
mod plan;
mod plumbing;
mod pod;
mod process;
mod topology;

pub use command::{RigError, run};
pub use daemon::{Daemon, DaemonFiles};
pub use kernel_nat::{KernelNat, NatRule, Unserved};
pub use namespace::{NetNs, remove_leftovers};
pub use plan::{
    Arms, CLIENT, CLIENT_V6, GATEWAY, GATEWAY_V6, RigPlan, client_of, families, gateway_of,
};
pub use plumbing::Plumbing;
pub use pod::{Node, Pod};
pub use process::Process;
pub use topology::Topology;
