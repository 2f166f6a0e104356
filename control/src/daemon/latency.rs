//! Latency since start or reset: what the workers hand over each second, merged.

use crate::admin::report::{LatencyReport, StageReport};
use core::fmt::Write as _;
use hdrhistogram::Histogram;
use std::time::Instant;
use tidegate_dataplane::stats::{LatencySet, Stage};

/// Steps of the percentile distribution per halving of the rest, as wrk2 and `HdrHistogram` use.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The merged histograms.
#[derive(Debug)]
pub struct LatencyTotals {
    merged: LatencySet,
    /// Never reset: series that a scraper reads must not shrink.
    lifetime: LatencySet,
    since: Instant,
    sampled_every: u32,
}

impl LatencyTotals {
    /// Nothing yet. One packet in `sampled_every` is measured, 0 = none.
    pub fn new(sampled_every: u32) -> Self {
        let (merged, lifetime) = (LatencySet::default(), LatencySet::default());
        Self { merged, lifetime, since: Instant::now(), sampled_every }
    }

    /// Adds what a worker recorded.
    pub fn add(&mut self, recorded: &LatencySet) {
        self.merged.merge(recorded);
        self.lifetime.merge(recorded);
    }

    /// Begins anew, but for what scrapers read.
    pub fn reset(&mut self) {
        self.merged = LatencySet::default();
        self.since = Instant::now();
    }

    /// One stage since the start, whatever was reset.
    pub fn lifetime(&self, stage: Stage) -> &Histogram<u64> {
        self.lifetime.stage(stage)
    }

    /// The figures.
    pub fn report(&self) -> LatencyReport {
        LatencyReport {
            sampled_every: self.sampled_every,
            seconds: self.since.elapsed().as_secs(),
            stages: Stage::ALL.iter().map(|&stage| self.stage(stage)).collect(),
        }
    }

    fn stage(&self, stage: Stage) -> StageReport {
        let histogram = self.merged.stage(stage);
        StageReport {
            stage: stage.name().to_owned(),
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

    /// One stage's percentile distribution as text (`.hgrm`), microseconds.
    pub fn hgrm(&self, stage: Stage) -> String {
        hgrm(self.merged.stage(stage))
    }
}

/// The form that `HdrHistogram` writes and that plotters read. The footer's words are theirs.
fn hgrm(histogram: &Histogram<u64>) -> String {
    let mut text = format!(
        "{:>12} {:>14} {:>10} {:>14}\n\n",
        "Value", "Percentile", "TotalCount", "1/(1-Percentile)"
    );
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let quantile = step.quantile_iterated_to();
        let value = microseconds(step.value_iterated_to());
        // Writing to a String cannot fail.
        write!(text, "{value:>12.3} {quantile:>14.12} {count:>10}").ok();
        // At the end the last column is infinite; HdrHistogram leaves it out.
        if quantile < 1.0 {
            write!(text, " {:>14.2}", 1.0 / (1.0 - quantile)).ok();
        }
        text.push('\n');
    }
    text + &footer(histogram)
}

fn footer(histogram: &Histogram<u64>) -> String {
    format!(
        "#[Mean    = {:>12.3}, StdDeviation   = {:>12.3}]\n\
         #[Max     = {:>12.3}, Total count    = {:>12}]\n\
         #[Buckets = {:>12}, SubBuckets     = {:>12}]\n",
        histogram.mean() / 1_000.0,
        histogram.stdev() / 1_000.0,
        microseconds(histogram.max()),
        histogram.len(),
        histogram.buckets(),
        histogram.distinct_values()
    )
}

#[expect(clippy::cast_precision_loss, reason = "nanoseconds of a second at most")]
fn microseconds(ns: u64) -> f64 {
    ns as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::stats::LatencyRecorder;

    /// A set as a worker hands it over.
    fn recorded(values: &[u64]) -> Box<LatencySet> {
        let mut recorder = LatencyRecorder::default();
        let exchange = recorder.exchange();
        exchange.ask();
        values.iter().for_each(|&ns| recorder.record(Stage::Total, ns));
        recorder.hand_over();
        exchange.answer().unwrap()
    }

    #[test]
    fn sets_add_up_until_reset() {
        let mut totals = LatencyTotals::new(64);
        totals.add(&recorded(&[1_000, 2_000]));
        totals.add(&recorded(&[100_000]));
        let total = totals.report().stages.pop().unwrap();
        assert_eq!((total.stage.as_str(), total.count), ("total", 3));
        assert!(total.p50_ns.abs_diff(2_000) <= 20 && total.max_ns.abs_diff(100_000) <= 1_000);
        totals.reset();
        assert_eq!(totals.report().stages.pop().unwrap().count, 0);
        assert_eq!(totals.report().sampled_every, 64);
        assert_eq!(totals.lifetime(Stage::Total).len(), 3, "what scrapers read shrank");
    }

    #[test]
    fn the_distribution_ends_at_all_values_and_has_the_footer_of_plotters() {
        let mut totals = LatencyTotals::new(1);
        totals.add(&recorded(&[1_000; 100]));
        let text = totals.hgrm(Stage::Total);
        let mut lines = text.lines();
        let head = "       Value     Percentile TotalCount 1/(1-Percentile)";
        assert_eq!((lines.next(), lines.next()), (Some(head), Some("")));
        assert_eq!(lines.next(), Some("       1.003 0.000000000000        100           1.00"));
        assert_eq!(lines.next(), Some("       1.003 1.000000000000        100"));
        assert!(text.contains("Total count    =          100]"), "{text}");
    }
}
