//! Our own errors, made in the frame of the packet that met them: port unreachable where nobody
//! serves (semantics D4), time exceeded, and what tells a sender the MTU.

use crate::flow_table::{Direction, FlowTable};
use crate::limiter::Limiter;
use crate::packet::checksum::{self, Sum};
use crate::packet::headers::{ETHERNET_BYTES, protocol};
use crate::packet::icmp::{self, ICMP_BYTES};
use crate::packet::ip::{self, IpFields};
use crate::pipeline::packet::Packet;
use crate::pipeline::rewrite::turn_ethernet;
use crate::pipeline::tcp::reset;
use crate::snapshot::Snapshot;
use crate::types::{FlowKey, IpAddress, Time};
use crate::verdict::{DropReason, RejectReason, Verdict};
use core::time::Duration;

/// Answers per second and worker: the kernel's `icmp_msgs_per_sec`. More would make a gateway an
/// amplifier of spoofed floods.
const PER_SECOND: u32 = 1_000;

/// What may be answered at once: a second's allowance.
const BURST: Duration = Duration::from_secs(1);

/// The largest ICMP error (RFC 1812 section 4.3.2.3).
const IPV4_ERROR_BYTES_MAX: usize = 576;

/// The largest ICMPv6 error: the least MTU (RFC 4443 section 2.4 (c)).
const IPV6_ERROR_BYTES_MAX: usize = 1280;

/// Answers, as many as may be.
#[derive(Debug)]
pub(in crate::pipeline) struct Answers(Limiter);

impl Default for Answers {
    fn default() -> Self {
        Self(Limiter::new(PER_SECOND, BURST))
    }
}

impl Answers {
    /// Turns a packet into its answer, or drops it where its sender cannot or may not be told.
    #[cold]
    pub(in crate::pipeline) fn answer(
        &mut self,
        (flows, snapshot): (&FlowTable, &Snapshot),
        packet: &mut Packet<'_>,
        reason: RejectReason,
        now: Time,
    ) -> Verdict {
        let (message, untold) = match reason {
            RejectReason::TcpNotSyn => return self.reset(packet, now),
            // It is the answer already.
            RejectReason::SynCookie => return Verdict::Reject(reason),
            RejectReason::NoEndpoints => {
                (Some(port_unreachable(&packet.headers.key)), DropReason::RateLimited)
            }
            RejectReason::TtlExceeded => {
                (time_exceeded(flows, packet, snapshot), DropReason::TtlExceeded)
            }
            RejectReason::PktTooBig => (too_big(flows, packet, snapshot), DropReason::PktTooBig),
        };
        // Only what can be said counts against the limit.
        let Some(message) = message.filter(|_| self.0.take(now)) else {
            return Verdict::Drop(untold);
        };
        write(packet, &message)
            .map_or(Verdict::Drop(DropReason::Nomem), |()| Verdict::Reject(reason))
    }

    fn reset(&mut self, packet: &mut Packet<'_>, now: Time) -> Verdict {
        let Some(reset) = reset::answer_to(packet) else {
            return Verdict::Drop(DropReason::TcpNotSyn);
        };
        if !self.0.take(now) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        let written = reset.turn(packet);
        written
            .map_or(Verdict::Drop(DropReason::Nomem), |()| Verdict::Reject(RejectReason::TcpNotSyn))
    }
}

/// What an answer says.
struct Message {
    /// An address of ours.
    source: IpAddress,
    /// ICMP type and code.
    kind: [u8; 2],
    /// What a packet may have at most, where the type tells it.
    mtu_bytes: u16,
}

/// From the address that was contacted (semantics D4).
fn port_unreachable(key: &FlowKey) -> Message {
    let kind = if key.src.is_v4() {
        [icmp::v4::UNREACHABLE, icmp::v4::PORT_UNREACHABLE]
    } else {
        [icmp::v6::UNREACHABLE, icmp::v6::PORT_UNREACHABLE]
    };
    Message { source: key.dst, kind, mtu_bytes: 0 }
}

fn time_exceeded(flows: &FlowTable, packet: &Packet<'_>, snapshot: &Snapshot) -> Option<Message> {
    let source = source(flows, packet, snapshot)?;
    let kind = if source.is_v4() { icmp::v4::TIME_EXCEEDED } else { icmp::v6::TIME_EXCEEDED };
    Some(Message { source, kind: [kind, 0], mtu_bytes: 0 })
}

