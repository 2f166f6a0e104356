//! A histogram: classic buckets beside native ones, one writer.

use std::collections::BTreeMap;

/// The resolution of native buckets: eight per doubling, each 9 % wider than the one before.
const NATIVE_SCHEMA: i32 = 3;
const NATIVE_PER_DOUBLING: f64 = 8.0;

/// Values at most this large count as zero: what Prometheus recommends, 2^-128.
const ZERO_MAX: f64 = 2.938_735_877_055_719e-39;

/// How often values fell where.
#[derive(Debug, Clone, PartialEq)]
pub struct Distribution {
    /// Upper bounds and what fell between each and the one before; the last bound is infinite.
    classic: Vec<(f64, u64)>,
    /// What fell into `(2^((i-1)/8), 2^(i/8)]`, by `i`.
    native: BTreeMap<i32, u64>,
    zeroes: u64,
    sum: f64,
    count: u64,
}

/// Native buckets as they leave: stretches of neighbours, and each count less the one before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NativeBuckets {
    /// Gap since the last stretch (at first: the index), and its length.
    pub spans: Vec<(i32, u32)>,
    /// The differences.
    pub deltas: Vec<i64>,
}

impl Distribution {
    /// Nothing yet. `bounds` rise and are finite.
    pub fn new(bounds: impl IntoIterator<Item = f64>) -> Self {
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        Self {
            classic: bounds.map(|bound| (bound, 0)).collect(),
            native: BTreeMap::new(),
            zeroes: 0,
            sum: 0.0,
            count: 0,
        }
    }

    /// `factor`-fold bounds from `first` on.
    pub fn exponential(first: f64, factor: f64, count: i32) -> Self {
        Self::new((0..count).map(|n| first * factor.powi(n)))
    }

    /// Counts `times` times a value that is not negative.
    #[expect(clippy::cast_precision_loss, reason = "a sum of floats")]
    pub fn observe(&mut self, value: f64, times: u64) {
        let first = self.classic.partition_point(|(bound, _)| *bound < value);
        if let Some((_, count)) = self.classic.get_mut(first) {
            *count += times;
        }
        if value <= ZERO_MAX {
            self.zeroes += times;
        } else {
            *self.native.entry(native_index(value)).or_default() += times;
        }
        self.sum += value * times as f64;
        self.count += times;
    }

    /// The classic buckets, not added up.
    pub fn classic(&self) -> &[(f64, u64)] {
        &self.classic
    }

    /// Sum and count of all values.
    pub fn sum_and_count(&self) -> (f64, u64) {
        (self.sum, self.count)
    }

    /// Resolution, width of the zero bucket, and what is in it.
    pub fn native_head(&self) -> (i32, f64, u64) {
        (NATIVE_SCHEMA, ZERO_MAX, self.zeroes)
    }

    /// The native buckets.
    pub fn native(&self) -> NativeBuckets {
        let (mut spans, mut deltas) = (Vec::<(i32, u32)>::new(), Vec::new());
        let (mut next, mut before) = (0, 0_i64);
        for (&index, &count) in &self.native {
            match spans.last_mut().filter(|_| index == next) {
                Some((_, length)) => *length += 1,
                None => spans.push((index - next, 1)),
            }
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            deltas.push(count - before);
            (next, before) = (index + 1, count);
        }
        NativeBuckets { spans, deltas }
    }
}

/// Which native bucket holds a positive value.
#[expect(clippy::cast_possible_truncation, reason = "a double's logarithm is within ±1100")]
fn native_index(value: f64) -> i32 {
    (value.log2() * NATIVE_PER_DOUBLING).ceil() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_belongs_below_it() {
        let mut seen = Distribution::new([1.0, 2.0]);
        for value in [0.0, 1.0, 1.5, 2.0, 9.0] {
            seen.observe(value, 1);
        }
        seen.observe(1.5, 3);
        assert_eq!(seen.classic(), [(1.0, 2), (2.0, 5), (f64::INFINITY, 1)]);
        assert_eq!(seen.sum_and_count(), (18.0, 8));
        assert_eq!(seen.native_head().2, 1, "zero has a bucket of its own");
    }

    #[test]
    fn native_buckets_are_stretches_of_differences() {
        let mut seen = Distribution::new([]);
        // 1 is the upper bound of bucket 0, 2 that of bucket 8; 1.05 falls into bucket 1.
        for (value, times) in [(1.0, 5), (1.05, 2), (2.0, 7)] {
            seen.observe(value, times);
        }
        let expected = NativeBuckets { spans: vec![(0, 2), (6, 1)], deltas: vec![5, -3, 5] };
        assert_eq!(seen.native(), expected);
        let mut small = Distribution::new([]);
        small.observe(0.25, 1);
        assert_eq!(small.native(), NativeBuckets { spans: vec![(-16, 1)], deltas: vec![1] });
    }

    #[test]
    fn no_value_is_nothing() {
        let empty = Distribution::exponential(0.001, 2.0, 15);
        assert_eq!(empty.classic().len(), 16);
        assert_eq!(empty.native(), NativeBuckets { spans: vec![], deltas: vec![] });
    }
}
