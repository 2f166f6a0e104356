//! Faults on demand.

use super::resource::Resource;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// All objects.
    List,
    /// Their changes.
    Watch,
    /// One object.
    Get,
    /// A new object.
    Create,
    /// An object replaced.
    Update,
    /// A part of one.
    Patch,
    /// An object gone.
    Delete,
}

impl Verb {
    /// RBAC's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Watch => "watch",
            Self::Get => "get",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone)]
pub enum Effect {
    /// This status; 429 with `Retry-After: 1`.
    Status(u16),
    /// A streaming list is refused, as where the feature WatchList is off.
    NoStreaming,
    /// The wish for a streaming list is not understood, as by servers before 1.27: changes are sent
    /// and never the end of the list.
    IgnoreStreaming,
    /// No answer before the gate has a permit: a slow server, or for ever a silent one.
    Hold(Arc<Semaphore>),
}

/// Which requests meet which effect, and how many of them.
#[derive(Debug, Clone)]
pub struct Fault {
    /// The kind's plural; `None`: any.
    pub plural: Option<&'static str>,
    /// `None`: any.
    pub verb: Option<Verb>,
    /// How many requests; `u32::MAX`: all.
    pub times: u32,
    /// What goes wrong.
    pub effect: Effect,
}

impl Fault {
    /// A fault of every request.
    pub fn always(effect: Effect) -> Self {
        Self { plural: None, verb: None, times: u32::MAX, effect }
    }

    /// A fault of the next request of this kind.
    pub fn once(plural: &'static str, verb: Verb, effect: Effect) -> Self {
        Self { plural: Some(plural), verb: Some(verb), times: 1, effect }
    }

    /// Whether it meets this request; it is then used up by one.
    pub(super) fn take(&mut self, resource: Resource, verb: Verb) -> bool {
        let is_meant = self.plural.is_none_or(|plural| plural == resource.plural)
            && self.verb.is_none_or(|meant| meant == verb);
        let is_taken = is_meant && self.times > 0;
        if is_taken && self.times != u32::MAX {
            self.times -= 1;
        }
        is_taken
    }
}

/// What happens to watches that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interruption {
    /// The connection breaks off without a last chunk.
    Cut,
    /// An ERROR event with this code, then the end.
    Error(u16),
}
