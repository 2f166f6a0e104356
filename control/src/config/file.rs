//! The file's shape: kind `LoadBalancerConfiguration`, named as kube-proxy's where the
//! meaning is the same. Only what this release honours: an option that does nothing is a defect.

use super::conntrack::{Conntrack, SynProxy};
use super::cpu_list::Cpus;
use super::feature_gates::FeatureGates;
use super::interfaces::InterfaceConfig;
use super::latency::Latency;
use super::listen::{AdminBindAddress, BindAddress, Metrics};
use super::node_port_addresses::NodePortAddress;
use super::scalars::{HumanDuration, SourcePorts, TableSize};
use super::source::{ClientConnection, Source};
use super::{ConfigError, check};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_saphyr::UserMessageFormatter;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tidegate_dataplane::engine::PollMode;
use tidegate_dataplane::types::PortRange;

/// The commented defaults, as `tidegate config default` prints them.
const DEFAULT_YAML: &str = include_str!("../../../configs/default.yaml");

/// The configuration of `tidegate run`.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Config {
    /// `tidegate.dev/v1alpha1`.
    pub api_version: ApiVersion,
    /// `LoadBalancerConfiguration`.
    pub kind: Kind,
    /// The node's name; empty: `NODE_NAME`, then the host name.
    pub hostname_override: String,
    /// Where Services come from.
    pub source: Source,
    /// How to reach the API server; `source.kind: kubernetes`.
    pub client_connection: ClientConnection,
    /// Where the last good state of the API server is kept, for a start while it is away; empty:
    /// nowhere.
    pub state_directory: PathBuf,
    /// Which of the node's addresses serve node ports.
    pub node_port_addresses: Vec<NodePortAddress>,
    /// Who answers the cluster IPs that pods dial.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: ClusterIp,
    /// The interfaces to take packets from.
    pub interfaces: Vec<InterfaceConfig>,
    /// The threads that forward.
    pub workers: Workers,
    /// Frames and rings.
    pub memory: Memory,
    /// Balancing and SNAT.
    pub load_balancer: LoadBalancer,
    /// The flow table.
    pub conntrack: Conntrack,
    /// Who answers a client's SYN.
    pub syn_proxy: SynProxy,
    /// What a new flow meets while its worker is stale.
    pub fallback: Fallback,
    /// Where `/healthz`, `/livez` and `/readyz` are answered.
    pub healthz_bind_address: BindAddress,
    /// Where `/metrics` is answered; it may be the same.
    pub metrics_bind_address: BindAddress,
    /// Where what the commands read is answered over HTTP, read-only.
    pub admin_bind_address: AdminBindAddress,
    /// The UNIX socket of the other commands.
    pub admin_socket: PathBuf,
    /// What `/metrics` tells.
    pub metrics: Metrics,
    /// kube-proxy's switches.
    pub feature_gates: FeatureGates,
    /// Latency measurement.
    pub latency: Latency,
    /// Logs on stderr.
    pub logging: Logging,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            api_version: ApiVersion::V1Alpha1,
            kind: Kind::LoadBalancerConfiguration,
            hostname_override: String::new(),
            source: Source::default(),
            client_connection: ClientConnection::default(),
            state_directory: PathBuf::from("/var/lib/tidegate"),
            node_port_addresses: vec![NodePortAddress::Primary],
            cluster_ip: ClusterIp::Kernel,
            interfaces: vec![InterfaceConfig::named("eth0")],
            workers: Workers::default(),
            memory: Memory::default(),
            load_balancer: LoadBalancer::default(),
            conntrack: Conntrack::default(),
            syn_proxy: SynProxy::Auto,
            fallback: Fallback::Kernel,
            healthz_bind_address: BindAddress::default(),
            metrics_bind_address: BindAddress::default(),
            metrics: Metrics::default(),
            feature_gates: FeatureGates::default(),
            admin_bind_address: AdminBindAddress::default(),
            admin_socket: PathBuf::from("/run/tidegate/admin.sock"),
            latency: Latency::default(),
            logging: Logging::default(),
        }
    }
}

impl Config {
    /// Reads and checks the file.
    ///
    /// # Errors
    /// See [`ConfigError`]; all cross-field problems are told at once.
    pub fn from_file(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::from_text(&text, path)
    }

