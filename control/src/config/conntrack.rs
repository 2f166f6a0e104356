//! How flows begin, and how long they live.

use super::scalars::{AutoCount, HumanDuration};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tidegate_dataplane::engine::FlowTimeouts;

/// The flow table; names and defaults as kube-proxy's where they exist.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Conntrack {
    /// Flows of all workers together.
    pub max_flows: u32,
    /// TCP handshakes under way, of all workers together: `auto`, an eighth of `maxFlows`, or a
    /// number.
    pub max_embryonic_flows: AutoCount,
    /// Flows that each worker may begin in a second; 0: as many as come.
    pub new_flows_per_second: u32,
    /// What a TCP packet to a front meets that opens nothing and has no flow.
    pub mid_flow: MidFlow,
    /// TCP ESTABLISHED.
    pub tcp_established_timeout: HumanDuration,
    /// TCP `CLOSE_WAIT`.
    pub tcp_close_wait_timeout: HumanDuration,
    /// TCP `FIN_WAIT`.
    pub tcp_fin_timeout: HumanDuration,
    /// UDP without a reply yet.
    pub udp_timeout: HumanDuration,
    /// UDP with replies.
    pub udp_stream_timeout: HumanDuration,
}

impl Default for Conntrack {
    fn default() -> Self {
        let defaults = FlowTimeouts::default();
        Self {
            max_flows: 1_048_576,
            max_embryonic_flows: AutoCount::Auto,
            new_flows_per_second: 0,
            mid_flow: MidFlow::Pass,
            tcp_established_timeout: HumanDuration(defaults.tcp_established),
            tcp_close_wait_timeout: HumanDuration(defaults.tcp_close_wait),
            tcp_fin_timeout: HumanDuration(defaults.tcp_fin),
            udp_timeout: HumanDuration(defaults.udp),
            udp_stream_timeout: HumanDuration(defaults.udp_stream),
        }
    }
}

/// What a TCP packet to a front meets that opens nothing and has no flow: it began before tidegate,
/// on another gateway, or with the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MidFlow {
    /// Goes back to the kernel: it may be a flow of kube-proxy's.
    Pass,
    /// Is dropped.
    Drop,
    /// Is answered with a reset.
    Reset,
    /// Is forwarded where its backend follows from the tuple: policy Local, Maglev, no affinity.
    /// Else it is dropped.
    Forward,
}

/// Who answers a client's SYN.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SynProxy {
    /// Its backend, always.
    Off,
    /// tidegate, with a cookie, while many handshakes are under way; else its backend.
    Auto,
    /// tidegate, with a cookie, always.
    Always,
}

impl SynProxy {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Auto => "auto",
            Self::Always => "always",
        }
    }
}
