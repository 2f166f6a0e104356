//! One flow. Two cache lines; an IPv4 packet needs the first alone.

use crate::flow_table::embryonic::NOWHERE;
use crate::flow_table::tcp::FlowState;
use crate::flow_table::{FlowId, Proxy};
use crate::packet::checksum::{address_sum, difference, port_sum};
use crate::packet::vlan::VlanTag;
use crate::types::{
    BackendSlot, FlowKey, InterfaceSlot, IpAddress, L4Port, MacAddress, NextHopId, Protocol,
    ServiceId,
};

/// Which way a packet goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Direction {
    /// Client to backend.
    Forward = 0,
    /// Backend to client.
    Reply = 1,
}

/// How a flow came to be, and so how its packets are treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FlowKind {
    /// Begun by its first packet: addresses and ports are all that is translated.
    Plain,
    /// Begun by a packet from its midst (`conntrack.midFlow: forward`). Embryonic until its backend
    /// answers with anything but a reset.
    PickedUp,
    /// Its client's handshake was with us, and the backend has not answered ours yet.
    ProxyOpening,
    /// Both handshakes are complete; sequence numbers are translated.
    ProxyOpen,
}

/// What a new flow is made of.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// The tuple of the client's packets.
    pub forward: FlowKey,
    /// The tuple of the backend's packets.
    pub reply: FlowKey,
    /// Where the backend is.
    pub next_hop: NextHopId,
    /// The service port.
    pub service: ServiceId,
    /// The backend's counters.
    pub backend: BackendSlot,
    /// Where the client's packets come in.
    pub client_interface: InterfaceSlot,
    /// The link address that they come from.
    pub client_mac: MacAddress,
    /// The first state.
    pub state: FlowState,
    /// How it came to be.
    pub kind: FlowKind,
    /// The snapshot that chose the backend, low half.
    pub version: u32,
    /// Milliseconds, wrapping.
    pub now_ms: u32,
    /// The flow that gives up its source port for it, and ends.
    pub instead_of: Option<FlowId>,
}

/// Addresses and ports to write into an IPv4 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TranslationV4 {
    /// New source address.
    pub source: [u8; 4],
    /// New destination address.
    pub destination: [u8; 4],
    /// New source port.
    pub source_port: L4Port,
    /// New destination port.
    pub destination_port: L4Port,
}

/// The stored state. Field order is load-bearing: the first 64 bytes are all that an IPv4 hit
/// reads and writes; the IPv6 prefixes fill the second line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct FlowEntry {
    /// Last four bytes of: forward source, forward destination, reply source, reply destination.
    low: [[u8; 4]; 4],
    /// Ports in the same order.
    ports: [L4Port; 4],
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Where the flow is in its life.
    pub state: FlowState,
    is_v4: bool,
    /// False while the entry is on the free list.
    pub is_live: bool,
    /// Last packet, milliseconds, wrapping.
    pub last_seen_ms: u32,
    /// UDP: the halves of [`FlowEntry::version`]. TCP: by direction, [`FlowEntry::awaited`]. One
    /// place for both, since the line is full.
    halves: [u16; 2],
    /// What a forward packet's addresses add to a checksum.
    pub address_difference: u16,
    /// What a forward packet's ports add to a checksum.
    pub port_difference: u16,
    /// Where forward packets go.
    pub next_hop: NextHopId,
    /// The service port.
    pub service: ServiceId,
    /// The backend's counters.
    pub backend: BackendSlot,
    /// Where replies go.
    pub client_mac: MacAddress,
    /// Where replies leave.
    pub client_interface: InterfaceSlot,
    /// How it came to be: whatever its packets need besides new addresses stands in the second
    /// line, and is not looked for where this says plain.
    pub kind: FlowKind,
    /// The VLAN tag that replies leave with.
    pub client_tag: VlanTag,
    /// First twelve bytes of the four addresses; the mapped prefix for IPv4.
    high: [[u8; 12]; 4],
    /// Its place among the handshakes under way; `NOWHERE` if it is none.
    pub(super) handshake: u32,
    /// What a proxied handshake left; of the other kinds it means nothing.
    pub proxy: Proxy,
}

const _: () = assert!(size_of::<FlowEntry>() == 128);
const _: () = assert!(core::mem::offset_of!(FlowEntry, high) <= 64);

impl FlowEntry {
    /// An entry that is on the free list.
    pub const EMPTY: Self = Self {
        low: [[0; 4]; 4],
        ports: [L4Port::new(0); 4],
        protocol: Protocol::Tcp,
        state: FlowState::Close,
        is_v4: true,
        is_live: false,
        last_seen_ms: 0,
        halves: [0; 2],
        address_difference: 0,
        port_difference: 0,
        next_hop: NextHopId(0),
        service: ServiceId(0),
        backend: BackendSlot(0),
        client_mac: MacAddress([0; 6]),
        client_interface: InterfaceSlot(0),
        kind: FlowKind::Plain,
        client_tag: VlanTag::NONE,
        high: [[0; 12]; 4],
        handshake: NOWHERE,
        proxy: Proxy::NONE,
    };

