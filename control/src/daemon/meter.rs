//! Rates, from counters sampled each second.

use std::collections::BTreeMap;
use std::time::Instant;
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

#[derive(Debug, Clone, Copy)]
struct Point {
    value: u64,
    per_second: f64,
    changed: Option<Instant>,
}

/// The last two samples of every series, as a rate and a time of change.
#[derive(Debug, Default)]
pub struct Meter {
    points: BTreeMap<Series, Point>,
    at: Option<Instant>,
}

impl Meter {
    /// Takes a sample of all series. Those that are not in it are forgotten.
    pub fn sample(&mut self, now: Instant, values: impl IntoIterator<Item = (Series, u64)>) {
        let seconds = self.at.map(|before| (now - before).as_secs_f64());
        let before = core::mem::take(&mut self.points);
        let mut next = BTreeMap::new();
        for (series, value) in values {
            let point = match (before.get(&series), seconds) {
                (Some(point), Some(seconds)) => point.next(value, seconds, now),
                // A series that begins after the first sample began with a packet.
                (None, Some(seconds)) => {
                    Point { value: 0, per_second: 0.0, changed: None }.next(value, seconds, now)
                }
                (_, None) => Point { value, per_second: 0.0, changed: None },
            };
            next.insert(series, point);
        }
        self.points = next;
        self.at = Some(now);
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
    fn next(self, value: u64, seconds: f64, now: Instant) -> Self {
        // A counter that fell began anew, as when a slot got another user: no negative rates.
        let growth = value.saturating_sub(self.value);
        let changed = if growth > 0 { Some(now) } else { self.changed };
        Self { value, per_second: per_second(growth, seconds), changed }
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates are shown with four digits")]
fn per_second(growth: u64, seconds: f64) -> f64 {
    if seconds > 0.0 { growth as f64 / seconds } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

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
        expect_rate(&meter, B, 5.0);
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
        meter.sample(start + Duration::from_secs(2), []);
        expect_rate(&meter, A, 0.0);
    }
}
