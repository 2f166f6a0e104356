//! One load at one rate, and what became of it.

use super::wire::account::{Account, Arrivals};
use crate::numbers::{float, ratio};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// A generator that sends less than this share of the rate is the limit itself.
const KEPT_MIN: f64 = 0.98;

/// What else than the tested was the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Bound {
    /// It sent less than 98 % of the rate, or its packets later than is allowed.
    Generator,
    /// Its socket had no room for what the kernel had for it.
    Sink,
}

impl Bound {
    /// For the reader of a table.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Generator => "generator is the limit",
            Self::Sink => "sink is the limit",
        }
    }
}

/// What both ends counted.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Counts {
    /// Packets per second asked for.
    pub(crate) rate_pps: f64,
    /// Packets that were to go.
    pub(crate) intended: u64,
    /// Packets that the kernel took.
    pub(crate) sent: u64,
    /// From the first packet's time to the last one's.
    pub(crate) seconds: f64,
    /// How late the generator handed packets to the kernel, 99th percentile.
    pub(crate) lateness_p99_ns: u64,
    /// More than this is too late.
    pub(crate) lateness_p99_ns_max: u64,
    /// Packets that the sink's socket had no room for.
    pub(crate) sink_dropped: u64,
    /// Another machine's sink takes them and sends nothing back.
    pub(crate) is_unheard: bool,
}

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the unit ends each name")]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// Of a histogram in nanoseconds; `None` of an empty one.
    pub(crate) fn of(histogram: &Histogram<u64>) -> Option<Self> {
        let at = |quantile| float(histogram.value_at_quantile(quantile)) / 1e3;
        (!histogram.is_empty()).then(|| Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: float(histogram.max()) / 1e3,
        })
    }

    /// In this order.
    pub(crate) fn all_us(self) -> [f64; 5] {
        let Self { p50_us, p90_us, p99_us, p999_us, max_us } = self;
        [p50_us, p90_us, p99_us, p999_us, max_us]
    }
}

/// The way to the backends' end, where that sends everything back.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct There {
    /// Sent and not arrived there; what else is lost was lost on the way back.
    pub(crate) lost: u64,
    pub(crate) arrivals: Arrivals,
    pub(crate) latency: Option<Latency>,
}

impl There {
    /// Of `sent` packets, by the books of the backends' end.
    pub(crate) fn new(sent: u64, account: &Account) -> Self {
        let arrivals = account.arrivals;
        let lost = sent.saturating_sub(arrivals.packets);
        Self { lost, arrivals, latency: Latency::of(&account.latency) }
    }
}

/// One load.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Trial {
    pub(crate) rate_pps: f64,
    pub(crate) seconds: f64,
    pub(crate) intended: u64,
    pub(crate) sent: u64,
    pub(crate) arrivals: Arrivals,
    /// Sent and not arrived; `None` where another machine's sink tells it.
    pub(crate) lost: Option<u64>,
    /// Their share.
    pub(crate) loss: Option<f64>,
    pub(crate) lateness_p99_ns: u64,
    pub(crate) sink_dropped: u64,
    /// What else was the limit.
    pub(crate) bound: Option<Bound>,
    pub(crate) latency: Option<Latency>,
    /// `None` where nothing is sent back, or another machine does it.
    pub(crate) there: Option<There>,
    #[serde(skip)]
    pub(crate) histogram: Histogram<u64>,
}

impl Trial {
    /// Draws the balance.
    pub(crate) fn new(counts: &Counts, arrivals: Arrivals, histogram: Histogram<u64>) -> Self {
        let lost = (!counts.is_unheard).then(|| counts.sent.saturating_sub(arrivals.packets));
        let is_slow = float(counts.sent) < float(counts.intended) * KEPT_MIN;
        let bound = if is_slow || counts.lateness_p99_ns > counts.lateness_p99_ns_max {
            Some(Bound::Generator)
        } else {
            (counts.sink_dropped > 0).then_some(Bound::Sink)
        };
        Self {
            rate_pps: counts.rate_pps,
            seconds: counts.seconds,
            intended: counts.intended,
            sent: counts.sent,
            arrivals,
            lost,
            loss: lost.map(|lost| ratio(lost, float(counts.sent))),
            lateness_p99_ns: counts.lateness_p99_ns,
            sink_dropped: counts.sink_dropped,
            bound,
            latency: Latency::of(&histogram),
            there: None,
            histogram,
        }
    }

    /// Whether no more than `loss_max` of the load was lost, and the rest of the rig kept up.
    pub(crate) fn is_carried(&self, loss_max: f64) -> bool {
        let is_heard = self.loss.is_some_and(|loss| loss <= loss_max);
        is_heard && self.bound.is_none() && self.sent > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tidegate_dataplane::stats::latency::empty_histogram;

    fn trial(sent: u64, arrived: u64, lateness_p99_ns: u64, sink_dropped: u64) -> Trial {
        let counts = Counts {
            rate_pps: 1e3,
            intended: 1_000,
            sent,
            seconds: 1.0,
            lateness_p99_ns,
            lateness_p99_ns_max: 500,
            sink_dropped,
            is_unheard: false,
        };
        let arrivals = Arrivals { packets: arrived, ..Arrivals::default() };
        Trial::new(&counts, arrivals, empty_histogram())
    }

    #[test]
    fn a_load_that_was_not_offered_in_time_is_never_carried() {
        assert!(trial(1_000, 1_000, 500, 0).is_carried(0.0));
        assert_eq!(trial(979, 979, 0, 0).bound, Some(Bound::Generator));
        assert_eq!(trial(1_000, 1_000, 501, 0).bound, Some(Bound::Generator));
        assert_eq!(trial(1_000, 999, 0, 1).bound, Some(Bound::Sink));
        assert!(!trial(979, 979, 0, 0).is_carried(0.5));
    }

    #[test]
    fn loss_is_what_was_sent_and_did_not_arrive() {
        let trial = trial(1_000, 996, 0, 0);
        assert_eq!(trial.lost, Some(4));
        assert!(!trial.is_carried(0.0) && trial.is_carried(0.005));
        let counts = Counts { sent: 1_000, is_unheard: true, ..Counts::default() };
        let unheard = Trial::new(&counts, Arrivals::default(), empty_histogram());
        assert_eq!(unheard.lost, None);
        assert!(!unheard.is_carried(1.0));
    }
}