    /// A live entry.
    pub fn new(flow: &NewFlow) -> Self {
        let keys = [flow.forward.src, flow.forward.dst, flow.reply.src, flow.reply.dst];
        let (forward, reply) = (&flow.forward, &flow.reply);
        // A forward packet leaves with the reply's tuple turned round.
        let outgoing = reply.reversed();
        Self {
            low: keys.map(|a| a.v4_bytes()),
            ports: [forward.src_port, forward.dst_port, reply.src_port, reply.dst_port],
            protocol: forward.protocol,
            state: flow.state,
            is_v4: forward.src.is_v4(),
            is_live: true,
            last_seen_ms: flow.now_ms,
            halves: halves(flow.version),
            address_difference: difference(address_sum(&outgoing), address_sum(forward)),
            port_difference: difference(port_sum(&outgoing), port_sum(forward)),
            next_hop: flow.next_hop,
            service: flow.service,
            backend: flow.backend,
            client_mac: flow.client_mac,
            client_interface: flow.client_interface,
            kind: flow.kind,
            client_tag: VlanTag::NONE,
            handshake: NOWHERE,
            proxy: Proxy::NONE,
            high: keys.map(|a| a.bytes().first_chunk().copied().unwrap_or_default()),
        }
    }

    /// The snapshot that last confirmed the backend, low half (semantics G2). Of UDP flows alone.
    #[inline]
    pub fn version(&self) -> u32 {
        u32::from(self.halves[0]) | u32::from(self.halves[1]) << 16
    }

    /// Notes that a snapshot confirmed the backend. For UDP flows alone.
    #[inline]
    pub fn confirm(&mut self, version: u32) {
        self.halves = halves(version);
    }

    /// The number that the next packet of a direction has by what the other side last acknowledged,
    /// low half. Of TCP flows alone, once both sides have acknowledged something.
    #[inline]
    pub fn awaited(&self, direction: Direction) -> u16 {
        self.halves[direction as usize]
    }

    /// Notes what a packet of this direction acknowledges, low half. For TCP flows alone.
    #[inline]
    pub fn acknowledge(&mut self, direction: Direction, number: u16) {
        self.halves[1 - direction as usize] = number;
    }

    /// What an IPv4 packet of this direction leaves with: it is the other direction's tuple, turned
    /// round.
    #[inline]
    pub fn translation_v4(&self, direction: Direction) -> TranslationV4 {
        let other = 2 - direction as usize * 2;
        TranslationV4 {
            source: self.low[other + 1],
            destination: self.low[other],
            source_port: self.ports[other + 1],
            destination_port: self.ports[other],
        }
    }

    /// Whether its packets are IPv4.
    #[inline]
    pub fn is_v4(&self) -> bool {
        self.is_v4
    }

    /// What a packet of this direction leaves with, for both families.
    #[inline]
    pub fn outgoing(&self, direction: Direction) -> FlowKey {
        let other = match direction {
            Direction::Forward => Direction::Reply,
            Direction::Reply => Direction::Forward,
        };
        self.key(other).reversed()
    }

    /// The tuple of the packets of one direction, as they come in.
    #[inline]
    pub fn key(&self, direction: Direction) -> FlowKey {
        let at = direction as usize * 2;
        let end = |i: usize| (self.address(at + i), self.ports[at + i]);
        FlowKey::new(self.protocol, end(0), end(1))
    }

    #[inline]
    fn address(&self, index: usize) -> IpAddress {
        let ([a, b, c, d], high) = (self.low[index], &self.high[index]);
        if self.is_v4 {
            return IpAddress::v4([a, b, c, d]);
        }
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(high);
        bytes[12..].copy_from_slice(&[a, b, c, d]);
        IpAddress::from_bytes(bytes)
    }

    /// A part of the second cache line, which IPv6 packets need too.
    #[inline]
    pub(super) fn second_line(&self) -> &[u8; 12] {
        &self.high[3]
    }

    /// Whether packets with this tuple go in this direction of this flow.
    #[inline]
    #[expect(clippy::needless_bitwise_bool, reason = "one branch for all: none ever decides alone")]
    pub fn matches(&self, direction: Direction, key: &FlowKey) -> bool {
        let at = direction as usize * 2;
        let low = (self.low[at] == key.src.v4_bytes()) & (self.low[at + 1] == key.dst.v4_bytes());
        let ports = (self.ports[at] == key.src_port) & (self.ports[at + 1] == key.dst_port);
        let family = (self.is_v4 == key.src.is_v4()) & (self.protocol == key.protocol);
        low & ports & family & self.is_live && (self.is_v4 || self.matches_high(at, key))
    }

