//! What the gateway costs: the machine's busy time, less the generator's own.

use crate::generator::Sent;
use anyhow::{Context as _, Result};
use std::fs;
use std::time::{Duration, Instant};

/// `/proc/stat` at one moment.
#[derive(Debug, Clone)]
pub(crate) struct CpuClock {
    at: Instant,
    cpus: u32,
    /// Idle, waiting for a disk, or taken away by the hypervisor; all CPUs.
    away: Duration,
    /// In softirqs on the generator's CPU.
    generator_softirq: Duration,
}

impl CpuClock {
    /// Reads it; `generator_cpu` is where the generator runs.
    pub(crate) fn read(generator_cpu: usize) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let ticks_per_second = rustix::param::clock_ticks_per_second();
        parse(&text, generator_cpu, ticks_per_second).context("understand /proc/stat")
    }

    /// Busy time of all CPUs since `earlier`.
    pub(crate) fn busy_since(&self, earlier: &Self) -> Duration {
        let wall = self.at.duration_since(earlier.at) * self.cpus;
        wall.saturating_sub(self.away.saturating_sub(earlier.away))
    }

    /// Busy time since `earlier` that the gateway and its veths caused. The generator's thread time
    /// holds the softirqs that ran in it (the receive side of the gateway's veth, where that has no
    /// thread of its own): they are the gateway's.
    pub(crate) fn gateway_since(&self, earlier: &Self, sent: &Sent) -> Duration {
        let softirq = self.generator_softirq.saturating_sub(earlier.generator_softirq);
        let generator = sent.cpu_time.saturating_sub(softirq);
        self.busy_since(earlier).saturating_sub(generator)
    }
}

/// The lines are `cpuN user nice system idle iowait irq softirq steal ...`, in ticks.
fn parse(text: &str, generator_cpu: usize, ticks_per_second: u64) -> Option<CpuClock> {
    let mut clock = CpuClock {
        at: Instant::now(),
        cpus: 0,
        away: Duration::ZERO,
        generator_softirq: Duration::ZERO,
    };
    let tick = Duration::from_secs(1) / u32::try_from(ticks_per_second).ok()?;
    for line in text.lines() {
        let Some((number, rest)) = line.strip_prefix("cpu").and_then(|l| l.split_once(' ')) else {
            continue;
        };
        let Ok(number) = number.parse::<usize>() else { continue };
        let fields = rest.split_whitespace().map(|f| f.parse().unwrap_or(0));
        let fields: Vec<u32> = fields.collect();
        let [_, _, _, idle, iowait, _, softirq, steal, ..] = fields[..] else { return None };
        clock.cpus += 1;
        clock.away += tick * (idle + iowait + steal);
        if number == generator_cpu {
            clock.generator_softirq = tick * softirq;
        }
    }
    (clock.cpus > 0).then_some(clock)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 100 500 10 0 50 5 0 0\n\
        cpu1 0 0 0 600 0 0 7 0 0 0\nintr 1 2\n";
    const AFTER: &str = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 100 0 150 510 10 0 90 5 0 0\n\
        cpu1 0 0 0 680 0 0 27 0 0 0\nintr 1 2\n";

    #[test]
    fn the_gateway_pays_for_softirqs_in_the_generator() {
        let (before, mut after) = (parse(BEFORE, 0, 100).unwrap(), parse(AFTER, 0, 100).unwrap());
        after.at = before.at + Duration::from_secs(1);
        // Two CPUs for a second, 100 and 800 ms of it idle.
        assert_eq!(after.busy_since(&before), Duration::from_millis(1100));
        // 900 ms in the generator's thread, 400 of them softirqs.
        let sent = Sent {
            packets: 1,
            elapsed: Duration::from_secs(1),
            cpu_time: Duration::from_millis(900),
        };
        assert_eq!(after.gateway_since(&before, &sent), Duration::from_millis(600));
    }
}
