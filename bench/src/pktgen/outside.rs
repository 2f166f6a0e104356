//! What other generators print: the main page of Pktgen-DPDK, and the ports' table of TRex or the
//! JSON of its `get_stats`. Kept as a file among the results, it goes into the report.

use super::words;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

/// One run of a generator on another host, all ports together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Run {
    pub(crate) generator: &'static str,
    pub(crate) sent: u64,
    /// Received back; `None` where the generator does not say.
    pub(crate) received: Option<u64>,
}

/// The run of a file's text; `None` of a text of nobody that we know.
///
/// # Errors
/// A text that begins like a generator's and lacks its figures.
pub(crate) fn run(text: &str) -> Result<Option<Run>> {
    if text.contains("Params:") && text.contains("pkts-sofar:") {
        let sent = words::runs(text)?.iter().map(|run| run.packets).sum();
        return Ok(Some(Run { generator: "pktgen", sent, received: None }));
    }
    if text.contains("Pkts/s Max/Rx") {
        let row = |head: &str| {
            // The last page counts: the screen is drawn anew every second.
            let line = text.lines().rev().find(|line| line.trim_start().starts_with(head));
            line.and_then(|line| sum(line.split_once(':')?.1.split_whitespace()))
        };
        let sent = row("Tx Pkts").context("Pktgen-DPDK's page has no row \"Tx Pkts\"")?;
        let received = row("Total Rx Pkts");
        return Ok(Some(Run { generator: "Pktgen-DPDK", sent, received }));
    }
    if text.contains("opackets") {
        return trex(text).context("TRex's figures have no opackets").map(Some);
    }
    Ok(None)
}

fn trex(text: &str) -> Option<Run> {
    let count = |name: &str| match serde_json::from_str::<Value>(text) {
        Ok(json) => json.pointer(&format!("/total/{name}"))?.as_u64(),
        Err(_not_json) => {
            let line = text.lines().rev().find(|line| line.trim_start().starts_with(name))?;
            sum(line.split('|').skip(1).map(str::trim))
        }
    };
    Some(Run { generator: "TRex", sent: count("opackets")?, received: count("ipackets") })
}

fn sum<'a>(mut cells: impl Iterator<Item = &'a str>) -> Option<u64> {
    cells.try_fold(0, |sum, cell| Some(sum + cell.parse::<u64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (&'static str, u64, Option<u64>) {
        let run = run(text).unwrap().unwrap();
        (run.generator, run.sent, run.received)
    }

    #[test]
    fn every_generator_is_known_by_its_words() {
        let pktgen = include_str!("../../testdata/pktgen/two-threads.txt");
        assert_eq!(read(pktgen), ("pktgen", 4999, None));
        let dpdk = include_str!("../../testdata/pktgen/dpdk.txt");
        assert_eq!(read(dpdk), ("Pktgen-DPDK", 60_407_360, Some(8_328_195)));
        let table = include_str!("../../testdata/pktgen/trex.txt");
        assert_eq!(read(table), ("TRex", 3000, Some(2990)));
        let json = r#"{"0":{"opackets":7},"total":{"opackets":7,"ipackets":6,"tx_pps":1.5}}"#;
        assert_eq!(read(json), ("TRex", 7, Some(6)));
    }

    #[test]
    fn what_lacks_its_figures_is_an_error_and_a_stranger_is_none() {
        assert!(run("Pkts/s Max/Rx : 1/1").is_err());
        assert!(run("opackets | many").is_err());
        assert_eq!(run("hello").unwrap(), None);
    }
}