/// `None` for IPv4 without DF that cannot be cut: its sender would not heed the answer.
fn too_big(flows: &FlowTable, packet: &Packet<'_>, snapshot: &Snapshot) -> Option<Message> {
    const DONT_FRAGMENT: u8 = 0x40;
    let (source, mtu_bytes) = (source(flows, packet, snapshot)?, packet.too_big_for);
    if !source.is_v4() {
        return Some(Message { source, kind: [icmp::v6::TOO_BIG, 0], mtu_bytes });
    }
    let flags = packet.bytes().get(ETHERNET_BYTES + 6)?;
    let kind = [icmp::v4::UNREACHABLE, icmp::v4::FRAGMENTATION_NEEDED];
    (flags & DONT_FRAGMENT != 0).then_some(Message { source, kind, mtu_bytes })
}

/// Our address on the packet's way. A client contacted one of ours, also where its flow has not
/// begun; a backend under policy Local contacts the client, so its answer comes from where we
/// masquerade.
fn source(flows: &FlowTable, packet: &Packet<'_>, snapshot: &Snapshot) -> Option<IpAddress> {
    let key = &packet.headers.key;
    let source = match flows.find(key, packet.hash) {
        Some((id, Direction::Reply)) => snapshot.next_hop(flows.entry(id)?.next_hop)?.snat_address,
        Some((_, Direction::Forward)) | None => Some(key.dst),
    };
    source.filter(|source| source.is_v4() == key.src.is_v4())
}

/// Writes Ethernet, IP and ICMP headers before the quoted packet. `None` if the frame is too small.
/// The parser let no packet through whose source must not be answered (RFC 1122 section 3.2.2,
/// RFC 4443 section 2.4 (e)).
fn write(packet: &mut Packet<'_>, message: &Message) -> Option<()> {
    let mut key = packet.headers.key.reversed();
    key.src = message.source;
    let header_bytes = ip::header_bytes(&key);
    let error_bytes_max = if key.src.is_v4() { IPV4_ERROR_BYTES_MAX } else { IPV6_ERROR_BYTES_MAX };
    let room = error_bytes_max - header_bytes - ICMP_BYTES;
    let quoted = usize::from(packet.headers.ip_bytes).min(room);
    let quote_offset = ETHERNET_BYTES + header_bytes + ICMP_BYTES;
    let frame = packet.buffer.get_mut(..quote_offset + quoted)?;
    frame.copy_within(ETHERNET_BYTES..ETHERNET_BYTES + quoted, quote_offset);
    turn_ethernet(frame)?;
    let (header, icmp) = frame.get_mut(ETHERNET_BYTES..)?.split_at_mut_checked(header_bytes)?;
    let (protocol, pseudo) = if key.src.is_v4() {
        (protocol::ICMP, Sum::default())
    } else {
        let pseudo = checksum::pseudo_header_of(&key, protocol::ICMPV6, icmp.len());
        (protocol::ICMPV6, pseudo)
    };
    // TOS 0xc0: internetwork control (RFC 1812 section 4.3.2.5).
    ip::write(header, &key, IpFields { protocol, tos: 0xc0, is_whole: false }, icmp.len())?;
    write_icmp(icmp, message, pseudo)?;
    packet.len = quote_offset + quoted;
    Some(())
}

/// The ICMP header before its quote. `pseudo` is what the checksum covers besides both. The MTU
/// stands in the last bytes in both families (RFC 1191 section 4, RFC 4443 section 3.2).
fn write_icmp(icmp: &mut [u8], message: &Message, pseudo: Sum) -> Option<()> {
    let ([kind, code], [high, low]) = (message.kind, message.mtu_bytes.to_be_bytes());
    *icmp.first_chunk_mut::<ICMP_BYTES>()? = [kind, code, 0, 0, 0, 0, high, low];
    let sum = pseudo.add_bytes(icmp).finish();
    icmp.get_mut(2..4)?.copy_from_slice(&sum);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_allows_a_second_of_burst_and_then_its_rate() {
        let mut limiter = Answers::default().0;
        let start = Time(10_000_000_000);
        assert_eq!((0..5_000).filter(|_| limiter.take(start)).count(), 1_000);
        let later = Time(start.0 + 10_000_000);
        assert_eq!((0..5_000).filter(|_| limiter.take(later)).count(), 10);
    }
}
