//! What the generator makes: packets less their ends.

use super::flow::Side;
use super::kind::Kind;
use super::pieces::Cut;
use super::wire::{Ends, Template, Transport};

/// A packet that will be sent into both worlds.
#[derive(Debug)]
pub(super) struct Shot {
    pub(super) kind: Kind,
    /// How many were made before it.
    pub(super) number: u64,
    /// Its IPv4 identification or IPv6 flow label; unique within its batch, never 0.
    pub(super) marker: u16,
    /// The flow, by its place in [`Generator::flows`], and who sends; or the ends of a lone packet.
    pub(super) of: Origin,
    pub(super) template: Template,
    /// How it is sent in fragments, if it is.
    pub(super) cut: Option<Cut>,
    /// It may get another backend than the packets before it.
    pub(super) begins: bool,
    /// What an ICMP error quotes, in each world; empty for other packets.
    pub(super) quotes: [Vec<u8>; 2],
}

/// Where a packet comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    Flow(usize, Side),
    Alone(Ends),
}

/// A packet less what [`Generator::dress`] puts on.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) origin: Origin,
    pub(super) transport: Transport,
    pub(super) payload: Vec<u8>,
    pub(super) options: Vec<u8>,
    pub(super) cut: Option<Cut>,
    pub(super) begins: bool,
    /// It is not noted as news by its flow.
    pub(super) is_repeated: bool,
    pub(super) may_expire: bool,
    pub(super) quotes: [Vec<u8>; 2],
}

impl Draft {
    /// Of a flow.
    pub(super) const fn of_flow(
        flow: usize,
        side: Side,
        transport: Transport,
        payload: Vec<u8>,
    ) -> Self {
        Self::new(Origin::Flow(flow, side), transport, payload)
    }

    /// Of no flow: a client's only packet with these ends.
    pub(super) const fn alone(ends: Ends, transport: Transport, payload: Vec<u8>) -> Self {
        Self::new(Origin::Alone(ends), transport, payload)
    }

    const fn new(origin: Origin, transport: Transport, payload: Vec<u8>) -> Self {
        Self {
            origin,
            transport,
            payload,
            options: Vec::new(),
            cut: None,
            begins: false,
            is_repeated: false,
            may_expire: false,
            quotes: [Vec::new(), Vec::new()],
        }
    }

    /// Its loss changes nothing in the state of its flow, so it may die on the way.
    pub(super) const fn may_expire(mut self) -> Self {
        self.may_expire = true;
        self
    }
}