    /// Parses and checks `text`; `path` stands in the errors.
    ///
    /// # Errors
    /// [`ConfigError::Parse`] or [`ConfigError::Invalid`].
    pub fn from_text(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let path = || path.to_owned();
        let config: Self = serde_saphyr::from_str(text).map_err(|e| ConfigError::Parse {
            path: path(),
            text: e
                .render_with_formatter(&UserMessageFormatter)
                .trim_start_matches("error: ")
                .into(),
        })?;
        let problems = check::problems(&config);
        if problems.is_empty() {
            return Ok(config);
        }
        Err(ConfigError::Invalid { path: path(), problems })
    }

    /// The commented defaults, a valid file.
    pub fn default_yaml() -> &'static str {
        DEFAULT_YAML
    }
}

/// The version of the file's form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
pub enum ApiVersion {
    /// The only one so far.
    #[serde(rename = "tidegate.dev/v1alpha1")]
    V1Alpha1,
}

/// The kind of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
pub enum Kind {
    /// The only one so far.
    LoadBalancerConfiguration,
}

/// Who answers the cluster IPs that pods dial.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterIp {
    /// The kernel, by kube-proxy's rules.
    Kernel,
    /// tidegate, on interfaces of role `backend`; each that matches is attached then.
    Serve,
}

/// The threads that forward.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Workers {
    /// One worker per CPU: `auto`, `2-5` or `[2, 3]`.
    pub cpus: Cpus,
    /// What a worker does when it finds no packet.
    #[serde(with = "PollModeName")]
    #[schemars(with = "PollModeName")]
    pub poll_mode: PollMode,
    /// `adaptive`: how long to spin before sleeping.
    pub idle_spin: HumanDuration,
}

impl Default for Workers {
    fn default() -> Self {
        let idle_spin = HumanDuration(Duration::from_micros(50));
        Self { cpus: Cpus::Auto, poll_mode: PollMode::Adaptive, idle_spin }
    }
}

/// Frames and rings.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Memory {
    /// Frames per (interface, queue) pair; a power of two.
    pub frames_per_queue: u32,
    /// Bytes per frame: 2048 or 4096.
    pub frame_size: u32,
    /// Descriptors per ring; a power of two.
    pub ring_size: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self { frames_per_queue: 4096, frame_size: 2048, ring_size: 2048 }
    }
}

/// Balancing and SNAT.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancer {
    /// How a backend is picked for a new flow.
    pub algorithm: Algorithm,
    /// Maglev's table.
    pub maglev: Maglev,
    /// Addresses of this node to masquerade with; a family without one uses the address of each
    /// outgoing interface. Each has all source ports to every backend.
    pub snat_addresses: Vec<IpAddr>,
    /// Source ports for SNAT; away from node ports and the host's own.
    pub source_port_range: SourcePorts,
}

/// SNAT ports by default (T5): below the node ports, and below Linux's own from 32768.
const SOURCE_PORTS_FIRST_LAST: (u16, u16) = (15_000, 29_999);

impl Default for LoadBalancer {
    fn default() -> Self {
        let (first, last) = SOURCE_PORTS_FIRST_LAST;
        #[expect(clippy::expect_used, reason = "two constants, checked by the default file's test")]
        let range = PortRange::new_checked(first, last).expect("a range");
        Self {
            algorithm: Algorithm::Maglev,
            maglev: Maglev::default(),
            snat_addresses: Vec::new(),
            source_port_range: SourcePorts(range),
        }
    }
}

/// How a backend is picked for a new flow (T11).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// By the five-tuple's hash: the same on every gateway.
    Maglev,
    /// Uniformly, as kube-proxy.
    Random,
}

/// Maglev's table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Maglev {
    /// Entries: `auto` or a prime.
    pub table_size: TableSize,
    /// Up to 16 hexadecimal digits, the same on every gateway; empty is 0.
    pub hash_seed: String,
}

impl Maglev {
    /// The seed as a number; `None` where it is not hexadecimal or too long.
    pub fn seed(&self) -> Option<u64> {
        match self.hash_seed.as_str() {
            "" => Some(0),
            digits => u64::from_str_radix(digits, 16).ok(),
        }
    }
}

/// What a new flow meets while its worker is stale (T2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Fallback {
    /// Passes to the kernel, where kube-proxy may serve it.
    Kernel,
    /// Is dropped.
    Drop,
}

/// Logs on stderr.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Logging {
    /// `text` or `json`.
    pub format: LogFormat,
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// The form of a log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The least severe level that is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Errors alone.
    Error,
    /// And warnings.
    Warn,
    /// And what an operator wants to know.
    #[default]
    Info,
    /// And what a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(remote = "PollMode", rename_all = "lowercase")]
enum PollModeName {
    Busy,
    Adaptive,
    Interrupt,
}
