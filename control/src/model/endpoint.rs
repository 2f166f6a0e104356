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
    /// The pod behind it, where known.
    pub pod: Option<Arc<str>>,
}

impl Condition {
    /// Takes no new flow while a ready one exists, but does in the fallback (semantics B10).
    pub fn is_fallback(self) -> bool {
        !self.is_ready && self.is_serving && self.is_terminating
    }
}
