//! Events, as the admin interface and `-o json` give them.

use serde::{Deserialize, Serialize};

/// Something that happened to a Service or to the node; the same again is counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventReport {
    /// The Service's namespace; empty for the node.
    pub namespace: String,
    /// `service/NAME` or `node/NAME`.
    pub object: String,
    /// `Normal` or `Warning`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The stable name.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// How often it happened.
    pub count: u64,
    /// The first time, RFC 3339.
    pub first_seen: String,
    /// The last time, RFC 3339.
    pub last_seen: String,
    /// Seconds since the last time.
    pub age_seconds: u64,
}
