//! When each packet is to go: fixed by the rate alone. A packet that goes late is late, and those
//! after it do not wait for it, so that no stall of the tested hides from the latencies that it
//! caused (as wrk2 does; "coordinated omission").

use std::time::Duration;

/// The intended send times of one load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// The first packet's time, `CLOCK_MONOTONIC`.
    pub(crate) start_ns: u64,
    /// Between two packets.
    spacing_ps: u64,
    /// How many packets.
    pub(crate) total: u64,
}

impl Schedule {
    /// Packets at `rate_pps` (1 or more) over `duration`.
    pub(crate) fn new(start_ns: u64, rate_pps: f64, duration: Duration) -> Self {
        let total = whole(rate_pps * duration.as_secs_f64()).max(1);
        Self { start_ns, spacing_ps: whole(1e12 / rate_pps).max(1), total }
    }

    /// When packet `number` (from 0) is to go.
    #[inline]
    pub(crate) fn due_ns(&self, number: u64) -> u64 {
        self.start_ns + number * self.spacing_ps / 1_000
    }

    /// How many packets should have gone by `now_ns`.
    #[inline]
    pub(crate) fn owed(&self, now_ns: u64) -> u64 {
        match now_ns.checked_sub(self.start_ns) {
            None => 0,
            Some(past_ns) => (past_ns * 1_000 / self.spacing_ps + 1).min(self.total),
        }
    }

    /// When the last packet's turn is over.
    pub(crate) fn end_ns(&self) -> u64 {
        self.due_ns(self.total)
    }
}

#[expect(clippy::cast_possible_truncation, reason = "saturates: packets of an hour fit")]
#[expect(clippy::cast_sign_loss, reason = "rates are not negative")]
fn whole(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_does_not_move_the_schedule() {
        let schedule = Schedule::new(1_000, 1e6, Duration::from_millis(1));
        assert_eq!((schedule.total, schedule.end_ns()), (1_000, 1_001_000));
        assert_eq!(schedule.owed(999), 0);
        assert_eq!(schedule.owed(1_000), 1);
        assert_eq!(schedule.owed(4_500), 4);
        // After a stall of half a millisecond all that fell due is owed, each with its own time.
        assert_eq!(schedule.owed(501_000), 501);
        assert_eq!((schedule.due_ns(4), schedule.due_ns(5)), (5_000, 6_000));
        assert_eq!(schedule.owed(u64::MAX / 2_000), 1_000);
    }
}
