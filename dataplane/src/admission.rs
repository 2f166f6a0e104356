//! What the configuration says of packets without a flow.

use core::num::NonZeroU32;

/// What a packet without a flow must pass before it begins one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// TCP handshakes under way, of all workers together. At a worker's share the oldest of its
    /// own gives way, never an established flow.
    pub embryonic_flows_max: u32,
    /// Flows that each worker may begin in a second; `None`: as many as come.
    pub new_flows_per_second: Option<NonZeroU32>,
    /// What packets of unknown TCP flows meet.
    pub mid_flow: MidFlow,
    /// Who answers a client's SYN.
    pub syn_proxy: SynProxyMode,
}

impl Admission {
    /// What is used where nobody says otherwise, for tables of `flows_max` flows. An eighth of them
    /// may be handshakes: a table of a million then bears 131,072 of them, which is a million new
    /// connections a second over a path of 130 ms. No limit on new flows: whatever it was, a flood
    /// would use it up before those who are waited for.
    pub const fn for_flows(flows_max: u32) -> Self {
        let embryonic_flows_max = if flows_max < 8 { 1 } else { flows_max / 8 };
        Self {
            embryonic_flows_max,
            new_flows_per_second: None,
            mid_flow: MidFlow::Pass,
            syn_proxy: SynProxyMode::Auto,
        }
    }
}

/// What a TCP packet to a front meets that opens nothing and has no flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MidFlow {
    /// Goes back to the kernel: it may be a flow of its own NAT.
    Pass,
    /// Is dropped.
    Drop,
    /// Is answered with a reset.
    Reset,
    /// Its flow is picked up where its backend follows from the tuple; else it is dropped.
    Forward,
}

/// Who answers a client's SYN (docs/adr/0008-syn-proxy.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SynProxyMode {
    /// Its backend, always: every SYN begins a flow.
    Off,
    /// We, with a cookie, while many handshakes are under way; else its backend.
    Auto,
    /// We, with a cookie, always.
    Always,
}
