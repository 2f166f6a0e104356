//! Whether the packet path follows the cluster (semantics H11). Pure: the time is passed in.

use std::time::{Duration, Instant, SystemTime};

/// How soon a publication that failed is tried again: kube-proxy's `syncPeriod` (semantics J2).
pub const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// A change that has waited for longer makes the node unhealthy (semantics H11).
const WAIT_MAX: Duration = SYNC_PERIOD.saturating_mul(2);

/// A worker that has not beaten for so long counts as hung. The packet path is given up at the
/// same age (T2), and a worker is told to us when it is a second old.
const SILENCE_MAX: Duration = Duration::from_secs(9);

/// How far the packet path is behind what was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Freshness {
    waiting_since: Option<Instant>,
    published: Option<SystemTime>,
    silent_since: Option<Instant>,
}

impl Freshness {
    /// A change came that is not published yet. The oldest one counts.
    pub fn queued(&mut self, now: Instant) {
        self.waiting_since.get_or_insert(now);
    }

    /// Everything that came is published.
    pub fn published(&mut self, wall: SystemTime) {
        self.waiting_since = None;
        self.published = Some(wall);
    }

    /// Whether every worker beat lately.
    pub fn heard_workers(&mut self, all_beat: bool, now: Instant) {
        self.silent_since = if all_beat { None } else { self.silent_since.or(Some(now)) };
    }

    /// Whether no change waits for too long and no worker hangs. Healthy while starting.
    pub fn is_healthy(&self, now: Instant) -> bool {
        let is_within = |since: Option<Instant>, max| {
            since.is_none_or(|since| now.saturating_duration_since(since) < max)
        };
        is_within(self.waiting_since, WAIT_MAX) && is_within(self.silent_since, SILENCE_MAX)
    }

    /// When something was published last.
    pub fn last_published(&self) -> Option<SystemTime> {
        self.published
    }

    /// Whether a change waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting_since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h11_the_oldest_waiting_change_counts_and_a_publication_ends_the_wait() {
        let (mut freshness, start) = (Freshness::default(), Instant::now());
        assert!(freshness.is_healthy(start), "healthy while starting");
        freshness.queued(start);
        freshness.queued(start + Duration::from_secs(59));
        assert!(freshness.is_healthy(start + Duration::from_secs(59)));
        assert!(!freshness.is_healthy(start + Duration::from_mins(1)));
        freshness.published(SystemTime::UNIX_EPOCH);
        assert!(freshness.is_healthy(start + Duration::from_hours(1)) && !freshness.is_waiting());
    }

    #[test]
    fn h12_a_worker_that_hangs_is_not_healthy_until_it_beats_again() {
        let (mut freshness, start) = (Freshness::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        freshness.heard_workers(false, start);
        freshness.heard_workers(false, second(8));
        assert!(freshness.is_healthy(second(8)) && !freshness.is_healthy(second(9)));
        freshness.heard_workers(true, second(10));
        assert!(freshness.is_healthy(second(10)));
    }
}
