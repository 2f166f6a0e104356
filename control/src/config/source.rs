//! Where Services come from.

use super::check::Found;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where Services come from.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The kind of source.
    pub kind: SourceKind,
    /// Kind `file`: a file or a folder of manifests: Service, EndpointSlice, Node, Pod, List.
    #[serde(default)]
    pub file: Option<PathBuf>,
}

impl Default for Source {
    fn default() -> Self {
        Self { kind: SourceKind::Kubernetes, file: None }
    }
}

/// The kinds of source.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Manifests, watched; no cluster needed.
    File,
    /// The API server, watched (`clientConnection`).
    Kubernetes,
}

impl SourceKind {
    /// The word of the file.
    pub const fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Kubernetes => "kubernetes",
        }
    }
}

/// How to reach the API server; names and meaning as kube-proxy's.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ClientConnection {
    /// Path of a kubeconfig; empty: in-cluster, by the pod's service account.
    pub kubeconfig: String,
    /// Requests per second in the long run, from 1.
    pub qps: u32,
    /// Requests that a quiet time saves up, from 1.
    pub burst: u32,
}

impl Default for ClientConnection {
    fn default() -> Self {
        Self { kubeconfig: String::new(), qps: 10, burst: 20 }
    }
}

/// Requests per second at most: no gateway needs more than a few per minute.
const QPS_MAX: u32 = 10_000;

/// What is wrong with the fields about the source.
pub(super) fn check(
    source: &Source,
    connection: &ClientConnection,
    state_directory: &Path,
    found: &mut Found,
) {
    match (source.kind, &source.file) {
        (SourceKind::File, Some(path)) if !path.as_os_str().is_empty() => {}
        (SourceKind::File, _) => {
            found.add("source.file", "is missing: kind file needs a file or folder of manifests");
        }
        (SourceKind::Kubernetes, None) => {}
        (SourceKind::Kubernetes, Some(_)) => {
            found.add("source.file", "does nothing with source.kind kubernetes; leave it out");
        }
    }
    for (name, value) in [("qps", connection.qps), ("burst", connection.burst)] {
        if !(1..=QPS_MAX).contains(&value) {
            let reason = format!("{value} is not between 1 and {QPS_MAX}");
            found.add(format!("clientConnection.{name}"), reason);
        }
    }
    if !state_directory.as_os_str().is_empty() && !state_directory.is_absolute() {
        found.add("stateDirectory", "is not an absolute path; \"\" keeps nothing on disk");
    }
}
