//! The sink alone, for a backend on another machine.

use super::bed::{LAB_CPU, Local};
use super::wire::account::Account;
use super::wire::end::End;
use crate::report;
use anyhow::Result;
use std::time::{Duration, Instant};
use tidegate_control::demo::Interrupt;
use tidegate_dataplane::xdp::affinity;

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Bursts between two looks at the clock and at Ctrl-C.
const BURSTS: u32 = 1_024;

/// Where to listen.
#[derive(Debug, Clone, clap::Args)]
#[command(after_help = "\
Two machines: run this on the backend (Endpoint) that the Service has, and\n\
`tidegate-bench load --interface .. --target NODE:NODEPORT --gateway-mac ..` on the client.\n\
Give --echo on both for round-trip latency: without it the clocks of two machines would\n\
have to agree, so only loss and order are told. Packets of others pass to the kernel.")]
pub(crate) struct Args {
    /// The interface that the load comes in by
    #[arg(long)]
    interface: String,
    /// Its queue; steer the load there (`ethtool -L IFACE combined 1` is the simplest)
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(..64))]
    queue: u32,
    /// Send every packet back to where it came from
    #[arg(long)]
    echo: bool,
    /// As many flows as the generator has
    #[arg(long, default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: u32,
    /// The CPU to spin on
    #[arg(long, default_value_t = LAB_CPU)]
    cpu: usize,
    /// Stop after so long; without it, at Ctrl-C
    #[arg(long, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
}

/// Counts what comes, a line per second, until it is told to stop.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    affinity::pin(args.cpu)?;
    let local = Local::read(&args.interface)?;
    let mut end = End::open(&args.interface, args.queue, local.index, true)?;
    report::print(&format!("listening on {}, mode {:?}\n", args.interface, end.mode()))?;
    let mut account = Account::new(args.flows);
    let start = Instant::now();
    let mut next_line = LINE_EVERY;
    while interrupt.check().is_ok() && args.duration.is_none_or(|limit| start.elapsed() < limit) {
        for _ in 0..BURSTS {
            end.poll(&mut account, args.echo);
        }
        end.push();
        if start.elapsed() >= next_line {
            next_line += LINE_EVERY;
            report::print(&line(&account, &end))?;
        }
    }
    report::print(&line(&account, &end))
}

fn line(account: &Account, end: &End) -> String {
    let arrivals = &account.arrivals;
    format!(
        "{} packets, {} missing in their flow's order, {} reordered, {} doubled; no room for {}\n",
        arrivals.packets,
        arrivals.gaps,
        arrivals.reordered,
        arrivals.duplicates,
        end.dropped()
    )
}
