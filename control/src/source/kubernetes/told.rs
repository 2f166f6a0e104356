//! What a watch of one kind tells.

use super::watched::{Form, Kind};
use crate::model::ObjectName;
use crate::source::SourceError;

/// One message.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) told: Told,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Told {
    /// A new list begins.
    ListBegins(Listing),
    /// An object of that list.
    Listed(Seen),
    /// The list is complete: what was not in it is gone.
    ListEnds,
    /// An object came or changed.
    Applied(Seen),
    /// An object went.
    Deleted(ObjectName),
    /// A request or stream failed; it will be tried again.
    Failed(SourceError),
    /// The server answered a request.
    Answered,
}

/// An object's name and what it means, or why it cannot be used.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) name: ObjectName,
    pub(super) form: Result<Form, String>,
}

/// How a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    /// As the beginning of the watch (KEP-3157).
    Streaming,
    /// By pages, before the watch.
    Paged,
}

impl Listing {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Streaming => "streaming",
            Self::Paged => "paged",
        }
    }
}
