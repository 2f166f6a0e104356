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

/// No packet for so long: a load is over. The next one's numbers may begin anew.
const PAUSE: Duration = Duration::from_millis(300);

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

/// When a line is due, and when a load is over.
#[derive(Debug, Default)]
struct Watch {
    is_loaded: bool,
    came_at: Duration,
    line_at: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    Nothing,
    Line,
    /// A line, and books for the next load.
    End,
}

impl Watch {
    fn look(&mut self, came: usize, now: Duration) -> Due {
        if came > 0 {
            if !self.is_loaded {
                self.line_at = now + LINE_EVERY;
            }
            (self.is_loaded, self.came_at) = (true, now);
        }
        if !self.is_loaded {
            Due::Nothing
        } else if now >= self.came_at + PAUSE {
            self.is_loaded = false;
            Due::End
        } else if now >= self.line_at {
            self.line_at = now + LINE_EVERY;
            Due::Line
        } else {
            Due::Nothing
        }
    }
}

/// Counts what comes, a line per second and one at the end of each load, until it is told to stop.
pub(crate) fn run(args: &Args, interrupt: &Interrupt) -> Result<()> {
    affinity::pin(args.cpu)?;
    let local = Local::read(&args.interface)?;
    let mut end = End::open(&args.interface, args.queue, local.index, true)?;
    report::print(&format!("listening on {}, mode {:?}\n", args.interface, end.mode()))?;
    let mut account = Account::new(args.flows);
    let start = Instant::now();
    let (mut watch, mut dropped) = (Watch::default(), 0);
    while interrupt.check().is_ok() && args.duration.is_none_or(|limit| start.elapsed() < limit) {
        let came = (0..BURSTS).map(|_| end.poll(&mut account, args.echo)).sum();
        end.push();
        match watch.look(came, start.elapsed()) {
            Due::Nothing => {}
            Due::Line => report::print(&line(&account, end.dropped() - dropped))?,
            Due::End => {
                let line = line(&account, end.dropped() - dropped);
                report::print(&format!("end of a load: {line}"))?;
                dropped = end.dropped();
                account.reset(0);
            }
        }
    }
    report::print(&line(&account, end.dropped() - dropped))
}

fn line(account: &Account, dropped: u64) -> String {
    let arrivals = &account.arrivals;
    format!(
        "{} packets, {} missing in their flow's order, {} reordered, {} doubled; no room for {}\n",
        arrivals.packets, arrivals.gaps, arrivals.reordered, arrivals.duplicates, dropped
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_a_load_and_silence_says_nothing() {
        let mut watch = Watch::default();
        let mut look = |came, ms| watch.look(came, Duration::from_millis(ms));
        assert_eq!(look(0, 5_000), Due::Nothing);
        assert_eq!(look(64, 5_100), Due::Nothing);
        assert_eq!(look(0, 5_399), Due::Nothing);
        assert_eq!(look(64, 5_399), Due::Nothing);
        assert_eq!(look(64, 6_100), Due::Line);
        assert_eq!(look(64, 6_200), Due::Nothing);
        assert_eq!(look(0, 6_500), Due::End);
        assert_eq!(look(0, 9_000), Due::Nothing);
        assert_eq!(look(1, 9_100), Due::Nothing);
        assert_eq!(look(0, 9_400), Due::End);
    }
}
