//! `tidegate-bench`: how fast, compared with whom. `bench/README.md` tells the method.

mod bpf;
mod generator;
mod html;
mod lab;
mod memory;
mod numbers;
mod pktgen;
mod report;
mod rivals;
mod scale;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tidegate_control::demo::Interrupt;

#[derive(Debug, Parser)]
#[command(version, about = "Benchmarks of tidegate")]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Everything that `make bench` runs
    All(rivals::Args),
    /// tidegate against a bare AF_XDP forwarder and the kernel with kube-proxy's rules
    Rivals(rivals::Args),
    /// A load test: no-drop rate, latency at shares of it; through the rig or a gateway of yours
    Load(lab::LoadArgs),
    /// What takes, counts and echoes the load on another machine
    Sink(lab::SinkArgs),
    /// Latency of all forwarders at one absolute rate
    Latency(lab::LatencyArgs),
    /// Latency of requests and answers on TCP connections, of all that forward these
    Requests(lab::RequestsArgs),
    /// The pipeline alone, in memory: times, instructions, bytes, and how they grow
    Memory(memory::Args),
    /// What it costs to record latencies
    Recording(rivals::RecordingArgs),
    /// What a change costs in a large cluster
    Scale(scale::Args),
    /// The kernel's pktgen against tidegate in a guest: every packet is accounted for
    Pktgen(pktgen::Args),
    /// A page, plots and a table of the results
    Report(html::Args),
}

fn main() -> Result<()> {
    let args = Args::parse();
    let interrupt = Interrupt::listen()?;
    match args.command {
        Command::All(args) => {
            memory::run(&memory::Args::default())?;
            scale::run(&scale::Args::default())?;
            pktgen::run(&pktgen::Args::default(), &interrupt)?;
            rivals::run(&args, &interrupt)?;
            lab::run_latency(&lab::LatencyArgs::default(), &interrupt)?;
            lab::run_requests(&lab::RequestsArgs::default(), &interrupt)?;
            lab::run_load(&lab::LoadArgs::default(), &interrupt)?;
            html::run(&html::Args::default())
        }
        Command::Rivals(args) => rivals::run(&args, &interrupt),
        Command::Memory(args) => memory::run(&args),
        Command::Recording(args) => rivals::recording(&args, &interrupt),
        Command::Load(args) => lab::run_load(&args, &interrupt),
        Command::Sink(args) => lab::run_sink(&args, &interrupt),
        Command::Requests(args) => lab::run_requests(&args, &interrupt),
        Command::Latency(args) => lab::run_latency(&args, &interrupt),
        Command::Scale(args) => scale::run(&args),
        Command::Pktgen(args) => pktgen::run(&args, &interrupt),
        Command::Report(args) => html::run(&args),
    }
}
