//! An IPv4 packet that is larger than the next link takes, and that its sender lets be fragmented,
//! leaves in pieces (RFC 791 section 3.2). They are those of the kernel (`ip_do_fragment`): each as
//! large as the link takes, under the sender's number, headers all of one length.

use crate::packet::checksum::Sum;
use crate::packet::headers::{ETHERNET_BYTES, IPV4_BYTES_MIN, Ipv4};
use crate::packet::options;
use crate::packet::vlan::{self, TAG_BYTES};
use crate::pipeline::generated::{Generated, PIECES_MAX};
use crate::pipeline::packet::Packet;
use crate::pipeline::rewrite::Link;
use crate::stats::WorkerCounters;
use zerocopy::FromBytes;

const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// What an offset counts in bytes.
const UNIT_BYTES: usize = 8;

/// The largest IP packet; of a datagram in fragments no part lies behind it.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// Whether a packet that is larger than its link takes may leave in pieces, and there is room for
/// them.
#[cold]
pub(in crate::pipeline) fn may_be_cut(
    packet: &Packet<'_>,
    mtu_bytes: u16,
    generated: &Generated,
) -> bool {
    let has_room = |plan: Plan| generated.has_room(plan.pieces - 1, plan.bytes());
    Plan::of(packet, mtu_bytes).is_some_and(has_room)
}

/// Cuts a packet that is rewritten: it becomes the first of its pieces, the others are made.
#[cold]
pub(in crate::pipeline) fn cut(
    packet: &mut Packet<'_>,
    link: &Link,
    generated: &mut Generated,
    counters: &WorkerCounters,
) {
    let Some(plan) = Plan::of(packet, link.mtu_bytes) else { return };
    for number in 1..plan.pieces {
        plan.make(packet.bytes(), number, link, generated);
    }
    plan.shorten(packet);
    counters.work.fragmented_packets.add(1);
}

/// How a packet is cut.
#[derive(Clone, Copy)]
struct Plan {
    /// Bytes of its IP header.
    header_bytes: usize,
    /// Bytes behind that.
    payload_bytes: usize,
    /// Those of each piece but the last.
    piece_bytes: usize,
    pieces: usize,
    /// Where the packet is in its datagram, in units: it may be a fragment itself.
    offset: usize,
    /// It is not the last fragment.
    has_more: bool,
}

impl Plan {
    /// `None` where it must not be cut, or not into so many pieces.
    fn of(packet: &Packet<'_>, mtu_bytes: u16) -> Option<Self> {
        if !packet.headers.key.src.is_v4() {
            return None;
        }
        let (ip, _) = Ipv4::ref_from_prefix(packet.bytes().get(ETHERNET_BYTES..)?).ok()?;
        let place = ip.fragment.get();
        let header_bytes = ip.header_bytes();
        let payload_bytes = usize::from(packet.headers.ip_bytes).checked_sub(header_bytes)?;
        let room = usize::from(mtu_bytes).checked_sub(header_bytes)?;
        let piece_bytes = room - room % UNIT_BYTES;
        let pieces = (piece_bytes > 0).then(|| payload_bytes.div_ceil(piece_bytes))?;
        let offset = usize::from(place & OFFSET);
        let end = header_bytes + offset * UNIT_BYTES + payload_bytes;
        let may_be = place & DONT_FRAGMENT == 0
            && (2..=PIECES_MAX).contains(&pieces)
            && end <= DATAGRAM_BYTES_MAX;
        let has_more = place & MORE_FRAGMENTS != 0;
        let plan = Self { header_bytes, payload_bytes, piece_bytes, pieces, offset, has_more };
        may_be.then_some(plan)
    }

    /// More than the frames of all pieces but the first have.
    fn bytes(&self) -> usize {
        let headers_bytes = ETHERNET_BYTES + TAG_BYTES + self.header_bytes;
        (self.pieces - 1) * headers_bytes + self.payload_bytes
    }

    /// Makes the piece with this number of the packet in `frame`, as it goes onto the wire.
    fn make(
        &self,
        frame: &[u8],
        number: usize,
        link: &Link,
        generated: &mut Generated,
    ) -> Option<()> {
        let headers = frame.get(..ETHERNET_BYTES + self.header_bytes)?;
        let payload = frame.get(headers.len()..headers.len() + self.payload_bytes)?;
        let data = payload.chunks(self.piece_bytes).nth(number)?;
        let (length, has_tag) = (headers.len() + data.len(), link.tag.is_some());
        let place = generated.add(link.egress, length + if has_tag { TAG_BYTES } else { 0 })?;
        let (head, rest) = place.split_at_mut_checked(headers.len())?;
        head.copy_from_slice(headers);
        rest.get_mut(..data.len())?.copy_from_slice(data);
        let header = head.get_mut(ETHERNET_BYTES..)?;
        options::blank_uncopied(header.get_mut(IPV4_BYTES_MIN..)?);
        self.place(header, number, data.len())?;
        if has_tag { vlan::put(place, length, link.tag) } else { Some(()) }
    }

    /// Makes of the packet its first piece.
    fn shorten(&self, packet: &mut Packet<'_>) -> Option<()> {
        let header = packet.bytes_mut().get_mut(ETHERNET_BYTES..)?.get_mut(..self.header_bytes)?;
        self.place(header, 0, self.piece_bytes)?;
        packet.len = ETHERNET_BYTES + self.header_bytes + self.piece_bytes;
        Some(())
    }

    /// Writes into a piece's header which it is.
    fn place(&self, header: &mut [u8], number: usize, data_bytes: usize) -> Option<()> {
        let has_more = self.has_more || number + 1 < self.pieces;
        let offset = u16::try_from(self.offset + number * self.piece_bytes / UNIT_BYTES).ok()?;
        let place = offset | if has_more { MORE_FRAGMENTS } else { 0 };
        let total = u16::try_from(self.header_bytes + data_bytes).ok()?;
        let fixed = header.first_chunk_mut::<IPV4_BYTES_MIN>()?;
        fixed[2..4].copy_from_slice(&total.to_be_bytes());
        fixed[6..8].copy_from_slice(&place.to_be_bytes());
        fixed[10..12].fill(0);
        let sum = Sum::default().add_bytes(header).finish();
        header.get_mut(10..12)?.copy_from_slice(&sum);
        Some(())
    }
}
