//! `tidegate latency`: how long packets stayed.

use crate::admin::Client;
use crate::admin::report::LatencyReport;
use crate::cli::output::{print, to_json};
use crate::cli::view;
use crate::fault::Fault;
use clap::{Args, ValueEnum};
use tidegate_dataplane::stats::Stage;

/// Arguments of `tidegate latency`.
#[derive(Debug, Args)]
pub struct LatencyArgs {
    /// Begin anew: forget what was measured so far
    #[arg(long, conflicts_with_all = ["output", "stage"])]
    reset: bool,
    /// Form of the answer
    #[arg(short, long, value_name = "FORM", default_value = "table")]
    output: LatencyFormat,
    /// Stage of the percentile distribution
    #[arg(long, default_value = "total")]
    stage: StageName,
}

/// Forms of the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LatencyFormat {
    /// For people.
    Table,
    /// `HdrHistogram`'s percentile distribution of one stage, microseconds; plotters read it.
    Hgrm,
    /// JSON.
    Json,
}

/// Names of the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StageName {
    /// XDP program to worker.
    QueueWait,
    /// Worker to transmit ring.
    Forwarding,
    /// Both.
    Total,
}

impl From<StageName> for Stage {
    fn from(name: StageName) -> Self {
        match name {
            StageName::QueueWait => Self::QueueWait,
            StageName::Forwarding => Self::Forwarding,
            StageName::Total => Self::Total,
        }
    }
}

/// Prints the figures, or begins anew.
///
/// # Errors
/// The daemon is not reachable.
pub async fn run(client: &Client, args: LatencyArgs) -> Result<(), Fault> {
    if args.reset {
        return Ok(client.post("/api/v1/latency/reset").await?);
    }
    if args.output == LatencyFormat::Hgrm {
        let stage = Stage::from(args.stage).name().replace(' ', "%20");
        let path = format!("/api/v1/latency.hgrm?stage={stage}");
        return print(&client.get_text(&path).await?);
    }
    let report: LatencyReport = client.get("/api/v1/latency").await?;
    match args.output {
        LatencyFormat::Json => print(&to_json(&report)?),
        LatencyFormat::Table | LatencyFormat::Hgrm => print(&view::latency::screen(&report)),
    }
}
