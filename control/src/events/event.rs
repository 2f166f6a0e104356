//! One thing that happened.

use crate::model::ObjectKey;
use core::fmt;
use std::sync::Arc;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Whom it concerns.
    pub subject: Subject,
    /// What happened.
    pub reason: Reason,
    /// A sentence for people; at most [`NOTE_BYTES_MAX`].
    pub note: String,
}

/// The API server takes no longer note.
pub const NOTE_BYTES_MAX: usize = 1024;

/// Whom an event concerns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A Service.
    Service(ObjectKey),
    /// The node that we run on.
    Node(Arc<str>),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Service(key) => write!(f, "service/{}", key.name),
            Self::Node(name) => write!(f, "node/{name}"),
        }
    }
}

/// What happened. The names are stable: people filter by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A Service that had backends has none any more.
    NoReadyBackends,
    /// It has again.
    BackendsRestored,
    /// A Service asks for what is not done.
    UnsupportedField,
    /// A port of a Service is not served, or not everywhere.
    PortNotServed,
    /// A slice holds addresses of another family than its own (semantics B6); kube-proxy's name.
    KubeProxyIncorrectIpVersion,
    /// A health check's port cannot be had (semantics H2); kube-proxy's name.
    FailedToStartServiceHealthcheck,
    /// Packets of an interface come to us.
    XdpAttached,
    /// An interface copies packets although zero-copy was wanted.
    CopyModeFallback,
    /// What the source told cannot be used; the last good state serves on.
    ConfigRefused,
    /// New flows were dropped for want of room.
    FlowTableFull,
}

impl Reason {
    /// Kubernetes' `reason`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoReadyBackends => "NoReadyBackends",
            Self::BackendsRestored => "BackendsRestored",
            Self::UnsupportedField => "UnsupportedField",
            Self::PortNotServed => "PortNotServed",
            Self::KubeProxyIncorrectIpVersion => "KubeProxyIncorrectIPVersion",
            Self::FailedToStartServiceHealthcheck => "FailedToStartServiceHealthcheck",
            Self::XdpAttached => "XdpAttached",
            Self::CopyModeFallback => "CopyModeFallback",
            Self::ConfigRefused => "ConfigRefused",
            Self::FlowTableFull => "FlowTableFull",
        }
    }

    /// Kubernetes' `action`: what we were about.
    pub const fn action(self) -> &'static str {
        match self {
            Self::XdpAttached | Self::CopyModeFallback => "Attaching",
            Self::FlowTableFull => "Forwarding",
            _ => "Programming",
        }
    }

    /// Whether somebody should look.
    pub const fn is_warning(self) -> bool {
        !matches!(self, Self::BackendsRestored | Self::XdpAttached)
    }

    /// Kubernetes' `type`.
    pub const fn type_name(self) -> &'static str {
        if self.is_warning() { "Warning" } else { "Normal" }
    }
}

impl Event {
    /// An event; a note that is too long is cut.
    pub fn new(subject: Subject, reason: Reason, note: impl Into<String>) -> Self {
        let mut note = note.into();
        if note.len() > NOTE_BYTES_MAX {
            let end = (0..=NOTE_BYTES_MAX - 3).rev().find(|end| note.is_char_boundary(*end));
            note.truncate(end.unwrap_or_default());
            note += "...";
        }
        Self { subject, reason, note }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_that_is_too_long_is_cut_between_characters() {
        let node = || Subject::Node("gw".into());
        let cut = Event::new(node(), Reason::ConfigRefused, "ä".repeat(600)).note;
        assert!(cut.len() <= NOTE_BYTES_MAX && cut.ends_with("ä..."), "{}", cut.len());
        assert_eq!(Event::new(node(), Reason::ConfigRefused, "short").note, "short");
    }
}
