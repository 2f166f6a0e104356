//! Latency since start or reset, and by interval: what the workers hand over, added up.

use crate::latency::interval::{History, Interval, Packed, Span};
use crate::latency::log::HistogramLog;
use crate::latency::measured::{Intervals, Measured};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tidegate_dataplane::stats::LatencySet;
use tidegate_dataplane::types::WorkerId;

/// The looks for the end of an interval are a second apart, and not to the millisecond.
const EARLY_MAX: Duration = Duration::from_millis(100);

/// The gathered histograms.
#[derive(Debug)]
pub struct LatencyTotals {
    merged: LatencySet,
    /// Never reset: series that a scraper reads must not shrink.
    lifetime: LatencySet,
    since: Instant,
    sampled_every: u32,
    interval: Duration,
    begun: (Instant, SystemTime),
    /// By worker: since the last interval ended.
    current: Vec<LatencySet>,
    history: History,
    log: Option<HistogramLog>,
}

impl LatencyTotals {
    /// Nothing yet, of so many workers. One packet in `sampled_every` is measured, 0 = none.
    pub fn new(sampled_every: u32, interval: Duration, workers: usize) -> Self {
        Self {
            merged: LatencySet::default(),
            lifetime: LatencySet::default(),
            since: Instant::now(),
            sampled_every,
            interval,
            begun: (Instant::now(), SystemTime::now()),
            current: vec![LatencySet::default(); workers],
            history: History::default(),
            log: None,
        }
    }

    /// Writes every interval to a file from now on.
    pub fn log_to(&mut self, log: HistogramLog) {
        self.log = Some(log);
    }

    /// The file.
    pub fn log(&self) -> Option<&HistogramLog> {
        self.log.as_ref()
    }

    /// Adds what a worker recorded.
    pub fn add(&mut self, worker: WorkerId, recorded: &LatencySet) {
        self.merged.merge(recorded);
        self.lifetime.merge(recorded);
        if let Some(current) = self.current.get_mut(usize::from(worker.0)) {
            current.merge(recorded);
        }
    }

    /// Ends the interval once it is long enough.
    pub fn look(&mut self, now: Instant) {
        if now.saturating_duration_since(self.begun.0) + EARLY_MAX >= self.interval {
            self.end_interval(now);
        }
    }

    /// Ends the interval, however short. Nothing where nothing is measured.
    pub fn end_interval(&mut self, now: Instant) {
        if self.sampled_every == 0 {
            return;
        }
        let workers = self.current.iter_mut().zip(0..).map(|(set, id)| {
            let packed = Packed::new(set);
            if packed != Packed::default() {
                *set = LatencySet::default();
            }
            (WorkerId(id), packed)
        });
        let interval = Arc::new(Interval {
            number: self.history.last() + 1,
            start: self.begun.1,
            length: now.saturating_duration_since(self.begun.0),
            workers: workers.collect(),
        });
        if let Some(log) = &self.log {
            log.hand_over(Arc::clone(&interval));
        }
        self.history.add(interval);
        self.begun = (now, SystemTime::now());
    }

    /// Begins anew, but for what scrapers read.
    pub fn reset(&mut self) {
        self.merged = LatencySet::default();
        self.since = Instant::now();
    }

    /// Everything since the start, whatever was reset.
    pub fn lifetime(&self) -> &LatencySet {
        &self.lifetime
    }

    /// Everything since start or reset.
    pub fn measured(&self) -> Measured {
        Measured {
            sampled_every: self.sampled_every,
            time: self.since.elapsed(),
            last_interval: self.history.last(),
            set: self.merged.clone(),
        }
    }

    /// The intervals of a span.
    pub fn intervals(&self, span: Span) -> Intervals {
        let last = self.history.last();
        // A reader that saw a larger number saw it before a restart.
        let after = span.after.filter(|after| *after <= last);
        let list = self.history.of(Span { after, ..span }, SystemTime::now());
        Intervals { sampled_every: self.sampled_every, last, list }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::stats::{LatencyRecorder, Stage, Traffic};

    /// A set as a worker hands it over.
    fn recorded(values: &[u64]) -> Box<LatencySet> {
        let mut recorder = LatencyRecorder::default();
        let exchange = recorder.exchange();
        exchange.ask();
        values.iter().for_each(|&ns| recorder.record(Traffic::Reply, Stage::Total, ns));
        recorder.hand_over();
        exchange.answer().unwrap()
    }

    fn count(set: &LatencySet) -> u64 {
        set.stage(Stage::Total).len()
    }

    #[test]
    fn sets_add_up_until_reset() {
        let mut totals = LatencyTotals::new(64, Duration::from_secs(1), 2);
        totals.add(WorkerId(0), &recorded(&[1_000, 2_000]));
        totals.add(WorkerId(1), &recorded(&[100_000]));
        let measured = totals.measured();
        assert_eq!((count(&measured.set), measured.sampled_every), (3, 64));
        totals.reset();
        assert_eq!(count(&totals.measured().set), 0);
        assert_eq!(count(totals.lifetime()), 3, "what scrapers read shrank");
    }

    #[test]
    fn each_interval_has_what_was_recorded_in_it_worker_by_worker() {
        let mut totals = LatencyTotals::new(1, Duration::from_secs(2), 2);
        let begin = Instant::now();
        totals.add(WorkerId(1), &recorded(&[1_000, 2_000]));
        totals.look(begin + Duration::from_secs(1));
        assert_eq!(totals.measured().last_interval, 0, "it is not over");
        totals.look(begin + Duration::from_secs(2));
        totals.add(WorkerId(0), &recorded(&[5_000]));
        totals.end_interval(begin + Duration::from_secs(3));
        let told = totals.intervals(Span::default()).list;
        let counts = |interval: &Interval| {
            let of = |(id, packed): &(WorkerId, Packed)| {
                (id.0, packed.histogram(Stage::Total, None).len())
            };
            interval.workers.iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(
            told.iter().map(|i| counts(i)).collect::<Vec<_>>(),
            [[(0, 0), (1, 2)], [(0, 1), (1, 0)]]
        );
        assert_eq!(told[1].length, Duration::from_secs(1));
        let numbers = |after| {
            let told = totals.intervals(Span { after: Some(after), window: None }).list;
            told.iter().map(|interval| interval.number).collect::<Vec<_>>()
        };
        assert_eq!((numbers(1), numbers(2), numbers(3)), (vec![2], vec![], vec![1, 2]));
        let mut off = LatencyTotals::new(0, Duration::from_secs(1), 1);
        off.end_interval(begin);
        assert!(off.intervals(Span::default()).list.is_empty());
    }
}
