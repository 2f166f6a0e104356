//! `tidegate-bench memory`: all rows, then what grows.

use super::bed::{Bed, Plan, Until};
use super::hits::{Case, cases};
use super::rows::{self, Growth, Memory, Results, Row, Series};
use super::{compile, counted, growth, lookup};
use crate::numbers::float;
use crate::report;
use crate::scale::resident_mib;
use anyhow::{Context as _, Result};

/// What to measure.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Args {
    /// Only the rows whose names begin so; nothing that grows
    #[arg(long)]
    only: Option<String>,
    /// Rows with at most so many flows [default: what fits into half of the free memory]
    #[arg(long)]
    flows_max: Option<u32>,
    /// No instruction counts, which take a minute
    #[arg(long)]
    no_counts: bool,
    /// Run one case without a clock, for callgrind
    #[arg(long, hide = true, requires = "count_until")]
    count_case: Option<usize>,
    /// Up to where
    #[arg(long, hide = true)]
    count_until: Option<Until>,
}

/// Bytes that a flow of the largest row needs, its place in the bench's own lists included.
const BYTES_PER_FLOW: u64 = 256;

/// Runs it, prints the tables and writes `bench/results/memory.json` and `growth.json`.
pub(crate) fn run(args: &Args) -> Result<()> {
    if let (Some(number), Some(until)) = (args.count_case, args.count_until) {
        let case = cases().into_iter().nth(number).context("there is no such case")?;
        return report::print(&format!("{}\n", case.work(until)));
    }
    let noise = report::background_load()?;
    let flows_max = args.flows_max.map_or_else(affordable_flows, Ok)?;
    let mut results = Results { rows: rows(args, flows_max)?, memory: Vec::new() };
    let mut growth = Growth::default();
    if args.only.is_none() {
        results.rows.extend(lookup::run());
        results.memory = memory(flows_max)?;
        growth.series.push(over_flows(&results.rows));
        growth.series.extend(growth::run());
        growth.series.extend(compile::run()?);
        report::write("growth", noise, &growth)?;
    }
    rows::print(&results, &growth)?;
    report::write("memory", noise, &results)
}

/// Half of what is free.
fn affordable_flows() -> Result<u32> {
    let text = std::fs::read_to_string("/proc/meminfo").context("read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib = line.and_then(|line| line.split_whitespace().next()).context("find MemAvailable")?;
    let flows = kib.parse::<u64>()? * 1024 / 2 / BYTES_PER_FLOW;
    Ok(u32::try_from(flows).unwrap_or(u32::MAX))
}

fn rows(args: &Args, flows_max: u32) -> Result<Vec<Row>> {
    let has_counts = !args.no_counts && counted::is_there();
    if !has_counts && !args.no_counts {
        report::progress("no instruction counts: apt-get install valgrind, or say --no-counts");
    }
    let is_wanted = |case: &Case| args.only.as_deref().is_none_or(|n| case.name.starts_with(n));
    let mut rows = Vec::new();
    for (number, case) in cases().iter().enumerate().filter(|(_, case)| is_wanted(case)) {
        if case.plan.flows > flows_max {
            let (name, flows) = (case.name, case.plan.flows);
            report::progress(&format!("{name} at {flows} flows: left out, {flows_max} at most"));
            continue;
        }
        let mut row = case.measure();
        if has_counts {
            row.instructions_per_packet = counted::count(number, case)?;
        }
        report::progress(&format!("{} at {}: {:.1} ns", row.name, row.flows, row.ns_per_packet));
        rows.push(row);
    }
    Ok(rows)
}

/// What flows take, in tables that are full.
fn memory(flows_max: u32) -> Result<Vec<Memory>> {
    let row = |flows| {
        let [before, _] = resident_mib()?;
        let bed = Bed::full(Plan::of(flows));
        let [after, _] = resident_mib()?;
        Ok(Memory {
            flows,
            table_bytes_per_flow: float(bed.pipeline.flows.bytes() as u64) / f64::from(flows),
            resident_bytes_per_flow: (after - before) * float(1 << 20) / f64::from(flows),
        })
    };
    let sizes = [1_000_000, 4_000_000, 10_000_000];
    sizes.into_iter().filter(|flows| *flows <= flows_max).map(row).collect()
}

fn over_flows(rows: &[Row]) -> Series {
    let mut series = Series::new("established", "flows", "ns/packet");
    let rows = rows.iter().filter(|row| row.name == "established");
    series.points.extend(rows.map(|row| (row.flows, row.ns_per_packet)));
    series
}
