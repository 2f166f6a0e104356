//! The loop around both senders: when the next burst is due, and when it is over.

use super::{Load, Rate, Sent};
use anyhow::Result;
use core::hint::spin_loop;
use rustix::time::{ClockId, clock_gettime};
use std::time::{Duration, Instant};

/// Calls `send_burst` (which returns how many packets it sent) at the load's rate until its time is
/// over. A burst is due when its first packet is; one that comes late is not waited for.
pub(super) fn run(load: &Load, mut send_burst: impl FnMut() -> Result<u64>) -> Result<Sent> {
    let cpu_start = thread_time();
    let start = Instant::now();
    let mut packets = 0;
    loop {
        let elapsed = start.elapsed();
        if elapsed >= load.duration {
            return Ok(Sent {
                packets,
                elapsed,
                cpu_time: thread_time().saturating_sub(cpu_start),
            });
        }
        if is_due(load.rate, packets, elapsed) {
            packets += send_burst()?;
        } else {
            spin_loop();
        }
    }
}

fn is_due(rate: Rate, packets: u64, elapsed: Duration) -> bool {
    match rate {
        Rate::Full => true,
        Rate::Paced(pps) => crate::numbers::float(packets) <= elapsed.as_secs_f64() * pps,
    }
}

/// CPU time of this thread since it began.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
