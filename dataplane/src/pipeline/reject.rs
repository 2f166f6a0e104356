//! The answer to packets that nobody serves: ICMP port unreachable (semantics D4), made in the
//! packet's own frame.

use crate::limiter::Limiter;
use crate::packet::checksum::Sum;
use crate::packet::headers::ETHERNET_BYTES;
use crate::pipeline::packet::Packet;
use crate::types::Time;
use crate::verdict::{DropReason, RejectReason, Verdict};
use core::time::Duration;

/// Answers per second and worker: the kernel's `icmp_msgs_per_sec`. More would make a gateway an
/// amplifier of spoofed floods.
const PER_SECOND: u32 = 1_000;

/// What may be answered at once: a second's allowance.
const BURST: Duration = Duration::from_secs(1);

/// The largest ICMP error (RFC 1812 section 4.3.2.3).
const PACKET_BYTES_MAX: usize = 576;

const IP_BYTES: usize = 20;
const ICMP_BYTES: usize = 8;
const QUOTE_OFFSET: usize = ETHERNET_BYTES + IP_BYTES + ICMP_BYTES;

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
fn port_unreachable(packet: &mut Packet<'_>) -> Option<()> {
    let ip_bytes = usize::from(packet.headers.ip_bytes);
    let quoted = ip_bytes.min(PACKET_BYTES_MAX - IP_BYTES - ICMP_BYTES);
    let len = QUOTE_OFFSET + quoted;
    let frame = packet.buffer.get_mut(..len)?;
    frame.copy_within(ETHERNET_BYTES..ETHERNET_BYTES + quoted, QUOTE_OFFSET);
    turn_ethernet(frame)?;
    let key = packet.headers.key.reversed();
    write_ipv4(frame, (key.src.v4_bytes(), key.dst.v4_bytes()), IP_BYTES + ICMP_BYTES + quoted)?;
    write_icmp(frame)?;
    packet.len = len;
    Some(())
}

fn turn_ethernet(frame: &mut [u8]) -> Option<()> {
    let macs = frame.first_chunk_mut::<12>()?;
    macs.rotate_left(6);
    Some(())
}

/// The source is the address that was contacted (semantics D4).
fn write_ipv4(frame: &mut [u8], (source, dst): ([u8; 4], [u8; 4]), total: usize) -> Option<()> {
    let header = frame.get_mut(ETHERNET_BYTES..)?.first_chunk_mut::<IP_BYTES>()?;
    let total = u16::try_from(total).ok()?.to_be_bytes();
    // TOS 0xc0: internetwork control (RFC 1812 section 4.3.2.5). TTL 64, protocol 1.
    *header = [0x45, 0xc0, total[0], total[1], 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    header[12..16].copy_from_slice(&source);
    header[16..20].copy_from_slice(&dst);
    let sum = Sum::default().add_bytes(header).finish();
    header[10..12].copy_from_slice(&sum);
    Some(())
}

/// Type 3 code 3 (RFC 792), over everything from the ICMP header on.
fn write_icmp(frame: &mut [u8]) -> Option<()> {
    let icmp = frame.get_mut(ETHERNET_BYTES + IP_BYTES..)?;
    *icmp.first_chunk_mut::<ICMP_BYTES>()? = [3, 3, 0, 0, 0, 0, 0, 0];
    let sum = Sum::default().add_bytes(icmp).finish();
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
