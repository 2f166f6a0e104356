//! What sources tell.

use super::error::SourceError;
use crate::model::{Change, ClusterState};
use std::sync::Arc;
use std::time::SystemTime;

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
    /// How the source is; it replaces the notes before.
    Noted(SourceNotes),
}

/// How a source is, apart from what it knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SourceNotes {
    /// Nothing is refused any more: what [`SourceEvent::Refused`] told is over.
    pub is_well: bool,
    /// Where it is, as `https://10.96.0.1`; empty while that is not known.
    pub location: String,
    /// How the API server lists: `streaming` or `paged`; none before it did.
    pub listing: Option<&'static str>,
    /// The state is that of this time, kept on disk; the source itself did not answer yet.
    pub kept_since: Option<SystemTime>,
    /// Whether the source knows this node.
    pub node: NodePresence,
    /// Everything that is less than it could be, for people.
    pub warnings: Vec<String>,
}

/// Whether the source knows this node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum NodePresence {
    /// It did not say yet.
    #[default]
    Unknown,
    /// It does.
    Present,
    /// It never did: the interfaces' addresses count.
    Missing,
    /// It did, and the Node was deleted: its last form stays (semantics H14).
    Deleted,
}
