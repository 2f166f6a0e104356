//! What was recorded in one interval, small enough to keep many: histograms as `HdrHistogram`
//! writes them, a few hundred bytes instead of 24 KiB each.

use core::array;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer as _, V2Serializer};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tidegate_dataplane::stats::latency::empty_histogram;
use tidegate_dataplane::stats::{LatencySet, Stage, Traffic};
use tidegate_dataplane::types::WorkerId;

/// Intervals that are kept in memory, the oldest go first: five minutes at the default second,
/// under a megabyte for each worker. A reader that comes less often misses some.
const INTERVALS_MAX: usize = 300;

/// One interval.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Its number since the start, from 1 on.
    pub number: u64,
    /// When it began.
    pub start: SystemTime,
    /// How long it was.
    pub length: Duration,
    /// What each worker recorded, also where that is nothing.
    pub workers: Vec<(WorkerId, Packed)>,
}

/// One worker's histograms, by kind and stage; no bytes where nothing was recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Packed([[Box<[u8]>; Stage::ALL.len()]; Traffic::ALL.len()]);

impl Packed {
    /// Packs a set.
    pub fn new(set: &LatencySet) -> Self {
        let of = |traffic| move |stage| pack(set.of(Traffic::ALL[traffic], Stage::ALL[stage]));
        Self(array::from_fn(|traffic| array::from_fn(of(traffic))))
    }

    /// Adds the counts to a set.
    pub fn add_to(&self, set: &mut LatencySet) {
        for &traffic in Traffic::ALL {
            for &stage in Stage::ALL {
                self.add_one(traffic, stage, set.of_mut(traffic, stage));
            }
        }
    }

    /// One stage's histogram, of one kind or of all.
    pub fn histogram(&self, stage: Stage, kind: Option<Traffic>) -> Histogram<u64> {
        let mut sum = empty_histogram();
        let wanted =
            Traffic::ALL.iter().filter(|traffic| kind.is_none_or(|kind| kind == **traffic));
        wanted.for_each(|traffic| self.add_one(*traffic, stage, &mut sum));
        sum
    }

    fn add_one(&self, traffic: Traffic, stage: Stage, sum: &mut Histogram<u64>) {
        let mut bytes = &*self.0[traffic as usize][stage as usize];
        if bytes.is_empty() {
            return;
        }
        // Our own bytes, with our own bounds: neither reading nor adding can fail.
        if let Ok(read) = Deserializer::new().deserialize::<u64, _>(&mut bytes) {
            sum.add(read).ok();
        }
    }
}

fn pack(histogram: &Histogram<u64>) -> Box<[u8]> {
    let mut bytes = Vec::new();
    if !histogram.is_empty() {
        // Writing to a vector cannot fail, and no count reaches 2^63.
        V2Serializer::new().serialize(histogram, &mut bytes).ok();
    }
    bytes.into()
}

/// Which intervals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// Those that ended within this time.
    pub window: Option<Duration>,
    /// Those that came after this number.
    pub after: Option<u64>,
}

impl Span {
    /// Whether it names any; else everything since start or reset is meant.
    pub fn is_some(&self) -> bool {
        self.window.is_some() || self.after.is_some()
    }

    fn holds(&self, interval: &Interval, now: SystemTime) -> bool {
        // A clock that was set back: the interval is told rather than lost.
        let age = now.duration_since(interval.start + interval.length).unwrap_or_default();
        self.window.is_none_or(|window| age < window)
            && self.after.is_none_or(|after| interval.number > after)
    }
}

/// The last intervals.
#[derive(Debug, Default)]
pub struct History(VecDeque<Arc<Interval>>);

impl History {
    /// Keeps one more, and forgets the oldest where there are too many.
    pub fn add(&mut self, interval: Arc<Interval>) {
        if self.0.len() >= INTERVALS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(interval);
    }

    /// Those of a span, oldest first.
    pub fn of(&self, span: Span, now: SystemTime) -> Vec<Arc<Interval>> {
        self.0.iter().filter(|interval| span.holds(interval, now)).cloned().collect()
    }

    /// The last one's number; 0 before the first.
    pub fn last(&self) -> u64 {
        self.0.back().map_or(0, |interval| interval.number)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An interval of a second in which each of `workers` recorded `values` as new flows.
    pub(in crate::latency) fn interval(number: u64, workers: u8, values: &[u64]) -> Interval {
        let mut set = LatencySet::default();
        for stage in Stage::ALL {
            let histogram = set.of_mut(Traffic::NewFlow, *stage);
            values.iter().for_each(|value| histogram.record(*value).unwrap());
        }
        Interval {
            number,
            start: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + number),
            length: Duration::from_secs(1),
            workers: (0..workers).map(|id| (WorkerId(id), Packed::new(&set))).collect(),
        }
    }

    #[test]
    fn what_is_packed_is_what_was_recorded() {
        let packed = interval(1, 1, &[250, 1_000, 1_000_000]).workers.remove(0).1;
        let histogram = packed.histogram(Stage::Total, None);
        assert_eq!((histogram.len(), histogram.value_at_quantile(0.5)), (3, 1_003));
        assert_eq!(packed.histogram(Stage::Total, Some(Traffic::Reply)).len(), 0);
        let mut set = LatencySet::default();
        packed.add_to(&mut set);
        assert_eq!(set.of(Traffic::NewFlow, Stage::QueueWait).len(), 3);
        assert!(packed.0.iter().flatten().map(|bytes| bytes.len()).sum::<usize>() < 1_000);
    }

    #[test]
    fn spans_choose_by_age_and_number_and_old_intervals_are_forgotten() {
        let mut history = History::default();
        (1..=400).for_each(|number| history.add(Arc::new(interval(number, 1, &[]))));
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_401);
        let numbers = |window: Option<u64>, after| {
            let span = Span { window: window.map(Duration::from_secs), after };
            let numbers: Vec<_> = history.of(span, now).iter().map(|i| i.number).collect();
            (numbers.first().copied(), numbers.len())
        };
        assert_eq!(numbers(None, None), (Some(101), INTERVALS_MAX));
        assert_eq!(numbers(Some(3), None), (Some(398), 3));
        assert_eq!(numbers(None, Some(399)), (Some(400), 1));
        assert_eq!(numbers(None, Some(400)), (None, 0));
        assert_eq!(history.last(), 400);
    }
}
