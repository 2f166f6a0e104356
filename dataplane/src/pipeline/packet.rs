//! One packet on its way through the stages.

use crate::datagrams::Datagram;
use crate::flow_table::{FlowId, Reference};
use crate::packet::vlan::{self, TAG_BYTES, VlanTag};
use crate::stats::Traffic;
use crate::types::{FlowKey, InterfaceSlot, IpAddress, L4Port, Protocol, ServiceId, WorkerId};
use crate::verdict::{DropReason, Verdict};

/// What kind of packet it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// A whole TCP segment or UDP datagram.
    Whole,
    /// An ICMP error about a packet of a flow.
    Error(Quote),
    /// The first fragment of a datagram: with the L4 header. The sender's number for the datagram.
    FirstFragment(u32),
    /// A later one: without.
    LaterFragment(u32),
}

/// Where an ICMP error quotes, from the frame's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The quoted IP header.
    pub ip_offset: u16,
    /// The quoted L4 header, of which at least eight bytes are there.
    pub l4_offset: u16,
}

/// What the parser found.
#[derive(Clone, Copy, Debug)]
pub struct Headers {
    /// Whole, an error, or a fragment.
    pub kind: PacketKind,
    /// The five-tuple. Of an error: the quoted packet's, turned round, as if the error were the
    /// answer to it. Of a later fragment: without ports.
    pub key: FlowKey,
    /// Where the L4 header (of an error: the ICMP header) starts, from the frame's first byte.
    pub l4_offset: u16,
    /// L4 header and data in bytes; 0 of a later fragment.
    pub l4_bytes: u16,
    /// The IP packet in bytes.
    pub ip_bytes: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// TCP control bits; 0 for UDP.
    pub tcp_flags: u8,
}

impl Headers {
    /// Not parsed yet. Zeros, since those are written in place.
    pub const NONE: Self = Self {
        kind: PacketKind::Whole,
        key: FlowKey::new(
            Protocol::Tcp,
            (IpAddress::from_bytes([0; 16]), L4Port::new(0)),
            (IpAddress::from_bytes([0; 16]), L4Port::new(0)),
        ),
        l4_offset: 0,
        l4_bytes: 0,
        ip_bytes: 0,
        ttl: 0,
        tcp_flags: 0,
    };
}

impl Headers {
    /// The datagram that a fragment is of; `None` if the packet is no fragment.
    pub fn datagram(&self) -> Option<Datagram> {
        let (PacketKind::FirstFragment(id) | PacketKind::LaterFragment(id)) = self.kind else {
            return None;
        };
        let key = &self.key;
        Some(Datagram { src: key.src, dst: key.dst, protocol: key.protocol, id })
    }
}

/// A packet in a frame. The stages fill in what they find.
#[derive(Debug)]
pub struct Packet<'f> {
    /// The frame from the packet's first byte to the frame's last.
    pub buffer: &'f mut [u8],
    /// The packet's length in bytes; at most the buffer's.
    pub len: usize,
    /// Where it came in.
    pub ingress: InterfaceSlot,
    /// The owner that the XDP program read from the flow map: a reply.
    pub owner: Option<WorkerId>,
    /// It came from another worker, so it is never handed on.
    pub is_handed: bool,
    /// The VLAN tag that it came with and, once it is forwarded, leaves with. The stages see the
    /// frame without it.
    pub tag: VlanTag,
    /// What the parser found.
    pub headers: Headers,
    /// The keyed hash of its five-tuple.
    pub hash: u64,
    /// Where its flow probably is.
    pub hint: Option<Reference>,
    /// The decision.
    pub verdict: Verdict,
    /// The flow that it was forwarded along.
    pub flow: Option<FlowId>,
    /// Which part of the flow it is; of no meaning without one.
    pub traffic: Traffic,
    /// The service port that it concerned; 0 if none.
    pub service: ServiceId,
    /// What its next link takes, in bytes, where it is too big for that; else 0.
    pub too_big_for: u16,
}

impl<'f> Packet<'f> {
    /// A packet of `len` bytes at the start of `buffer`, as the receive ring gave it.
    pub fn new(buffer: &'f mut [u8], len: usize, ingress: InterfaceSlot) -> Self {
        Self {
            len: len.min(buffer.len()),
            buffer,
            ingress,
            owner: None,
            is_handed: false,
            tag: VlanTag::NONE,
            headers: Headers::NONE,
            hash: 0,
            hint: None,
            verdict: Verdict::Pending,
            flow: None,
            traffic: Traffic::Established,
            service: ServiceId(0),
            too_big_for: 0,
        }
    }

    /// Takes a VLAN tag out of the frame; false where there is none.
    #[cold]
    pub(super) fn untag(&mut self) -> bool {
        let Some(tag) = vlan::take(self.bytes_mut()) else { return false };
        self.len -= TAG_BYTES;
        self.tag = tag;
        true
    }

    /// Puts the tag in that it leaves with.
    #[cold]
    pub(super) fn retag(&mut self) {
        match vlan::put(self.buffer, self.len, self.tag) {
            Some(()) => self.len += TAG_BYTES,
            None => self.verdict = Verdict::Drop(DropReason::Nomem),
        }
    }

    /// The packet's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }

    /// The packet's bytes, to change.
    #[inline]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.get_mut(..self.len).unwrap_or_default()
    }
}
