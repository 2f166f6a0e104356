//! The answer to packets that nobody serves: ICMP or ICMPv6 port unreachable (semantics D4),
//! made in the packet's own frame.

use crate::limiter::Limiter;
use crate::packet::checksum::{self, Sum};
use crate::packet::headers::{ETHERNET_BYTES, IPV4_BYTES_MIN, IPV6_BYTES, protocol};
use crate::pipeline::packet::Packet;
use crate::types::{FlowKey, Time};
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

const ICMP_BYTES: usize = 8;

/// Answers, as many as may be.
#[derive(Debug)]
pub(super) struct Rejects(Limiter);

impl Default for Rejects {
    fn default() -> Self {
        Self(Limiter::new(PER_SECOND, BURST))
    }
}

impl Rejects {
    /// Turns a packet into its answer, or drops it where there were too many.
    pub(super) fn answer(
        &mut self,
        packet: &mut Packet<'_>,
        reason: RejectReason,
        now: Time,
    ) -> Verdict {
        if !self.0.take(now) {
            return Verdict::Drop(DropReason::RateLimited);
        }
        match port_unreachable(packet) {
            Some(()) => Verdict::Reject(reason),
            None => Verdict::Drop(DropReason::Nomem),
        }
    }
}

/// Writes Ethernet, IP and ICMP headers before the quoted packet. `None` if the frame is too small.
/// The parser let no packet through whose source must not be answered (RFC 1122 section 3.2.2,
/// RFC 4443 section 2.4 (e)).
fn port_unreachable(packet: &mut Packet<'_>) -> Option<()> {
    let (header_bytes, error_bytes_max) = if packet.headers.key.src.is_v4() {
        (IPV4_BYTES_MIN, IPV4_ERROR_BYTES_MAX)
    } else {
        (IPV6_BYTES, IPV6_ERROR_BYTES_MAX)
    };
    let room = error_bytes_max - header_bytes - ICMP_BYTES;
    let quoted = usize::from(packet.headers.ip_bytes).min(room);
    let quote_offset = ETHERNET_BYTES + header_bytes + ICMP_BYTES;
    let frame = packet.buffer.get_mut(..quote_offset + quoted)?;
    frame.copy_within(ETHERNET_BYTES..ETHERNET_BYTES + quoted, quote_offset);
    turn_ethernet(frame)?;
    let (header, icmp) = frame.get_mut(ETHERNET_BYTES..)?.split_at_mut_checked(header_bytes)?;
    // The source is the address that was contacted (semantics D4).
    let key = packet.headers.key.reversed();
    if key.src.is_v4() {
        write_ipv4(header, &key, icmp.len())?;
        // Type 3 code 3 (RFC 792).
        write_icmp(icmp, [3, 3], Sum::default())?;
    } else {
        write_ipv6(header, &key, icmp.len())?;
        // Type 1 code 4 (RFC 4443 section 3.1).
        let pseudo = checksum::pseudo_header_of(&key, protocol::ICMPV6, icmp.len());
        write_icmp(icmp, [1, 4], pseudo)?;
    }
    packet.len = quote_offset + quoted;
    Some(())
}

fn turn_ethernet(frame: &mut [u8]) -> Option<()> {
    let macs = frame.first_chunk_mut::<12>()?;
    macs.rotate_left(6);
    Some(())
}

fn write_ipv4(header: &mut [u8], key: &FlowKey, payload_bytes: usize) -> Option<()> {
    let header = header.first_chunk_mut::<IPV4_BYTES_MIN>()?;
    let [high, low] = u16::try_from(IPV4_BYTES_MIN + payload_bytes).ok()?.to_be_bytes();
    // TOS 0xc0: internetwork control (RFC 1812 section 4.3.2.5). TTL 64.
    let (ttl, icmp) = (64, protocol::ICMP);
    *header = [0x45, 0xc0, high, low, 0, 0, 0, 0, ttl, icmp, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&key.src.v4_bytes());
    header[16..20].copy_from_slice(&key.dst.v4_bytes());
    let sum = Sum::default().add_bytes(header).finish();
    header[10..12].copy_from_slice(&sum);
    Some(())
}

fn write_ipv6(header: &mut [u8], key: &FlowKey, payload_bytes: usize) -> Option<()> {
    let header = header.first_chunk_mut::<IPV6_BYTES>()?;
    let [high, low] = u16::try_from(payload_bytes).ok()?.to_be_bytes();
    // Hop limit 64.
    header[..8].copy_from_slice(&[0x60, 0, 0, 0, high, low, protocol::ICMPV6, 64]);
    header[8..24].copy_from_slice(key.src.bytes());
    header[24..].copy_from_slice(key.dst.bytes());
    Some(())
}

/// The ICMP header before its quote. `pseudo` is what the checksum covers besides both.
fn write_icmp(icmp: &mut [u8], [kind, code]: [u8; 2], pseudo: Sum) -> Option<()> {
    *icmp.first_chunk_mut::<ICMP_BYTES>()? = [kind, code, 0, 0, 0, 0, 0, 0];
    let sum = pseudo.add_bytes(icmp).finish();
    icmp.get_mut(2..4)?.copy_from_slice(&sum);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limiter_allows_a_second_of_burst_and_then_its_rate() {
        let mut limiter = Rejects::default().0;
        let start = Time(10_000_000_000);
        assert_eq!((0..5_000).filter(|_| limiter.take(start)).count(), 1_000);
        let later = Time(start.0 + 10_000_000);
        assert_eq!((0..5_000).filter(|_| limiter.take(later)).count(), 10);
    }
}
