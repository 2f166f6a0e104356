//! How often the API server may be asked: `clientConnection.qps` and `burst`.

use crate::config::ClientConnection;
use std::time::Duration;
use tokio::time::Instant;

/// A token bucket that tells when the next request may go. Requests beyond it wait in line; none
/// is refused.
#[derive(Debug)]
pub(super) struct Pace {
    /// What one request costs.
    cost: Duration,
    /// The most that a quiet time saves up.
    burst: Duration,
    /// The time up to which the allowance is spent.
    spent_until: Instant,
}

impl Pace {
    pub(super) fn new(connection: &ClientConnection, now: Instant) -> Self {
        let cost = Duration::from_secs(1) / connection.qps.max(1);
        let burst = cost * connection.burst.max(1);
        // Full at the start: the three kinds are asked for at once.
        let spent_until = now.checked_sub(burst).unwrap_or(now);
        Self { cost, burst, spent_until }
    }

    /// When one more request may go; it is then paid for.
    pub(super) fn take(&mut self, now: Instant) -> Instant {
        let saved_from = now.checked_sub(self.burst).unwrap_or(now);
        self.spent_until = self.spent_until.max(saved_from) + self.cost;
        self.spent_until.max(now)
    }

    /// Nothing before `until`: the server asked for it.
    pub(super) fn pause(&mut self, until: Instant) {
        self.spent_until = self.spent_until.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_goes_at_once_and_then_the_rate() {
        let start = Instant::now() + Duration::from_hours(1);
        let connection = ClientConnection { qps: 10, burst: 3, ..ClientConnection::default() };
        let mut pace = Pace::new(&connection, start);
        let waits: Vec<_> = (0..5).map(|_| (pace.take(start) - start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        let later = start + Duration::from_mins(1);
        let waits: Vec<_> = (0..4).map(|_| (pace.take(later) - later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }

    #[test]
    fn a_pause_holds_every_request() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut pace = Pace::new(&ClientConnection::default(), start);
        pace.pause(start + Duration::from_secs(1));
        assert!(pace.take(start) >= start + Duration::from_secs(1));
    }
}
