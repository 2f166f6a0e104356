//! What the kernel's pktgen says of a device after a run: `/proc/net/pktgen/DEVICE`
//! (Documentation/networking/pktgen.rst).

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// One device's run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sent {
    /// Interface, and after `@` the thread.
    pub(crate) device: String,
    pub(crate) packets: u64,
    /// Packets that the interface refused.
    pub(crate) errors: u64,
    /// Bytes of a frame, without its check sequence.
    pub(crate) packet_bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) pps: f64,
}

/// The runs of a text of such blocks, one after the other.
///
/// # Errors
/// A block that does not say `Result: OK`, or lacks a figure.
pub(crate) fn runs(text: &str) -> Result<Vec<Sent>> {
    let blocks = text.split("Params:").skip(1);
    blocks
        .map(|block| run(block).with_context(|| format!("read pktgen's words: {block}")))
        .collect()
}

fn run(block: &str) -> Result<Sent> {
    let result = block.split_once("Result: ").context("there is no result")?.1;
    ensure!(result.starts_with("OK:"), "pktgen failed");
    let microseconds = number(result, "OK: ")?;
    let packets = number(block, "pkts-sofar: ")?;
    let seconds = crate::numbers::float(microseconds) / 1e6;
    Ok(Sent {
        device: word(block, "ifname: ").context("there is no ifname")?.into(),
        packets,
        errors: number(block, "errors: ")?,
        packet_bytes: number(block, "min_pkt_size: ")?,
        seconds,
        pps: crate::numbers::ratio(packets, seconds),
    })
}

fn word<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_whitespace().next()
}

/// The digits after `before`.
fn number(text: &str, before: &str) -> Result<u64> {
    let rest =
        text.split_once(before).with_context(|| format!("there is no {before:?}"))?.1.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().with_context(|| format!("no number after {before:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_threads_are_two_runs() {
        let runs = runs(include_str!("../../testdata/pktgen/two-threads.txt")).unwrap();
        let seen: Vec<_> = runs.iter().map(|r| (&*r.device, r.packets, r.errors)).collect();
        assert_eq!(seen, [("eth0@0", 2500, 0), ("eth0@1", 2499, 1)]);
        assert_eq!(runs[0].packet_bytes, 60);
        assert!((runs[0].pps - 2446.1).abs() < 0.1, "{}", runs[0].pps);
    }

    #[test]
    fn a_run_that_failed_is_an_error() {
        let text = include_str!("../../testdata/pktgen/two-threads.txt").replace("OK:", "ERROR:");
        assert!(runs(&text).is_err());
        assert_eq!(runs("").unwrap(), []);
    }
}
