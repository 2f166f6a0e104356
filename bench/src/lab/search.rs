//! The no-drop rate and the partial-drop rate (RFC 2544 section 26.1, with a loss allowed for the
//! second), by doubling and then halving.

use super::trial::{Bound, Trial};
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// Where and how finely to search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// The first rate; if it is not carried, there is no result.
    pub(crate) first_pps: f64,
    /// The largest.
    pub(crate) max_pps: f64,
    /// The result is found to within this share of itself.
    pub(crate) resolution: f64,
    /// A rate is carried if one of so many loads is: what the machine does besides must not be
    /// taken for the limit of the tested.
    pub(crate) tries: u32,
}

/// The largest rate that was carried.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Found {
    /// `None` where even the first was not.
    pub(crate) rate_pps: Option<f64>,
    /// The rate above was not carried because of this, not because of the tested.
    pub(crate) bound: Option<Bound>,
    /// All rates up to the largest were carried.
    pub(crate) is_at_max: bool,
}

/// Searches with `load`, which offers a rate; `from_pps` is known to be carried.
pub(crate) fn search(
    limits: &Limits,
    loss_max: f64,
    from_pps: Option<f64>,
    load: &mut dyn FnMut(f64) -> Result<Trial>,
) -> Result<Found> {
    let mut carried = from_pps;
    let mut refused: Option<(f64, Option<Bound>)> = None;
    let mut rate = from_pps.map_or(limits.first_pps, |rate| rate * 2.0).min(limits.max_pps);
    while refused.is_none() && carried.is_none_or(|carried| carried < limits.max_pps) {
        match offer(limits, loss_max, rate, load)? {
            Ok(()) => carried = Some(rate),
            Err(bound) => refused = Some((rate, bound)),
        }
        rate = (rate * 2.0).min(limits.max_pps);
    }
    let Some((low, high)) = carried.zip(refused.map(|(high, _)| high)) else {
        let bound = refused.and_then(|(_, bound)| bound);
        return Ok(Found { rate_pps: carried, bound, is_at_max: refused.is_none() });
    };
    let (mut low, mut high) = (low, high);
    let mut bound = refused.and_then(|(_, bound)| bound);
    while high - low > high * limits.resolution {
        let middle = f64::midpoint(low, high);
        match offer(limits, loss_max, middle, load)? {
            Ok(()) => low = middle,
            Err(cause) => (high, bound) = (middle, cause),
        }
    }
    Ok(Found { rate_pps: Some(low), bound, is_at_max: false })
}

/// Whether a rate is carried, or what hindered every try but the tested.
fn offer(
    limits: &Limits,
    loss_max: f64,
    rate_pps: f64,
    load: &mut dyn FnMut(f64) -> Result<Trial>,
) -> Result<Result<(), Option<Bound>>> {
    let mut bound = None;
    for attempt in 0..limits.tries {
        let trial = load(rate_pps)?;
        if trial.is_carried(loss_max) {
            return Ok(Ok(()));
        }
        // One try that the tested alone spoilt shows its own limit.
        bound = if attempt == 0 { trial.bound } else { bound.and(trial.bound) };
    }
    Ok(Err(bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::trial::Counts;
    use crate::lab::wire::account::Arrivals;
    use crate::numbers::float;
    use tidegate_dataplane::stats::latency::empty_histogram;

    const LIMITS: Limits = Limits { first_pps: 1e3, max_pps: 1e7, resolution: 0.01, tries: 2 };

    /// A second through a forwarder that takes `limit`, from a generator that sends `most`.
    fn simulated(rate_pps: f64, limit: u64, most: u64) -> Trial {
        let intended = (1..100_000).find(|n| float(*n) * 1e3 >= rate_pps).unwrap() * 1_000;
        let sent = intended.min(most);
        let counts = Counts { rate_pps, intended, sent, seconds: 1.0, ..Counts::default() };
        let arrivals = Arrivals { packets: sent.min(limit), ..Arrivals::default() };
        Trial::new(&counts, arrivals, empty_histogram())
    }

    fn found(loss_max: f64, limit: u64, most: u64) -> (Found, u32) {
        let mut loads = 0;
        let mut load = |rate_pps| {
            loads += 1;
            Ok(simulated(rate_pps, limit, most))
        };
        (search(&LIMITS, loss_max, None, &mut load).unwrap(), loads)
    }

    #[test]
    fn the_search_converges_on_the_forwarders_limit() {
        let (no_drop, loads) = found(0.0, 1_234_000, u64::MAX);
        let rate = no_drop.rate_pps.unwrap();
        assert!((1_234_000.0 * 0.985..=1_234_000.0).contains(&rate), "{rate}");
        assert_eq!((no_drop.bound, no_drop.is_at_max), (None, false));
        assert!(loads < 40, "{loads}");
        let partial = found(0.05, 1_234_000, u64::MAX).0.rate_pps.unwrap();
        assert!(partial > 1_234_000.0 * 1.03, "{partial}");
    }

    #[test]
    fn a_slow_generator_is_told_to_be_the_limit() {
        let (found, _) = found(0.0, 5_000_000, 800_000);
        assert_eq!(found.bound, Some(Bound::Generator));
        let rate = found.rate_pps.unwrap();
        assert!((780_000.0..=820_000.0).contains(&rate), "{rate}");
    }

    #[test]
    fn nothing_carried_is_no_rate_and_everything_carried_is_the_largest() {
        assert_eq!(found(0.0, 500, u64::MAX).0.rate_pps, None);
        let all = found(0.0, u64::MAX, u64::MAX).0;
        assert_eq!((all.rate_pps, all.is_at_max), (Some(1e7), true));
    }

    #[test]
    fn one_good_load_of_several_is_enough() {
        let mut calls = 0;
        let mut load = |rate_pps| {
            calls += 1;
            Ok(simulated(rate_pps, if calls % 2 == 0 { 100_000 } else { 0 }, u64::MAX))
        };
        let rate = search(&LIMITS, 0.0, None, &mut load).unwrap().rate_pps.unwrap();
        assert!((98_000.0..=100_000.0).contains(&rate), "{rate}");
    }
}
