//! Times of one kind of change.

use serde::Serialize;
use std::time::Duration;
use tidegate_control::cli::view::table::Table;

/// One row of the result.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// What was done.
    case: String,
    /// How often.
    count: usize,
    median_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    /// Every single time, in the order of the measurements.
    all_ms: Vec<f64>,
}

/// A number that is no time.
#[derive(Debug, Serialize)]
pub(crate) struct Fact {
    /// What.
    pub(crate) name: String,
    /// How much.
    pub(crate) value: f64,
    /// Of what.
    pub(crate) unit: &'static str,
}

impl Row {
    /// The row of at least one time.
    pub(crate) fn of(case: &str, times: impl IntoIterator<Item = Duration>) -> Self {
        let all_ms: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64() * 1e3).collect();
        let mut sorted = all_ms.clone();
        sorted.sort_by(f64::total_cmp);
        // The smallest that so many percent do not exceed.
        let at = |percent: usize| {
            let place = (sorted.len() * percent).div_ceil(100).max(1) - 1;
            sorted.get(place).copied().unwrap_or_default()
        };
        let (median_ms, p99_ms, max_ms) = (at(50), at(99), at(100));
        Self { case: case.into(), count: all_ms.len(), median_ms, p99_ms, max_ms, all_ms }
    }
}

/// All rows and facts as text.
pub(crate) fn table(rows: &[Row], facts: &[Fact]) -> String {
    let mut table = Table::new(&["FROM EVENT TO LAST WORKER", "TIMES", "MEDIAN MS", "P99", "MAX"]);
    for row in rows {
        let number = |value: f64| format!("{value:.3}");
        table.row([
            row.case.clone(),
            row.count.to_string(),
            number(row.median_ms),
            number(row.p99_ms),
            number(row.max_ms),
        ]);
    }
    let mut other = Table::new(&["OTHER", "VALUE"]);
    for fact in facts {
        other.row([fact.name.clone(), format!("{:.2} {}", fact.value, fact.unit)]);
    }
    format!("{}\n{}\n", table.render(true), other.render(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let row = Row::of("x", (1..=200).rev().map(Duration::from_millis));
        let found = (row.median_ms, row.p99_ms, row.max_ms);
        assert_eq!(found.map_ms(), (100, 198, 200));
        let one = Row::of("y", [Duration::from_millis(7)]);
        assert_eq!((one.median_ms, one.p99_ms, one.max_ms).map_ms(), (7, 7, 7));
    }

    trait MapMs {
        fn map_ms(self) -> (u64, u64, u64);
    }

    impl MapMs for (f64, f64, f64) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small whole numbers"
        )]
        fn map_ms(self) -> (u64, u64, u64) {
            (self.0.round() as u64, self.1.round() as u64, self.2.round() as u64)
        }
    }
}
