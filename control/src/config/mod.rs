//! The configuration file: what an operator may say, and what it means to the packet path.

mod check;
mod conntrack;
mod cpu_list;
mod engine;
mod error;
mod feature_gates;
mod file;
mod host;
mod interfaces;
mod latency;
mod listen;
mod node_port_addresses;
mod scalars;
mod source;

pub use conntrack::{Conntrack, MidFlow, SynProxy};
pub use cpu_list::{CpuList, Cpus, Queues};
pub use engine::HostFacts;
pub use error::{ConfigError, Problem};
pub use feature_gates::FeatureGates;
pub use file::{Algorithm, ApiVersion, ClusterIp, Fallback, Kind, LogFormat, LogLevel};
pub use file::{Config, LoadBalancer, Logging, Maglev, Memory, Workers};
pub use host::node_name;
pub use interfaces::{InterfaceConfig, Role, interface_config};
pub use latency::Latency;
pub use listen::{BindAddress, Metrics};
pub use node_port_addresses::NodePortAddress;
pub(crate) use node_port_addresses::networks_allow;
pub use scalars::{AutoCount, HumanDuration, SampleRate, SourcePorts, TableSize};
pub use source::{ClientConnection, Source, SourceKind};
