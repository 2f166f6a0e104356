//! How long packets stay: what is measured, and where it is kept.

use super::scalars::{HumanDuration, SampleRate};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// Latency measurement (T16).
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Latency {
    /// One packet in so many is stamped: `1/64`; `0` is off.
    pub sample: SampleRate,
    /// A `.hlog` file for every interval's histograms; empty: none.
    pub histogram_log: PathBuf,
    /// How long an interval is.
    pub interval: HumanDuration,
}

impl Default for Latency {
    fn default() -> Self {
        Self {
            sample: SampleRate(NonZeroU32::new(64)),
            histogram_log: PathBuf::new(),
            interval: HumanDuration(Duration::from_secs(1)),
        }
    }
}
