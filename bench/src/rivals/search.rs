//! The search for the largest load that is carried.

/// The limit is found to within this share of itself ...
const GAP: f64 = 0.03;

/// ... or after so many steps in all.
const STEPS_MAX: u32 = 16;

/// From an expected limit loads go up and down by this factor: wide enough to be beside the limit
/// in one step, as long as two rounds differ by less.
const NEAR: f64 = 1.12;

/// Where nothing is known loads are doubled.
const FAR: f64 = 2.0;

/// Widens until there is a load that is carried and one that is not, then halves the gap.
#[derive(Debug)]
pub(super) struct Search {
    low: Option<f64>,
    high: Option<f64>,
    first: f64,
    /// Loads beyond are not asked for.
    max: f64,
    factor: f64,
    steps: u32,
}

impl Search {
    /// Begins at `first`, or near `expected`, the limit that was found before.
    pub(super) fn new(first: f64, max: f64, expected: Option<f64>) -> Self {
        let (first, factor) = match expected {
            Some(expected) => (expected / NEAR.sqrt(), NEAR),
            None => (first, FAR),
        };
        Self { low: None, high: None, first, max, factor, steps: 0 }
    }

    /// The next load to try; `None` once the limit is known.
    pub(super) fn next(&self) -> Option<f64> {
        if self.steps >= STEPS_MAX {
            return None;
        }
        match (self.low, self.high) {
            (None, None) => Some(self.first),
            (Some(low), None) => Some(low * self.factor).filter(|rate| *rate <= self.max),
            (None, Some(high)) => Some(high / self.factor),
            (Some(low), Some(high)) => {
                (high - low >= high * GAP).then_some(f64::midpoint(low, high))
            }
        }
    }

    /// Takes note of what became of a load.
    pub(super) fn tell(&mut self, rate: f64, is_carried: bool) {
        *(if is_carried { &mut self.low } else { &mut self.high }) = Some(rate);
        self.steps += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found, and in how many steps, where `limit` is the truth.
    fn find(mut search: Search, limit: f64) -> (f64, u32) {
        while let Some(rate) = search.next() {
            search.tell(rate, rate <= limit);
        }
        (search.low.unwrap_or(0.0), search.steps)
    }

    #[test]
    fn the_limit_is_found_to_within_the_gap() {
        for limit in [0.9e5, 1.1e5, 7.7e5, 1.9e6, 3.1e6] {
            let (found, _) = find(Search::new(1e5, 3.2e6, None), limit);
            assert!(found <= limit && found > limit * 0.96, "{found} of {limit}");
        }
        assert!(find(Search::new(1e5, 3.2e6, None), 9e9).0 <= 3.2e6);
    }

    #[test]
    fn who_knows_the_limit_is_soon_there() {
        let (_, from_far) = find(Search::new(1e5, 3.2e6, None), 1.6e6);
        for limit in [1.55e6, 1.6e6, 1.65e6] {
            let (found, steps) = find(Search::new(1e5, 3.2e6, Some(1.6e6)), limit);
            assert!(found <= limit && found > limit * 0.96);
            assert!(steps < from_far && steps <= 4, "{steps} steps");
        }
    }
}
