//! A small cluster on one machine: the rig, its pods, their manifests, and tidegate.

use super::rig::{Daemon, DaemonFiles, Node, Pod, RigError, RigPlan, Topology};
use crate::model::Family;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Node port of `frontend-svc`: HTTP, policy Cluster.
pub const HTTP_CLUSTER: u16 = 30_080;
/// Node port of `frontend-local`: HTTP, policy Local.
pub const HTTP_LOCAL: u16 = 30_081;
/// Node port of `echo-svc`: UDP, policy Cluster.
pub const UDP_CLUSTER: u16 = 30_090;
/// Node port of `echo-local`: UDP, policy Local.
pub const UDP_LOCAL: u16 = 30_091;

/// The config of the demo's gateway, with the paths of an installed tidegate.
pub const CONFIG: &str = include_str!("../../../configs/demo/config.yaml");

/// Name and text of the manifests that are there from the beginning.
const MANIFESTS: [(&str, &str); 4] = [
    ("nodes", include_str!("../../../configs/demo/nodes.yaml")),
    ("frontend-svc", include_str!("../../../configs/demo/frontend-svc.yaml")),
    ("frontend-local", include_str!("../../../configs/demo/frontend-local.yaml")),
    ("echo-svc", include_str!("../../../configs/demo/echo-svc.yaml")),
];

const POD: &str = include_str!("../../../configs/demo/pod.yaml");

/// TCP and UDP ports of each pod's servers, as in the manifests.
const POD_PORTS: (u16, u16) = (5000, 5001);

/// The cluster. Dropping it stops and removes all of it.
#[derive(Debug)]
pub struct Site {
    // Load-bearing: tidegate stops before its namespace goes, and its files go last.
    daemon: Option<Daemon>,
    topology: Topology,
    files: DaemonFiles,
    folder: TempDir,
    binary: PathBuf,
}

impl Site {
    /// Builds the rig and writes the Services' manifests. No pod yet, and tidegate is not running.
    /// `binary` is `tidegate`.
    ///
    /// # Errors
    /// The rig cannot be built, or the temporary folder cannot be written.
    pub fn build(plan: &RigPlan, binary: &Path) -> Result<Self, RigError> {
        let prefix = format!("tidegate-{}-{}-", plan.kind, std::process::id());
        let made = tempfile::Builder::new().prefix(&prefix).tempdir();
        let path = std::env::temp_dir().display().to_string();
        let folder = made.map_err(|source| RigError::File { path, source })?;
        let files = DaemonFiles::new(folder.path());
        for (name, text) in MANIFESTS {
            files.write_manifest(name, text)?;
        }
        let topology = plan.build()?;
        Ok(Self { daemon: None, topology, files, folder, binary: binary.to_owned() })
    }

    /// Adds a pod and starts its servers. tidegate learns of it by [`Self::publish_pod`].
    ///
    /// # Errors
    /// A command fails, or the servers do not start.
    pub fn add_pod(&mut self, node: Node, name: &str) -> Result<(), RigError> {
        let log = self.files.pod_log()?;
        let pod = self.topology.add_pod(node, name)?;
        pod.start_servers(&self.binary, POD_PORTS, log.into())
    }

    /// Writes the Pod's manifest, ready.
    ///
    /// # Errors
    /// The folder cannot be written; or there is no such pod.
    pub fn publish_pod(&self, name: &str) -> Result<(), RigError> {
        let missing = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let pod = self.pod(name);
        let pod = pod.ok_or_else(|| RigError::File { path: name.into(), source: missing() })?;
        let text = POD
            .replace("name: NAME", &format!("name: {name}"))
            .replace("nodeName: NODE", &format!("nodeName: {}", pod.node().name()))
            .replace("podIP: ADDRESS", &format!("podIP: {}", pod.address()))
            .replace("ip: ADDRESS-V6", &format!("ip: {}", pod.address_of(Family::V6)));
        self.files.write_manifest(name, &text)
    }

    /// Removes the Pod's manifest; its servers go on for the connections that they have.
    ///
    /// # Errors
    /// There is none.
    pub fn withdraw_pod(&self, name: &str) -> Result<(), RigError> {
        self.files.remove_manifest(name)
    }

    /// Writes `config` (see [`CONFIG`]) and starts tidegate; returns when it is ready.
    ///
    /// # Errors
    /// It does not become ready.
    pub fn start_daemon(&mut self, config: &str) -> Result<&mut Daemon, RigError> {
        self.files.write_config(config)?;
        // The old one must have left the interfaces first.
        drop(self.daemon.take());
        let daemon = Daemon::start(&self.binary, self.topology.gateway(), &self.files)?;
        Ok(self.daemon.insert(daemon))
    }

    /// The pod called `name`.
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.topology.pods().iter().find(|pod| pod.name() == name)
    }

    /// The rig.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// tidegate, where it was started.
    pub fn daemon(&self) -> Option<&Daemon> {
        self.daemon.as_ref()
    }

    /// tidegate, to end it.
    pub fn daemon_mut(&mut self) -> Option<&mut Daemon> {
        self.daemon.as_mut()
    }

    /// Where config, manifests, socket and log are.
    pub fn files(&self) -> &DaemonFiles {
        &self.files
    }

    /// Leaves all of it running.
    pub fn keep(mut self) {
        self.topology.keep();
        if let Some(daemon) = self.daemon.take() {
            daemon.keep();
        }
        self.folder.disable_cleanup(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_files_have_what_is_put_in_place() {
        for placeholder in ["name: NAME", "nodeName: NODE", "podIP: ADDRESS", "ip: ADDRESS-V6"] {
            assert_eq!(POD.matches(placeholder).count(), 1, "{placeholder}");
        }
        for path in ["/etc/tidegate/manifests", "/run/tidegate/admin.sock"] {
            assert_eq!(CONFIG.matches(path).count(), 1, "{path}");
        }
    }

    #[test]
    fn the_node_ports_are_those_of_the_manifests() {
        let all: String = MANIFESTS.iter().map(|(_, text)| *text).collect();
        for port in [HTTP_CLUSTER, HTTP_LOCAL, UDP_CLUSTER, UDP_LOCAL] {
            assert!(all.contains(&format!("nodePort: {port}\n")), "{port}");
        }
    }
}
