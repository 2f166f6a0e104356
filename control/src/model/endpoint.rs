//! Endpoints of one service port, from slices or from pods.

use std::net::IpAddr;
use std::sync::Arc;
use tidegate_dataplane::types::L4Port;

/// What an endpoint can do (semantics B9).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// Takes new flows.
    pub is_ready: bool,
    /// Answers.
    pub is_serving: bool,
    /// Is being stopped.
    pub is_terminating: bool,
}

/// What a topology hint says to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Hint {
    /// There is none.
    #[default]
    Absent,
    /// It names this node, or this node's zone.
    Here,
    /// It names others alone.
    Elsewhere,
}

/// An endpoint's topology hints (semantics C7, C8). Its own zone is never asked (B14).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hints {
    /// `hints.forNodes`.
    pub node: Hint,
    /// `hints.forZones`.
    pub zone: Hint,
}

impl Hint {
    /// What `names` say to the node or zone `own`; `None`: the node's zone is not known.
    pub fn of(names: &[Arc<str>], own: Option<&str>) -> Self {
        match names {
            [] => Self::Absent,
            _ if names.iter().any(|name| Some(&**name) == own) => Self::Here,
            _ => Self::Elsewhere,
        }
    }
}

/// An endpoint of one service port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: L4Port,
    /// Ready, serving, terminating.
    pub condition: Condition,
    /// Whether it runs on this node (semantics B8).
    pub is_local: bool,
    /// Whom it is meant for.
    pub hints: Hints,
    /// The pod behind it, where known.
    pub pod: Option<Arc<str>>,
}

impl Condition {
    /// Takes no new flow while a ready one exists, but does in the fallback (semantics B10).
    pub fn is_fallback(self) -> bool {
        !self.is_ready && self.is_serving && self.is_terminating
    }
}
