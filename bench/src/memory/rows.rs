//! What comes out: rows, and series for plots.

use crate::numbers::Spread;
use crate::report;
use anyhow::Result;
use serde::Serialize;
use tidegate_control::cli::view::table::Table;

/// All results, as they stand in `bench/results/memory.json`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Results {
    /// One figure each.
    pub(crate) rows: Vec<Row>,
    /// Bytes that a flow takes.
    pub(crate) memory: Vec<Memory>,
}

/// How costs grow, as it stands in `bench/results/growth.json`: a plot for each `against`, and a
/// line for each series.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Growth {
    /// The lines.
    pub(crate) series: Vec<Series>,
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: String,
    /// Live flows; for new ones, the room for them.
    pub(crate) flows: u32,
    /// Median over the turns, nanoseconds per packet, header writing taken off.
    pub(crate) ns_per_packet: f64,
    /// Least and most of the turns.
    pub(crate) min_max: (f64, f64),
    /// Instructions per packet, as callgrind counts them; `null` where they were not counted.
    pub(crate) instructions_per_packet: Option<f64>,
}

impl Row {
    /// The row of these turns' times.
    pub(crate) fn of(name: &str, flows: u32, turns: impl IntoIterator<Item = f64>) -> Self {
        let none = Spread { median: f64::NAN, min: f64::NAN, max: f64::NAN };
        let Spread { median, min, max } = Spread::of(turns).unwrap_or(none);
        Self {
            name: name.into(),
            flows,
            ns_per_packet: median,
            min_max: (min, max),
            instructions_per_packet: None,
        }
    }
}

/// What a flow takes, in a table that is as large as it must be.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Memory {
    /// Flows, all of them live.
    pub(crate) flows: u32,
    /// Entries, index, free list and list of handshakes, by their sizes.
    pub(crate) table_bytes_per_flow: f64,
    /// What the process's resident memory grew by: four bytes of the benchmark's own are in it.
    pub(crate) resident_bytes_per_flow: f64,
}

/// A line of a plot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    /// What was measured.
    pub(crate) name: String,
    /// What `x` counts: flows, services, backends or queues, of which each has a worker.
    pub(crate) against: &'static str,
    /// The unit of `y`: `ns/packet`, `ms`.
    pub(crate) unit: &'static str,
    /// `x`, rising, from 1 to a million and more: for a logarithmic axis; and `y`, a median.
    pub(crate) points: Vec<(u32, f64)>,
}

impl Series {
    /// A line without points.
    pub(crate) fn new(name: &str, against: &'static str, unit: &'static str) -> Self {
        Self { name: name.into(), against, unit, points: Vec::new() }
    }
}

/// Prints all of it as tables.
pub(crate) fn print(results: &Results, growth: &Growth) -> Result<()> {
    let mut rows = Table::new(&["PIPELINE IN MEMORY", "FLOWS", "NS/PACKET", "INSTRUCTIONS"]);
    for row in &results.rows {
        let (min, max) = row.min_max;
        let spread = Spread { median: row.ns_per_packet, min, max };
        let count = row.instructions_per_packet.map_or("-".into(), |count| format!("{count:.0}"));
        rows.row([row.name.clone(), row.flows.to_string(), format!("{spread:.1}"), count]);
    }
    let mut memory = Table::new(&["FLOWS", "TABLE, BYTES/FLOW", "RESIDENT, BYTES/FLOW"]);
    for row in &results.memory {
        let [table, resident] = [row.table_bytes_per_flow, row.resident_bytes_per_flow];
        memory.row([row.flows.to_string(), format!("{table:.0}"), format!("{resident:.0}")]);
    }
    let mut lines = Table::new(&["GROWTH", "AGAINST", "AT", "MEDIAN", "UNIT"]);
    for Series { name, against, unit, points } in &growth.series {
        for (x, y) in points {
            let (x, y) = (x.to_string(), format!("{y:.2}"));
            lines.row([name.as_str(), against, &x, &y, unit]);
        }
    }
    let mut tables = vec![rows.render(true)];
    if !growth.series.is_empty() {
        tables.extend([memory.render(true), lines.render(true)]);
    }
    report::print(&(tables.join("\n") + "\n"))
}
