//! `tidegate latency` for people.

use crate::admin::report::{LatencyReport, StageReport};
use crate::cli::view::number::{age, count, nanoseconds};
use crate::cli::view::table::Table;
use crate::latency::measured::ALL_KINDS;

/// The table, and what the figures cover. Kinds of packets that none was of are left out.
pub fn screen(report: &LatencyReport) -> String {
    let heads = ["STAGE", "PACKETS", "COUNT", "MIN", "P50", "P90", "P99", "P99.9", "P99.99", "MAX"];
    let mut table = Table::new(&heads);
    let is_told = |stage: &&StageReport| stage.kind == ALL_KINDS || stage.count > 0;
    for stage in report.stages.iter().filter(is_told) {
        let figures = [
            stage.min_ns,
            stage.p50_ns,
            stage.p90_ns,
            stage.p99_ns,
            stage.p999_ns,
            stage.p9999_ns,
            stage.max_ns,
        ];
        let cells =
            figures.map(|ns| if stage.count == 0 { String::new() } else { nanoseconds(ns) });
        let first = [stage.stage.clone(), stage.kind.clone(), count(stage.count)];
        table.row(first.into_iter().chain(cells));
    }
    format!("{}{}\n", table.render(true), coverage(report))
}

fn coverage(report: &LatencyReport) -> String {
    let over = age(report.seconds);
    match report.sampled_every {
        0 => "latency is off: set latency.sample, 1/64 for example".to_owned(),
        1 => format!("every packet over {over}; from the XDP program to the transmit ring"),
        n => {
            format!("sampled 1/{n} packets over {over}; from the XDP program to the transmit ring")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::view::fixtures;

    #[test]
    fn stages_show_their_percentiles() {
        let expected = "\
STAGE        PACKETS   COUNT    MIN     P50     P90     P99     P99.9   P99.99   MAX
forwarding   all       1.20M    210ns   340ns   460ns   1.1us   6.8us   22us     190us
forwarding   reply     600.0k   210ns   340ns   460ns   1.1us   6.8us   22us     190us
total        all       0        -       -       -       -       -       -        -
sampled 1/64 packets over 1m; from the XDP program to the transmit ring
";
        assert_eq!(screen(&fixtures::latency()), expected);
    }

    #[test]
    fn measuring_nothing_is_said() {
        let report = LatencyReport { sampled_every: 0, ..fixtures::latency() };
        assert!(screen(&report).contains("latency is off"));
    }
}
