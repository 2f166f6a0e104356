//! When the next burst is due, and when it is over.

use super::{Load, Rate, Sent};
use anyhow::Result;
use core::hint::spin_loop;
use std::time::{Duration, Instant};

/// Later than this, the lost time is not made up for by a burst. The same in `bpf/blast.bpf.c`.
const LATE_MAX: Duration = Duration::from_micros(100);

/// Calls `send_burst` (which returns how many packets it sent) at the load's rate until its time is
/// over.
pub(super) fn run(load: &Load, mut send_burst: impl FnMut() -> Result<u64>) -> Result<Sent> {
    let spacing = match load.rate {
        Rate::Paced(pps) => Duration::from_secs_f64(1.0 / pps),
        Rate::Full => Duration::ZERO,
    };
    let start = Instant::now();
    let (mut packets, mut due) = (0, Duration::ZERO);
    loop {
        let elapsed = start.elapsed();
        if elapsed >= load.duration {
            return Ok(Sent { packets, elapsed });
        }
        if elapsed < due {
            spin_loop();
            continue;
        }
        let sent = send_burst()?;
        packets += sent;
        let from = if elapsed.saturating_sub(due) > LATE_MAX { elapsed } else { due };
        due = from + spacing * u32::try_from(sent)?;
    }
}
