//! What it costs to record latencies: tidegate under a flood, with none recorded and with as many
//! as by default, in turn.

use super::bed::napi::Placement;
use super::bed::priority::Precedence;
use super::contest::{FORWARDER_CPU, GENERATOR_CPU};
use super::forwarder::{LATENCY_SAMPLE, Tidegate};
use super::measure::{Plan, Task, measure};
use super::scenario::Scenario;
use crate::generator::Kind;
use crate::numbers::Spread;
use crate::report;
use anyhow::{Context as _, Result};
use serde::Serialize;
use tidegate_control::demo::Interrupt;
use tidegate_dataplane::engine::PollMode;

/// How much to measure.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RecordingArgs {
    /// Rounds; in each, both have a turn
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Flows
    #[arg(
        long,
        default_value_t = 10_000,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
    )]
    flows: u32,
    /// Seconds of each flood
    #[arg(long, default_value_t = 1.0)]
    flood_seconds: f64,
}

#[derive(Debug, Serialize)]
struct Results {
    flows: u32,
    /// One packet in so many is recorded.
    latency_sample: u32,
    /// Packets per second that arrive, without recording and with it.
    delivered_pps: [Spread; 2],
    /// What recording takes off them, in percent of those without; worked out in each round.
    cost_percent: Spread,
}

/// The aim: no more than this.
const COST_PERCENT_MAX: f64 = 2.0;

/// Runs it, prints the cost and writes `bench/results/recording.json`.
pub(crate) fn recording(args: &RecordingArgs, interrupt: &Interrupt) -> Result<()> {
    let noise = report::background_load()?;
    let precedence = Precedence::take()?;
    let mut rounds = Vec::new();
    for round in 1..=args.rounds {
        // Who comes first changes, so that a machine that warms up favours neither.
        let mut pps = [0.0; 2];
        for turn in [round % 2, (round + 1) % 2] {
            let sample = turn * LATENCY_SAMPLE;
            pps[turn as usize] = flooded(args, (round, sample), interrupt)?;
        }
        let [without, with] = pps.map(|pps| pps / 1e6);
        report::progress(&format!("round {round}: {without:.3} without, {with:.3} Mpps with"));
        rounds.push(pps);
    }
    drop(precedence);
    let results = Results {
        flows: args.flows,
        latency_sample: LATENCY_SAMPLE,
        delivered_pps: [
            spread(&rounds, |[without, _]| without)?,
            spread(&rounds, |[_, with]| with)?,
        ],
        cost_percent: spread(&rounds, |[without, with]| (without - with) / without * 100.0)?,
    };
    let cost = results.cost_percent;
    let word = if cost.median <= COST_PERCENT_MAX { "met" } else { "missed" };
    report::print(&format!(
        "Recording one packet in {LATENCY_SAMPLE} costs {cost:.1} % of the throughput \
         (aim {COST_PERCENT_MAX}: {word}).\n"
    ))?;
    report::write("recording", noise, &results)
}

fn spread(rounds: &[[f64; 2]], value: impl Fn([f64; 2]) -> f64) -> Result<Spread> {
    Spread::of(rounds.iter().map(|round| value(*round))).context("no round was run")
}

/// Packets per second that arrive of a flood.
fn flooded(
    args: &RecordingArgs,
    (round, latency_sample): (u32, u32),
    interrupt: &Interrupt,
) -> Result<f64> {
    let tidegate = Tidegate {
        name: "tidegate",
        cpu: FORWARDER_CPU,
        placement: Placement::Sender,
        poll_mode: PollMode::Busy,
        latency_sample,
    };
    // One paced load, which is not looked at: the flood is what counts.
    let plan = Plan {
        paced: Kind::Live,
        flood: Kind::Live,
        generator_cpu: GENERATOR_CPU,
        forwarder_cpu: FORWARDER_CPU,
        probe_seconds: 0.1,
        paced_seconds: 0.1,
        flood_seconds: args.flood_seconds,
        rate_first_pps: 100_000.0,
        rate_max_pps: 100_000.0,
    };
    let task = Task { round, scenario: Scenario::stream(args.flows), expected_pps: None };
    let turn = measure(&tidegate, &plan, &task, interrupt)?;
    Ok(turn.flood.context("flood tidegate")?.delivered_pps)
}
