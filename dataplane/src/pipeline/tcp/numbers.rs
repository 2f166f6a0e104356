//! Which resets to believe: a number that nobody on the path could guess stands for the sender
//! (RFC 5961 section 3.2; net/netfilter/nf_conntrack_proto_tcp.c, `nf_conntrack_tcp_packet`).

use crate::flow_table::{Direction, FlowEntry, FlowState};
use crate::packet::headers::tcp_flags::{ACK, RST};
use crate::pipeline::packet::Packet;
use crate::pipeline::tcp::translate::distance;

/// The header up to the acknowledgment number's end.
type Numbers = [u8; 12];

/// Takes note of what a packet acknowledges; false of a reset that is not to be believed. To be
/// called before the packet is translated. What is no TCP, and later fragments, have no flags.
#[inline]
pub(in crate::pipeline) fn note(
    entry: &mut FlowEntry,
    direction: Direction,
    packet: &Packet<'_>,
) -> bool {
    let flags = packet.headers.tcp_flags;
    if flags & (ACK | RST) == 0 {
        return true;
    }
    let l4 = packet.buffer.get(usize::from(packet.headers.l4_offset)..);
    let Some(numbers) = l4.and_then(|l4| l4.first_chunk()) else { return true };
    if flags & RST != 0 {
        return is_awaited(entry, direction, numbers);
    }
    entry.acknowledge(direction, u16::from_be_bytes([numbers[10], numbers[11]]));
    true
}

/// Whether a reset of an established flow has the very number that the other side awaits. Before
/// and after that, any will do: the flow is short-lived, and its numbers may be another's. Sixteen
/// bits are enough, since the receiver compares all of them.
#[cold]
fn is_awaited(entry: &FlowEntry, direction: Direction, numbers: &Numbers) -> bool {
    if entry.state != FlowState::Established {
        return true;
    }
    let number = u32::from_be_bytes([numbers[4], numbers[5], numbers[6], numbers[7]]);
    // The flow remembers what the client saw, and this is what its backend wrote.
    let seen = match direction {
        Direction::Forward => number,
        Direction::Reply => number.wrapping_sub(distance(entry)),
    };
    u32::from(entry.awaited(direction)) == seen & 0xffff
}
