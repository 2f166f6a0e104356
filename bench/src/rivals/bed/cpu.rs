//! What the gateway costs: all that its CPU does, and the softirqs on the generator's.

use anyhow::{Context as _, Result, ensure};
use std::fs;
use std::time::{Duration, Instant};

/// `/proc/stat` at one moment.
#[derive(Debug, Clone)]
pub(crate) struct CpuClock {
    at: Instant,
    /// What the forwarder's CPU was not: idle, waiting for a disk, or taken by the hypervisor.
    forwarder_away: Duration,
    /// Interrupts and softirqs on the generator's CPU.
    generator_irq: Duration,
}

impl CpuClock {
    /// Reads it.
    pub(crate) fn read(generator_cpu: usize, forwarder_cpu: usize) -> Result<Self> {
        let text = fs::read_to_string("/proc/stat").context("read /proc/stat")?;
        let tick = Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second())?;
        let [.., irq, softirq, _] = fields(&text, generator_cpu)?;
        let [_, _, _, idle, iowait, _, _, steal] = fields(&text, forwarder_cpu)?;
        Ok(Self {
            at: Instant::now(),
            forwarder_away: tick * (idle + iowait + steal),
            generator_irq: tick * (irq + softirq),
        })
    }

    /// CPU time of the gateway and its veths since `earlier`, while the generator ran. Of the
    /// generator's CPU it has the softirqs: the receive side of the gateway's veth, where that has
    /// no thread of its own. The rest of that CPU is the generator's.
    pub(crate) fn gateway_since(&self, earlier: &Self) -> Duration {
        let wall = self.at.duration_since(earlier.at);
        let away = self.forwarder_away.saturating_sub(earlier.forwarder_away);
        wall.saturating_sub(away) + self.generator_irq.saturating_sub(earlier.generator_irq)
    }
}

/// A CPU's `user nice system idle iowait irq softirq steal`, in ticks.
fn fields(text: &str, cpu: usize) -> Result<[u32; 8]> {
    let name = format!("cpu{cpu} ");
    let line = text.lines().find_map(|line| line.strip_prefix(&name));
    let line = line.with_context(|| format!("find CPU {cpu} in /proc/stat"))?;
    let mut fields = [0; 8];
    let words = line.split_whitespace();
    ensure!(words.clone().count() >= fields.len(), "/proc/stat says too little: {line}");
    for (field, word) in fields.iter_mut().zip(words) {
        *field = word.parse().with_context(|| format!("understand /proc/stat: {line}"))?;
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_one_cpu_are_found() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 1 2 3 4 5 6 7 8 0 0\ncpu10 0 0 0 0 0 0 0 0\n";
        assert_eq!(fields(text, 1).unwrap(), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(fields(text, 2).is_err());
        assert!(fields("cpu1 1 2 3\n", 1).is_err());
    }

    #[test]
    fn softirqs_on_the_generators_cpu_are_the_gateways() {
        let at = Instant::now();
        let (away, irq) = (Duration::from_secs(10), Duration::from_secs(3));
        let before = CpuClock { at, forwarder_away: away, generator_irq: irq };
        let after = CpuClock {
            at: at + Duration::from_secs(1),
            forwarder_away: away + Duration::from_millis(200),
            generator_irq: irq + Duration::from_millis(450),
        };
        assert_eq!(after.gateway_since(&before), Duration::from_millis(1250));
    }
}
