//! What sources tell.

use super::error::SourceError;
use crate::model::{Change, ClusterState};
use std::sync::Arc;

/// What the source has to tell.
#[derive(Debug, Clone)]
pub enum SourceEvent {
    /// The whole state, whenever it differs from the last one told: at the start, and where the
    /// source cannot say what changed.
    State(Arc<ClusterState>),
    /// What changed since the last event, in order.
    Changed(Vec<Change>),
    /// The source is wrong or away; the last state stays.
    Refused(SourceError),
}
