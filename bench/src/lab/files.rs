//! What a measurement leaves behind, beside its JSON: histograms as plotters read them.

use crate::report;
use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};
use tidegate_control::latency::{hgrm, hlog};

/// Steps of a curve per halving of the rest: as `.hgrm` has it.
const TICKS_PER_HALF: u32 = 5;

/// A load's latencies.
#[derive(Debug, Clone)]
pub(crate) struct Curve {
    /// A word without blanks.
    pub(crate) name: String,
    pub(crate) histogram: Histogram<u64>,
    pub(crate) seconds: f64,
}

/// One point of a percentile curve.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quantile {
    /// 0 to 1.
    pub(crate) quantile: f64,
    pub(crate) us: f64,
}

/// The percentile curve, for plots.
pub(crate) fn quantiles(histogram: &Histogram<u64>) -> Vec<Quantile> {
    let steps = histogram.iter_quantiles(TICKS_PER_HALF);
    let point = |quantile, ns| Quantile { quantile, us: crate::numbers::float(ns) / 1e3 };
    steps.map(|step| point(step.quantile_iterated_to(), step.value_iterated_to())).collect()
}

/// Writes `latency.hgrm` of the curve `main`, and `latency.hlog` of all.
pub(crate) fn write(folder: &Path, curves: &[Curve], main: usize) -> Result<()> {
    let put = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        report::print(&format!("Written to {}.\n", path.display()))
    };
    if let Some(curve) = curves.get(main) {
        put("latency.hgrm", hgrm::text(&curve.histogram))?;
    }
    let mut at = Duration::ZERO;
    let entry = |curve: &Curve| {
        let length = Duration::from_secs_f64(curve.seconds);
        let entry = (curve.name.clone(), curve.histogram.clone(), (at, length));
        at += length;
        entry
    };
    let entries: Vec<_> = curves.iter().map(entry).collect();
    let about = "[tidegate-bench: arrival minus intended send time, every packet, nanoseconds]";
    put("latency.hlog", hlog::of_loads(about, SystemTime::now(), &entries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use tidegate_dataplane::stats::latency::empty_histogram;

    #[test]
    fn the_files_hold_the_curves() {
        let curve = |name: &str, value| {
            let mut histogram = empty_histogram();
            histogram.record_n(value, 100).unwrap();
            Curve { name: name.into(), histogram, seconds: 2.0 }
        };
        let curves = [curve("load10", 1_000), curve("load50", 5_000)];
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &curves, 1).unwrap();
        let hgrm = fs::read_to_string(folder.path().join("latency.hgrm")).unwrap();
        assert!(
            hgrm.contains("#[Max     =        5.023, Total count    =          100]"),
            "{hgrm}"
        );
        let hlog = fs::read(folder.path().join("latency.hlog")).unwrap();
        let entries: Vec<_> = IntervalLogIterator::new(&hlog).map(Result::unwrap).collect();
        let tags: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry {
                LogEntry::Interval(interval) => interval.tag().map(|tag| tag.as_str().to_owned()),
                _ => None,
            })
            .collect();
        assert_eq!(tags, ["load10", "load50"]);
        let points = quantiles(&curves[0].histogram);
        assert!((points.last().unwrap().quantile - 1.0).abs() < 1e-9);
        assert!((points[0].us - 1.003).abs() < 1e-9);
    }
}
