//! kube-proxy's switches.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// kube-proxy's feature gates that mean something here, by their own names.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FeatureGates {
    /// Whether `spec.externalIPs` are served (KEP-5707, semantics E14).
    #[serde(rename = "AllowServiceExternalIPs")]
    pub allow_service_external_ips: bool,
}

impl Default for FeatureGates {
    fn default() -> Self {
        Self { allow_service_external_ips: true }
    }
}
