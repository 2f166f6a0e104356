//! What may happen, as bolero makes it up.

use bolero::TypeGenerator;

/// Steps of a scenario that are looked at; more would only make each one slower.
pub(crate) const STEPS_MAX: usize = 48;

/// A start and what follows.
#[derive(Debug, TypeGenerator)]
pub(crate) struct Scenario {
    pub(crate) start: Start,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, TypeGenerator)]
pub(crate) struct Start {
    /// So few flows that tables overflow.
    pub(crate) flows_max: u8,
    pub(crate) cluster: Cluster,
}

/// What is published: the Services and their backends.
#[derive(Debug, Clone, TypeGenerator)]
pub(crate) struct Cluster {
    pub(crate) backends: u8,
    pub(crate) meets: Meets,
    pub(crate) is_maglev: bool,
    pub(crate) is_sticky: bool,
    pub(crate) is_draining: Seldom,
    /// The first backend cannot be reached.
    pub(crate) one_is_lost: Seldom,
    pub(crate) mtu: Mtu,
}

/// True once in eight times.
#[derive(Debug, Clone, Copy, TypeGenerator)]
pub(crate) struct Seldom(u8);

impl Seldom {
    pub(crate) fn is_so(self) -> bool {
        self.0 % 8 == 7
    }
}

/// What new flows meet: backends mostly.
#[derive(Debug, Clone, Copy, TypeGenerator)]
pub(crate) enum Meets {
    Backends,
    BackendsToo,
    BackendsAgain,
    Reject,
    Drop,
    Pass,
}

#[derive(Debug, Clone, Copy, TypeGenerator)]
pub(crate) enum Mtu {
    Ethernet,
    Small,
    /// IPv6 has none so small; here its senders are told.
    Narrow,
}

#[derive(Debug, TypeGenerator)]
pub(crate) enum Step {
    /// A client's packet to a front, or to a port beside it.
    Ask { packet: Shape, is_v6: bool, host: u8, port: u8, front: u8 },
    /// A backend's packet on a flow that was forwarded before, by its number.
    Answer { packet: Shape, flow: u8, knows_owner: bool },
    /// An ICMP error about a packet that was forwarded before, from where it arrived.
    Complain { packet: Shape, flow: u8, kind: u8, code: u8, quote_bytes: u8 },
    /// The beginning of a good frame, and then any bytes at all.
    Noise { head: u8, bytes: Vec<u8>, worker: bool },
    /// Time goes by.
    Wait { seconds: u16 },
    /// Another state is published.
    Change(Cluster),
}

/// What a packet is like, and how it is spoilt.
#[derive(Debug, TypeGenerator)]
pub(crate) struct Shape {
    pub(crate) is_tcp: bool,
    pub(crate) flags: u8,
    pub(crate) payload: u16,
    /// The worker that receives it.
    pub(crate) worker: bool,
    pub(crate) spoil: Spoil,
}

/// Most packets are good.
#[derive(Debug, TypeGenerator)]
pub(crate) enum Spoil {
    Not,
    NotEither,
    NotAtAll,
    /// Bytes behind the IP packet.
    Padding(u8),
    /// The hop limit.
    Ttl(u8),
    /// One byte of the headers is another.
    Header {
        at: u8,
        xor: u8,
    },
    /// Cut short.
    Cut(u16),
    /// The frame has hardly room for more.
    Tight(u8),
    /// A fragment of a datagram: the first, or a later one.
    Piece {
        offset: u8,
        has_more: bool,
        id: u8,
    },
    /// IPv4 options: one, and zeros behind it.
    Option {
        kind: u8,
        length: u8,
    },
}
