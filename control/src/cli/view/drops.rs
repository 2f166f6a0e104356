//! `get drops`: reasons, then the sum.

use crate::admin::report::{DropsReport, PacketSum, ReasonReport};
use crate::cli::view::number::{age, count, rate};
use crate::cli::view::table::Table;

/// The table of reasons and the sum. Passed and rejected packets are listed when `wide`; they are
/// in the sum in any case.
pub fn screen(report: &DropsReport, with_heads: bool, wide: bool) -> String {
    let dropped = report.dropped.iter().map(|row| ("dropped", row));
    let rejected = report.rejected.iter().map(|row| ("rejected", row));
    let passed = report.passed.iter().map(|row| ("passed", row));
    let rows: Vec<_> = if wide {
        dropped.chain(rejected).chain(passed).collect()
    } else {
        dropped.chain(rejected).collect()
    };
    let sum = sum_line(&report.sum);
    if rows.is_empty() {
        return format!("{sum}\n");
    }
    format!("{}\n{sum}\n", table(&rows).render(with_heads))
}

fn table(rows: &[(&str, &ReasonReport)]) -> Table {
    let heads =
        ["REASON", "OUTCOME", "STAGE", "KIND", "PACKETS", "PER S", "LAST", "WHERE", "NEXT STEP"];
    let mut table = Table::new(&heads);
    for (outcome, row) in rows {
        table.row([
            row.reason.clone(),
            (*outcome).to_owned(),
            row.stage.clone(),
            row.kind.clone(),
            count(row.packets),
            rate(row.per_second),
            row.last_seconds.map(age).unwrap_or_default(),
            row.interface.clone(),
            row.next_step.clone(),
        ]);
    }
    table
}

/// The sum as one line.
pub fn sum_line(sum: &PacketSum) -> String {
    format!(
        "received {} = forwarded {} + passed {} + rejected {} + dropped {} + in flight {}      \
         unaccounted {}",
        sum.received,
        sum.forwarded,
        sum.passed,
        sum.rejected,
        sum.dropped,
        sum.in_flight,
        sum.unaccounted
    )
}

/// The drop reasons' names, one a line.
pub fn names(report: &DropsReport) -> String {
    let name = |row: &ReasonReport| format!("drop/{}/{}\n", row.interface, row.reason);
    report.dropped.iter().map(name).collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;

    #[test]
    fn reasons_come_with_the_next_step_and_the_sum() {
        let expected = include_str!("../../../testdata/view/drops.txt");
        assert_eq!(screen(&fixtures::drops(), true, false), expected);
        assert_eq!(names(&fixtures::drops()), "drop/eth1/SERVICE_BACKEND_NOT_FOUND\n");
    }

    #[test]
    fn wide_lists_passed_packets_too() {
        assert!(screen(&fixtures::drops(), true, true).contains("NO_SERVICE"));
    }

    #[test]
    fn without_drops_the_sum_stands_alone() {
        let report = DropsReport { dropped: vec![], ..fixtures::drops() };
        assert!(screen(&report, true, false).starts_with("received 100"));
    }
}
