//! A token bucket in one number, for what may happen only so often per second.

use crate::types::Time;
use core::time::Duration;

/// Allows so many events per second, and a burst of what a quiet time has saved.
#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the unit belongs to each")]
pub(crate) struct Limiter {
    cost_ns: u64,
    burst_ns: u64,
    /// The time up to which the allowance is spent.
    spent_until_ns: u64,
}

impl Limiter {
    /// `per_second` events, and at once at most those of `burst`.
    pub(crate) fn new(per_second: u32, burst: Duration) -> Self {
        const SECOND_NS: u64 = 1_000_000_000;
        let cost_ns = SECOND_NS / u64::from(per_second.max(1));
        let burst_ns = u64::try_from(burst.as_nanos()).unwrap_or(u64::MAX).max(cost_ns);
        Self { cost_ns, burst_ns, spent_until_ns: 0 }
    }

    /// Whether one more is allowed now; then it is spent.
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let from = self.spent_until_ns.max(now.0.saturating_sub(self.burst_ns));
        let is_allowed = from + self.cost_ns <= now.0;
        if is_allowed {
            self.spent_until_ns = from + self.cost_ns;
        }
        is_allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let mut limiter = Limiter::new(1_000, Duration::from_millis(100));
        let start = Time(5_000_000_000);
        assert_eq!((0..1_000).filter(|_| limiter.take(start)).count(), 100);
        let later = Time(start.0 + 10_000_000);
        assert_eq!((0..1_000).filter(|_| limiter.take(later)).count(), 10);
    }
}
