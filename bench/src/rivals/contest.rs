//! All forwarders in turn, round after round.

use super::bed::conntrack::{self, Conntrack};
use super::bed::napi::Placement;
use super::bed::priority::Precedence;
use super::forwarder::{
    Bare, Forwarder, Kernel, LATENCY_SAMPLE, Prototype, Proxy, Testpmd, Tidegate,
};
use super::measure::{Plan, Task, Turn, measure};
use super::scenario::{Scenario, Work, WorkKind, chosen};
use super::table;
use crate::generator::{Kind, Size};
use crate::report;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::time::{Duration, Instant};
use tidegate_control::demo::Interrupt;
use tidegate_dataplane::engine::PollMode;

/// How to compare.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Rounds; in each, every forwarder has a turn at every load. IMIX and connections have two
    /// more, 1,000,000 flows one less
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Only these kinds of load
    #[arg(long, value_enum, value_delimiter = ',')]
    work: Vec<WorkKind>,
    /// Only these numbers of established flows, 1 to 1,000,000
    #[arg(long, value_delimiter = ',',
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: Vec<u32>,
    /// Only these sizes of frames, with their check sequence: 64 to 1518, or `imix`
    #[arg(long, value_delimiter = ',')]
    size: Vec<Size>,
    /// Only these forwarders, by their names in the table
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Seconds of each paced load that looks for the limit
    #[arg(long, default_value_t = 0.05)]
    probe_seconds: f64,
    /// Seconds of a paced load whose cost is measured
    #[arg(long, default_value_t = 0.5)]
    paced_seconds: f64,
    /// Seconds of the flood
    #[arg(long, default_value_t = 0.7)]
    flood_seconds: f64,
    /// The first paced load, in million packets per second
    #[arg(long, default_value_t = 0.4)]
    rate_first: f64,
    /// The largest paced load, in million packets per second
    #[arg(long, default_value_t = 3.2)]
    rate_max: f64,
    /// Sender of paced loads
    #[arg(long, value_enum, default_value_t = Kind::Live)]
    paced: Kind,
    /// Sender of the flood
    #[arg(long, value_enum, default_value_t = Kind::Live)]
    flood: Kind,
}

/// What is written to the file of results.
#[derive(Debug, Serialize)]
struct Results<'a> {
    plan: Plan,
    rows: Vec<table::Row>,
    ratios: Vec<table::Ratio>,
    turns: &'a [Turn],
}

/// CPUs' worth of other work beyond which figures are not worth much.
const NOISE_MAX: f64 = 0.2;

/// Rounds more for loads that are not steady.
const ROUNDS_MORE: u32 = 2;

/// Rounds in which variants take part.
const VARIANT_ROUNDS: u32 = 2;

pub(super) const GENERATOR_CPU: usize = 0;
pub(super) const FORWARDER_CPU: usize = 1;

/// Sleep after this long without a packet, where a forwarder sleeps: `EngineConfig::small`'s.
const IDLE_SPIN: Duration = Duration::from_micros(50);

/// Runs the contest, prints the tables and writes the results.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    let cpus = std::thread::available_parallelism()?.get();
    ensure!(cpus > FORWARDER_CPU, "generator and forwarder need a CPU each; there is {cpus}");
    let start = Instant::now();
    let noise = report::background_load()?;
    let precedence = Precedence::take()?;
    let turns = turns(args, interrupt)?;
    drop(precedence);
    let results = Results {
        plan: plan(args),
        rows: table::rows(&turns),
        ratios: table::ratios(&turns),
        turns: &turns,
    };
    report::print(&table::render(&results.rows, &results.ratios))?;
    let noise_after = report::background_load()?;
    if noise.max(noise_after) > NOISE_MAX {
        report::print("THE MACHINE WAS NOT QUIET: the paced figures are not to be quoted.\n")?;
    }
    report::print(&format!(
        "{} rounds in {:.0} s; other work took {:.2} CPUs before, {:.2} after.\n",
        args.rounds,
        start.elapsed().as_secs_f64(),
        noise,
        noise_after,
    ))?;
    report::write("rivals", noise, &results)
}

