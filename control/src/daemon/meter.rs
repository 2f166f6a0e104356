//! Rates, from counters sampled each second.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::{Duration, Instant};
use tidegate_dataplane::types::{InterfaceSlot, ServiceId, WorkerId};
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// A counter that grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Series {
    /// Packets of a service port, both ways.
    ServicePackets(ServiceId),
    /// Bytes of a service port, both ways.
    ServiceBytes(ServiceId),
    /// Packets of a service port that were dropped or rejected.
    ServiceRefused(ServiceId),
    /// Packets that the XDP program saw.
    Received(InterfaceSlot),
    /// Packets put on transmit rings.
    Transmitted(InterfaceSlot),
    /// Nanoseconds that a worker spent on packets.
    Busy(WorkerId),
    /// Drops.
    Dropped(InterfaceSlot, DropReason),
    /// ICMP errors.
    Rejected(InterfaceSlot, RejectReason),
    /// Packets for the kernel.
    Passed(InterfaceSlot, PassReason),
}

/// A series that was not sampled for so long is forgotten: what it counted is gone. Several times
/// the time between two samples, or a late one would lose rates.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(5);

/// The time between two samples, for a series that has only one.
const PERIOD: Duration = Duration::from_secs(1);

#[derive(Debug, Clone, Copy)]
struct Point {
    value: u64,
    at: Instant,
    per_second: f64,
    changed: Option<Instant>,
}

/// The last two samples of every series, as a rate and a time of change.
#[derive(Debug, Default)]
pub struct Meter {
    points: BTreeMap<Series, Point>,
    began: Option<Instant>,
}

impl Meter {
    /// Takes a sample of some series.
    pub fn sample(&mut self, now: Instant, values: impl IntoIterator<Item = (Series, u64)>) {
        let began = *self.began.get_or_insert(now);
        for (series, value) in values {
            match self.points.entry(series) {
                Entry::Occupied(mut known) => {
                    let next = known.get().next(value, now);
                    known.insert(next);
                }
                Entry::Vacant(new) => {
                    // Counters that are there at the start count from then; a series that begins
                    // later began with a packet.
                    let is_first = now.saturating_duration_since(began) < PERIOD;
                    let first = Point { value, at: now, per_second: 0.0, changed: None };
                    let before = now.checked_sub(PERIOD).unwrap_or(now);
                    let zero = Point { value: 0, at: before, ..first };
                    new.insert(if is_first { first } else { zero.next(value, now) });
                }
            }
        }
    }

    /// Forgets what is not sampled any more.
    pub fn forget(&mut self, now: Instant) {
        let is_alive = |point: &Point| now.saturating_duration_since(point.at) < FORGOTTEN_AFTER;
        self.points.retain(|_, point| is_alive(point));
    }

    /// Growth per second between the last two samples.
    pub fn rate(&self, series: Series) -> f64 {
        self.points.get(&series).map_or(0.0, |point| point.per_second)
    }

    /// Seconds since it was last seen growing; none if it never was.
    pub fn seconds_since_change(&self, series: Series, now: Instant) -> Option<u64> {
        let changed = self.points.get(&series)?.changed?;
        Some(now.saturating_duration_since(changed).as_secs())
    }
}

impl Point {
    fn next(self, value: u64, now: Instant) -> Self {
        // A counter that fell began anew, as when a slot got another user: no negative rates.
        let growth = value.saturating_sub(self.value);
        let changed = if growth > 0 { Some(now) } else { self.changed };
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        Self { value, at: now, per_second: per_second(growth, seconds), changed }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are shown with four digits")]
fn per_second(growth: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { growth as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Series = Series::Received(InterfaceSlot(1));
    const B: Series = Series::Received(InterfaceSlot(2));

    fn expect_rate(meter: &Meter, series: Series, expected: f64) {
        assert!((meter.rate(series) - expected).abs() < 1e-6, "{}", meter.rate(series));
    }

    #[test]
    fn a_rate_is_growth_by_time() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        meter.sample(start, [(A, 100)]);
        expect_rate(&meter, A, 0.0);
        assert_eq!(meter.seconds_since_change(A, start), None);
        meter.sample(start + Duration::from_secs(2), [(A, 300), (B, 10)]);
        expect_rate(&meter, A, 100.0);
        expect_rate(&meter, B, 10.0);
    }

    #[test]
    fn the_last_change_is_remembered_while_nothing_happens() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        meter.sample(start, [(A, 1)]);
        meter.sample(second(1), [(A, 2)]);
        meter.sample(second(9), [(A, 2)]);
        expect_rate(&meter, A, 0.0);
        assert_eq!(meter.seconds_since_change(A, second(9)), Some(8));
    }

    #[test]
    fn a_counter_that_began_anew_has_no_negative_rate() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        meter.sample(start, [(A, 100)]);
        meter.sample(start + Duration::from_secs(1), [(A, 3)]);
        expect_rate(&meter, A, 0.0);
    }

    #[test]
    fn a_series_that_is_not_sampled_any_more_is_forgotten_and_others_stay() {
        let (mut meter, start) = (Meter::default(), Instant::now());
        let second = |n| start + Duration::from_secs(n);
        meter.sample(start, [(A, 1), (B, 1)]);
        for n in 1..=6 {
            meter.sample(second(n), [(A, 1 + n)]);
            meter.forget(second(n));
        }
        expect_rate(&meter, A, 1.0);
        assert_eq!(meter.points.keys().copied().collect::<Vec<_>>(), [A]);
    }
}