    #[inline]
    fn matches_high(&self, at: usize, key: &FlowKey) -> bool {
        let prefix = |a: &IpAddress| a.bytes().first_chunk::<12>().copied().unwrap_or_default();
        self.high[at] == prefix(&key.src) && self.high[at + 1] == prefix(&key.dst)
    }

    /// Milliseconds since the last packet. 0 where that was read by a later clock than `now_ms`:
    /// the two are taken at different points of a round.
    #[inline]
    pub fn idle_ms(&self, now_ms: u32) -> u32 {
        u32::try_from(now_ms.wrapping_sub(self.last_seen_ms).cast_signed()).unwrap_or(0)
    }

    /// Whether the client's address is replaced.
    pub fn is_masqueraded(&self) -> bool {
        self.key(Direction::Reply).dst != self.key(Direction::Forward).src
    }
}

#[expect(clippy::cast_possible_truncation, reason = "that is what a half is")]
const fn halves(version: u32) -> [u16; 2] {
    [version as u16, (version >> 16) as u16]
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::IpAddr;

    pub(crate) fn end(address: &str, port: u16) -> (IpAddress, L4Port) {
        (address.parse::<IpAddr>().unwrap().into(), L4Port::new(port))
    }

    fn flow(client: &str, front: &str, backend: &str, snat: &str) -> NewFlow {
        NewFlow {
            forward: FlowKey::new(Protocol::Udp, end(client, 4000), end(front, 30_080)),
            reply: FlowKey::new(Protocol::Udp, end(backend, 5000), end(snat, 15_001)),
            next_hop: NextHopId(1),
            service: ServiceId(2),
            backend: BackendSlot(3),
            client_interface: InterfaceSlot(4),
            client_mac: MacAddress([5; 6]),
            state: FlowState::UdpNew,
            kind: FlowKind::Plain,
            version: 6,
            now_ms: 7,
            instead_of: None,
        }
    }

    #[test]
    fn an_entry_gives_back_both_tuples_in_both_families() {
        let v4 = flow("10.1.0.1", "10.1.0.254", "10.244.0.2", "10.2.0.1");
        let v6 = flow("2001:db8::1", "2001:db8::fe", "fd00::2", "fd00::1");
        for flow in [v4, v6] {
            let entry = FlowEntry::new(&flow);
            assert_eq!(entry.key(Direction::Forward), flow.forward);
            assert_eq!(entry.key(Direction::Reply), flow.reply);
            assert!(entry.matches(Direction::Forward, &flow.forward));
            assert!(entry.matches(Direction::Reply, &flow.reply));
            assert!(!entry.matches(Direction::Reply, &flow.forward));
            assert!(!entry.matches(Direction::Forward, &flow.forward.reversed()));
            let out = entry.translation_v4(Direction::Forward);
            assert_eq!((out.source_port.number(), out.destination_port.number()), (15_001, 5000));
            assert_eq!(out.source, flow.reply.dst.v4_bytes());
            assert_eq!(entry.outgoing(Direction::Forward), flow.reply.reversed());
            assert_eq!(entry.outgoing(Direction::Reply), flow.forward.reversed());
        }
    }

    #[test]
    fn idle_time_survives_the_wrap_and_a_clock_read_a_little_earlier() {
        let mut entry = FlowEntry::new(&flow("10.1.0.1", "10.1.0.2", "10.2.0.1", "10.3.0.1"));
        entry.last_seen_ms = u32::MAX;
        assert_eq!((entry.idle_ms(4), entry.idle_ms(u32::MAX - 3)), (5, 0));
    }

    #[test]
    fn what_is_remembered_by_protocol_is_given_back() {
        let mut entry = FlowEntry::new(&flow("10.1.0.1", "10.1.0.2", "10.2.0.1", "10.3.0.1"));
        assert_eq!(entry.version(), 6);
        entry.confirm(0x8765_4321);
        assert_eq!(entry.version(), 0x8765_4321);
        entry.acknowledge(Direction::Forward, 7);
        entry.acknowledge(Direction::Reply, 9);
        assert_eq!((entry.awaited(Direction::Reply), entry.awaited(Direction::Forward)), (7, 9));
    }

    #[test]
    fn addresses_that_differ_in_their_prefix_alone_do_not_match() {
        let flow = flow("2001:db8::1", "2001:db8::fe", "fd00::2", "fd00::1");
        let mut other = flow.forward;
        other.src = end("2001:db9::1", 0).0;
        assert!(!FlowEntry::new(&flow).matches(Direction::Forward, &other));
    }
}