fn turns(args: &Args, interrupt: &Interrupt) -> Result<Vec<Turn>> {
    let forwarders = forwarders(&args.only)?;
    let plan = plan(args);
    let table = Conntrack::open()?;
    let scenarios = chosen(&args.work, &args.flows, &args.size);
    let mut turns: Vec<Turn> = Vec::new();
    for round in 1..=args.rounds + ROUNDS_MORE {
        for scenario in scenarios.iter().filter(|s| round <= rounds_of(s, args.rounds)) {
            let is_in = |forwarder: &dyn Forwarder| {
                let meets = meets(forwarder.name(), scenario, round);
                (!args.only.is_empty() || meets) && forwarder.can(scenario)
            };
            for forwarder in forwarders.iter().filter(|f| is_in(f.as_ref())) {
                table.make_room(scenario.flows_max()?)?;
                let expected_pps = limit_before(&turns, forwarder.name(), scenario);
                let task = Task { round, scenario: *scenario, expected_pps };
                let turn = measure(forwarder.as_ref(), &plan, &task, interrupt)?;
                report::progress(&table::line(&turn));
                turns.push(turn);
                conntrack::settle()?;
            }
        }
    }
    ensure!(!turns.is_empty(), "none of the forwarders in --only can do what is asked");
    Ok(turns)
}

/// Whether a forwarder meets a load where nobody chooses: all of them would take half an hour.
fn meets(forwarder: &str, scenario: &Scenario, round: u32) -> bool {
    if is_variant(forwarder) && round > VARIANT_ROUNDS {
        return false;
    }
    let is_least = scenario.size == Size::LEAST;
    match forwarder {
        "bare" | "tidegate" | "iptables" | "nftables" | "haproxy" => true,
        "testpmd" => scenario.work != Work::Stream(1_000_000),
        "xdp-prototype" => is_least && matches!(scenario.work, Work::Stream(1 | 10_000)),
        _ => is_least && scenario.work == Work::Stream(10_000),
    }
}

/// How often a load comes: more often where rounds differ by much, less where one takes long.
fn rounds_of(scenario: &Scenario, rounds: u32) -> u32 {
    let is_unsteady = scenario.size == Size::Imix || scenario.work == Work::Connections;
    match scenario.work {
        _ if is_unsteady => rounds + ROUNDS_MORE,
        Work::Stream(1_000_000) => rounds.saturating_sub(1).max(1),
        _ => rounds,
    }
}

/// Another form of one of the contestants: for reference, no rival.
pub(crate) fn is_variant(forwarder: &str) -> bool {
    let variants = ["tidegate-adaptive", "xdp-prototype", "bare-one-cpu", "tidegate-one-cpu"];
    variants.contains(&forwarder)
}

/// The largest load that a forwarder carried in the last round, to begin near it.
fn limit_before(turns: &[Turn], forwarder: &str, scenario: &Scenario) -> Option<f64> {
    let same = |t: &&Turn| t.forwarder == forwarder && t.scenario == *scenario;
    turns.iter().rev().find(same)?.best()?.asked_pps
}

fn plan(args: &Args) -> Plan {
    Plan {
        paced: args.paced,
        flood: args.flood,
        generator_cpu: GENERATOR_CPU,
        forwarder_cpu: FORWARDER_CPU,
        probe_seconds: args.probe_seconds,
        paced_seconds: args.paced_seconds,
        flood_seconds: args.flood_seconds,
        rate_first_pps: args.rate_first * 1e6,
        rate_max_pps: args.rate_max * 1e6,
    }
}

/// The contestants; those to be compared stand side by side, so that they meet the same weather.
pub(crate) fn forwarders(only: &[String]) -> Result<Vec<Box<dyn Forwarder>>> {
    let cpu = FORWARDER_CPU;
    let latency_sample = LATENCY_SAMPLE;
    let tidegate =
        |name, placement, poll_mode| Tidegate { name, cpu, placement, poll_mode, latency_sample };
    let bare = |name, placement, idle_spin| Bare { name, cpu, placement, idle_spin };
    let all: Vec<Box<dyn Forwarder>> = vec![
        Box::new(bare("bare", Placement::Sender, None)),
        Box::new(tidegate("tidegate", Placement::Sender, PollMode::Busy)),
        Box::new(tidegate("tidegate-adaptive", Placement::Sender, PollMode::Adaptive)),
        Box::new(Testpmd { cpu }),
        Box::new(Kernel::Iptables),
        Box::new(Kernel::Nftables),
        Box::new(Proxy { cpu }),
        Box::new(Kernel::Routing),
        Box::new(Prototype),
        Box::new(bare("bare-one-cpu", Placement::Forwarder, Some(IDLE_SPIN))),
        Box::new(tidegate("tidegate-one-cpu", Placement::Forwarder, PollMode::Adaptive)),
    ];
    let names: Vec<&str> = all.iter().map(|forwarder| forwarder.name()).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        anyhow::bail!("no forwarder is called {unknown}: there are {}", names.join(", "));
    }
    let is_wanted = |name: &str| only.is_empty() || only.iter().any(|wanted| wanted == name);
    Ok(all.into_iter().filter(|forwarder| is_wanted(forwarder.name())).collect())
}
