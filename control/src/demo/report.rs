//! What the demo prints: steps, checks, and the tables at the end.

use super::traffic::Tally;
use crate::admin::report::{DropsReport, LatencyReport, StageReport};
use crate::latency::measured::ALL_KINDS;
use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::Duration;

/// Prints, and remembers which checks failed.
#[derive(Debug)]
pub(super) struct Report<W> {
    out: W,
    failed: Vec<String>,
}

impl<W: Write> Report<W> {
    /// Prints to `out`.
    pub(super) fn new(out: W) -> Self {
        Self { out, failed: Vec::new() }
    }

    /// The checks that failed, in words.
    pub(super) fn failed(&self) -> &[String] {
        &self.failed
    }

    /// A step begins.
    pub(super) fn step(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "\n== {text}")?;
        self.out.flush()
    }

    /// A line of its own.
    pub(super) fn say(&mut self, text: &str) -> io::Result<()> {
        writeln!(self.out, "   {text}")
    }

    /// States what must hold; `found` is said where it does not.
    pub(super) fn check(&mut self, holds: bool, what: &str, found: &str) -> io::Result<()> {
        if holds {
            return writeln!(self.out, "   ok      {what}");
        }
        let text = format!("{what}; found {found}");
        writeln!(self.out, "   FAILED  {text}")?;
        self.failed.push(text);
        Ok(())
    }

    /// States that every request of `tally` was answered.
    pub(super) fn check_answered(&mut self, tally: &Tally, what: &str) -> io::Result<()> {
        let (sent, answered) = (tally.sent, tally.answered());
        let complaints: Vec<&str> = tally.complaints.iter().take(3).map(String::as_str).collect();
        let found = format!("{answered} answers; {}", complaints.join("; "));
        self.check(answered == sent, &format!("{sent} {what}: every one answered"), &found)
    }

    /// Answers by backend, a column for each of `columns`.
    pub(super) fn backends(&mut self, columns: &[(&str, &Tally)]) -> io::Result<()> {
        let heads = std::iter::once("BACKEND").chain(columns.iter().map(|(head, _)| *head));
        let mut table = table(heads);
        let pods: BTreeSet<&String> = columns.iter().flat_map(|(_, t)| t.by_pod.keys()).collect();
        for pod in pods {
            let count = |tally: &Tally| tally.by_pod.get(pod).copied().unwrap_or(0).to_string();
            let counts = columns.iter().map(|(_, tally)| count(tally));
            table.add_row(std::iter::once(pod.clone()).chain(counts));
        }
        let seen = |tally: &Tally| join(tally.seen.iter());
        let seen = columns.iter().map(|(_, tally)| seen(tally));
        table.add_row(std::iter::once("client seen".to_owned()).chain(seen));
        self.table(table)
    }

    /// What was not forwarded and why, and the sum.
    pub(super) fn drops(&mut self, report: &DropsReport) -> io::Result<()> {
        let mut table = table(["VERDICT", "REASON", "INTERFACE", "PACKETS"]);
        let kinds = [
            ("dropped", &report.dropped),
            ("rejected", &report.rejected),
            ("passed", &report.passed),
        ];
        for (verdict, reasons) in kinds {
            for reason in reasons {
                let (name, interface) = (reason.reason.as_str(), reason.interface.as_str());
                table.add_row([verdict, name, interface, &reason.packets.to_string()]);
            }
        }
        self.table(table)?;
        let sum = &report.sum;
        self.say(&format!(
            "received {} = forwarded {} + passed {} + rejected {} + dropped {} + in flight {}",
            sum.received, sum.forwarded, sum.passed, sum.rejected, sum.dropped, sum.in_flight
        ))
    }

    /// Latency inside the gateway, by stage.
    pub(super) fn latency(&mut self, report: &LatencyReport) -> io::Result<()> {
        let mut table = table(["STAGE", "COUNT", "P50", "P90", "P99", "P99.9", "MAX"]);
        for stage in report.stages.iter().filter(|stage| stage.kind == ALL_KINDS) {
            let StageReport { p50_ns, p90_ns, p99_ns, p999_ns, max_ns, .. } = *stage;
            let times = [p50_ns, p90_ns, p99_ns, p999_ns, max_ns].map(micros);
            let first = [stage.stage.clone(), stage.count.to_string()];
            table.add_row(first.into_iter().chain(times));
        }
        self.table(table)
    }

    fn table(&mut self, mut table: Table) -> io::Result<()> {
        let numbers = table.column_iter_mut().skip(1);
        numbers.for_each(|column| column.set_cell_alignment(CellAlignment::Right));
        for line in table.lines() {
            writeln!(self.out, "  {}", line.trim_end())?;
        }
        Ok(())
    }
}

fn table<'a>(heads: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(heads);
    table
}

fn join(items: impl Iterator<Item = impl ToString>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

fn micros(ns: u64) -> String {
    format!("{:.1}us", Duration::from_nanos(ns).as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally() -> Tally {
        let mut tally = Tally { sent: 3, ..Tally::default() };
        tally.by_pod.insert("a".into(), 2);
        tally.seen.insert([10, 0, 0, 1].into());
        tally
    }

    #[test]
    fn a_lost_answer_is_a_failed_check() {
        let mut report = Report::new(Vec::new());
        report.check_answered(&tally(), "requests").unwrap();
        assert_eq!(report.failed(), ["3 requests: every one answered; found 2 answers; "]);
    }

    #[test]
    fn the_table_has_a_row_for_each_pod_and_one_for_the_client() {
        let mut report = Report::new(Vec::new());
        report.backends(&[("CLUSTER", &tally())]).unwrap();
        let text = String::from_utf8(report.out).unwrap();
        let rows: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
        let expected =
            [vec!["BACKEND", "CLUSTER"], vec!["a", "2"], vec!["client", "seen", "10.0.0.1"]];
        assert_eq!(rows, expected);
    }
}
