//! What is to be sent, and what was.

use super::{Route, Shape, Size, live, xsk};
use anyhow::{Result, ensure};
use std::time::Duration;
use tidegate_control::demo::rig::NetNs;
use tidegate_dataplane::types::IfIndex;
use tidegate_dataplane::xdp::affinity;

/// Which sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A BPF program run over live frames: no socket buffer is made on the way, as with a NIC.
    Live,
    /// A transmit loop on an AF_XDP socket: a socket buffer per packet.
    Xsk,
}

/// Packets per second to offer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Rate {
    /// So many, evenly spread.
    Paced(f64),
    /// As many as the sender can.
    Full,
}

/// What to send.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    pub(crate) kind: Kind,
    pub(crate) route: Route,
    /// The interface to send by.
    pub(crate) name: String,
    pub(crate) index: IfIndex,
    pub(crate) flows: u32,
    /// The first packet's flow; after the last comes 0.
    pub(crate) flow_first: u32,
    pub(crate) shape: Shape,
    pub(crate) rate: Rate,
    pub(crate) duration: Duration,
    /// The CPU that the sender has for itself.
    pub(crate) cpu: usize,
}

/// What was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) packets: u64,
    pub(crate) elapsed: Duration,
}

impl Sent {
    /// Packets per second.
    pub(crate) fn rate_pps(&self) -> f64 {
        crate::numbers::ratio(self.packets, self.elapsed.as_secs_f64())
    }
}

impl Load {
    /// Sends from a thread of its own inside `netns`, and waits for its end.
    pub(crate) fn run(&self, netns: &NetNs) -> Result<Sent> {
        let is_plain = self.shape == Shape::Datagrams(Size::LEAST) && self.flow_first == 0;
        let can = self.kind == Kind::Live || is_plain;
        ensure!(can, "the xsk sender has datagrams of 64 bytes only, and of known flows");
        netns.enter(|| {
            affinity::pin(self.cpu)?;
            match self.kind {
                Kind::Live => live::send(self),
                Kind::Xsk => xsk::send(self),
            }
        })?
    }
}
