//! The reset that a segment of an unknown flow draws (RFC 9293 section 3.10.7.1).

use crate::packet::headers::{TCP_BYTES_MIN, tcp_flags};
use crate::pipeline::packet::Packet;
use crate::pipeline::tcp::segment::{Segment, tcp_of};

/// The reset that answers this packet; `None` to a reset, which is never answered.
pub(in crate::pipeline) fn answer_to(packet: &Packet<'_>) -> Option<Segment<'static>> {
    let (tcp, options) = tcp_of(packet)?;
    if tcp.flags & tcp_flags::RST != 0 {
        return None;
    }
    let (sequence, acknowledgment, flags) = if tcp.flags & tcp_flags::ACK != 0 {
        (u32::from_be_bytes(tcp.acknowledgment), 0, tcp_flags::RST)
    } else {
        let header_bytes = TCP_BYTES_MIN + options.len();
        let data_bytes = usize::from(packet.headers.l4_bytes).checked_sub(header_bytes)?;
        let is_set = |flag| u32::from(tcp.flags & flag != 0);
        let next = u32::from_be_bytes(tcp.sequence)
            .wrapping_add(u32::try_from(data_bytes).ok()?)
            .wrapping_add(is_set(tcp_flags::SYN) + is_set(tcp_flags::FIN));
        (0, next, tcp_flags::RST | tcp_flags::ACK)
    };
    let key = packet.headers.key.reversed();
    Some(Segment { key, sequence, acknowledgment, flags, window: 0, options: &[] })
}
