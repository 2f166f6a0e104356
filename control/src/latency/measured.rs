//! Figures out of histograms. Pure; worked out beside the control loop.

use crate::admin::report::{LatencyReport, StageReport};
use crate::latency::interval::Interval;
use hdrhistogram::Histogram;
use std::sync::Arc;
use std::time::Duration;
use tidegate_dataplane::stats::{LatencySet, Stage, Traffic};

/// The word for packets of every kind.
pub const ALL_KINDS: &str = "all";

/// What was measured, and of what.
#[derive(Debug, Clone)]
pub struct Measured {
    /// One packet in so many is measured, 0 = none.
    pub sampled_every: u32,
    /// How long.
    pub time: Duration,
    /// The last interval that ended.
    pub last_interval: u64,
    /// The histograms.
    pub set: LatencySet,
}

/// Intervals, and what is common to them.
#[derive(Debug, Clone)]
pub struct Intervals {
    /// As above.
    pub sampled_every: u32,
    /// As above, also where it is not in the list.
    pub last: u64,
    /// Oldest first.
    pub list: Vec<Arc<Interval>>,
}

impl From<Intervals> for Measured {
    fn from(intervals: Intervals) -> Self {
        let mut set = LatencySet::default();
        for (_, packed) in intervals.list.iter().flat_map(|interval| &interval.workers) {
            packed.add_to(&mut set);
        }
        Self {
            sampled_every: intervals.sampled_every,
            time: intervals.list.iter().map(|interval| interval.length).sum(),
            last_interval: intervals.last,
            set,
        }
    }
}

impl Measured {
    /// The figures, stage by stage: of all packets, then of each kind.
    pub fn report(&self) -> LatencyReport {
        let kinds = || [None].into_iter().chain(Traffic::ALL.iter().copied().map(Some));
        let rows = Stage::ALL.iter().flat_map(|stage| kinds().map(move |kind| (*stage, kind)));
        LatencyReport {
            sampled_every: self.sampled_every,
            seconds: self.time.as_secs(),
            last_interval: self.last_interval,
            stages: rows.map(|(stage, kind)| self.row(stage, kind)).collect(),
        }
    }

    /// One stage's histogram, of one kind or of all.
    pub fn histogram(&self, stage: Stage, kind: Option<Traffic>) -> Histogram<u64> {
        match kind {
            Some(kind) => self.set.of(kind, stage).clone(),
            None => self.set.stage(stage),
        }
    }

    fn row(&self, stage: Stage, kind: Option<Traffic>) -> StageReport {
        let histogram = self.histogram(stage, kind);
        StageReport {
            stage: stage.name().to_owned(),
            kind: kind.map_or(ALL_KINDS, Traffic::name).to_owned(),
            count: histogram.len(),
            min_ns: histogram.min(),
            p50_ns: histogram.value_at_quantile(0.5),
            p90_ns: histogram.value_at_quantile(0.9),
            p99_ns: histogram.value_at_quantile(0.99),
            p999_ns: histogram.value_at_quantile(0.999),
            p9999_ns: histogram.value_at_quantile(0.9999),
            max_ns: histogram.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::latency::interval::tests::interval;

    #[test]
    fn intervals_add_up_over_workers_and_every_row_has_its_kind() {
        let list = [1, 2].map(|number| Arc::new(interval(number, 2, &[1_000, 2_000]))).into();
        let report = Measured::from(Intervals { sampled_every: 8, last: 2, list }).report();
        assert_eq!((report.seconds, report.last_interval, report.stages.len()), (2, 2, 12));
        let rows = report.stages.iter().map(|row| (row.kind.as_str(), row.count));
        let expected = [("all", 8), ("new flow", 8), ("established", 0), ("reply", 0)];
        assert_eq!(rows.take(4).collect::<Vec<_>>(), expected);
        assert!(report.stages[0].p50_ns.abs_diff(1_000) <= 10);
        assert!(report.stages[0].max_ns.abs_diff(2_000) <= 20);
    }
}
