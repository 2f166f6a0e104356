//! TCP handshakes, as `tidegate status` tells of them.

use serde::{Deserialize, Serialize};

/// TCP handshakes under way, and SYN cookies, of all workers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HandshakeReport {
    /// Handshakes under way.
    pub under_way: u64,
    /// How many there may be; then the oldest give way.
    pub limit: u64,
    /// `synProxy`: off, auto or always.
    pub syn_proxy: String,
    /// Workers that answer SYNs with cookies now.
    pub proxying_workers: u64,
    /// Cookies sent.
    pub cookies_sent: u64,
    /// Cookies that came back.
    pub cookies_valid: u64,
    /// Packets that should have brought one back and did not.
    pub cookies_invalid: u64,
}
