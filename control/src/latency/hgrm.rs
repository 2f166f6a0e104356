//! `.hgrm`: the percentile distribution as text, microseconds.

use core::fmt::Write as _;
use hdrhistogram::Histogram;

/// Steps of the percentile distribution per halving of the rest, as wrk2 and `HdrHistogram` use.
const TICKS_PER_HALF_DISTANCE: u32 = 5;

/// The form that `HdrHistogram` writes and that plotters read. The footer's words are theirs.
pub fn text(histogram: &Histogram<u64>) -> String {
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

    #[test]
    fn the_distribution_ends_at_all_values_and_has_the_footer_of_plotters() {
        let mut histogram = tidegate_dataplane::stats::latency::empty_histogram();
        histogram.record_n(1_000, 100).unwrap();
        let text = text(&histogram);
        let mut lines = text.lines();
        let head = "       Value     Percentile TotalCount 1/(1-Percentile)";
        assert_eq!((lines.next(), lines.next()), (Some(head), Some("")));
        assert_eq!(lines.next(), Some("       1.003 0.000000000000        100           1.00"));
        assert_eq!(lines.next(), Some("       1.003 1.000000000000        100"));
        assert!(text.contains("Total count    =          100]"), "{text}");
    }
}
