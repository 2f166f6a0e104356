//! Where every packet of a trial went: what pktgen sent, what tidegate counted, what arrived.

use super::words;
use crate::numbers::float;
use anyhow::{Context as _, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use tidegate_control::admin::report::{DropsReport, InterfaceReport, List, ServiceReport};

/// One trial's sum.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Trial {
    pub(crate) node: String,
    pub(crate) node_port: u16,
    pub(crate) policy: String,
    pub(crate) flows: u32,
    /// The mode that the kernel granted to all queues, as `get interfaces` has it of `XDP_OPTIONS`.
    pub(crate) copy_mode: String,
    /// Receive queues of the interface towards the sender.
    pub(crate) queues: usize,
    pub(crate) sent: u64,
    pub(crate) sent_pps: f64,
    /// Forwarded for the Service.
    pub(crate) forwarded: u64,
    pub(crate) dropped: BTreeMap<String, u64>,
    /// Other packets of both interfaces, such as ARP: the kernel's.
    pub(crate) passed: u64,
    pub(crate) arrived: u64,
    pub(crate) unaccounted: u64,
}

impl Trial {
    /// Every packet that pktgen sent is somewhere, and what was forwarded arrived.
    pub(crate) fn is_closed(&self) -> bool {
        let dropped: u64 = self.dropped.values().sum();
        self.sent > 0
            && self.sent == self.forwarded + dropped
            && self.arrived == self.forwarded
            && self.unaccounted == 0
    }

    /// `3 FULL_RING, 1 NOMEM`, or 0.
    pub(crate) fn dropped_words(&self) -> String {
        let words: Vec<_> =
            self.dropped.iter().map(|(why, count)| format!("{count} {why}")).collect();
        if words.is_empty() { "0".into() } else { words.join(", ") }
    }
}

/// The trials of what the guest printed.
///
/// # Errors
/// A trial that lacks a part, or whose parts cannot be read.
pub(crate) fn trials(console: &str) -> Result<Vec<Trial>> {
    let mut trials = Vec::new();
    for text in console.split("@@end").filter(|text| text.contains("@@sent ")) {
        let sections = sections(text);
        trials.push(trial(&sections).with_context(|| format!("read trial {}", trials.len() + 1))?);
    }
    ensure!(!trials.is_empty(), "the guest ran no trial; it said:\n{console}");
    Ok(trials)
}

/// Texts by their head: `before drops`, `sent ADDRESS PORT FLOWS`, and so on.
fn sections(text: &str) -> BTreeMap<&str, &str> {
    text.split("@@").skip(1).filter_map(|section| section.split_once('\n')).collect()
}

fn trial(sections: &BTreeMap<&str, &str>) -> Result<Trial> {
    let head = sections.keys().find_map(|head| head.strip_prefix("sent ")).context("no head")?;
    let [node, port, flows] = head.split(' ').collect::<Vec<_>>()[..] else {
        anyhow::bail!("the head is {head:?}")
    };
    let node_port: u16 = port.parse()?;
    let runs = words::runs(sections.get(&*format!("sent {head}")).context("no words of pktgen")?)?;
    let interfaces: List<InterfaceReport> = json(sections, "after interfaces")?;
    let outer = interfaces.items.iter().find(|i| i.name == "eth1").context("no eth1")?;
    let (before, after) = (drops(sections, "before")?, drops(sections, "after")?);
    let service = service(sections, "after", node_port)?;
    Ok(Trial {
        node: node.into(),
        node_port,
        flows: flows.parse()?,
        copy_mode: modes(&interfaces.items),
        queues: outer.queues.len(),
        sent: runs.iter().map(|run| run.packets).sum(),
        sent_pps: runs.iter().map(|run| run.pps).sum(),
        forwarded: service.packets - self::service(sections, "before", node_port)?.packets,
        policy: service.policy,
        dropped: difference(&before, &after),
        passed: after.sum.passed - before.sum.passed,
        arrived: count(sections, "after arrived")? - count(sections, "before arrived")?,
        unaccounted: after.sum.unaccounted,
    })
}

/// `ZERO-COPY` where all interfaces say so.
fn modes(interfaces: &[InterfaceReport]) -> String {
    let mut modes: Vec<_> =
        interfaces.iter().map(|i| i.copy_mode.clone().unwrap_or_else(|| "none".into())).collect();
    modes.dedup();
    modes.join(", ")
}

fn drops(sections: &BTreeMap<&str, &str>, when: &str) -> Result<DropsReport> {
    json(sections, &format!("{when} drops"))
}

/// Dropped and rejected packets by reason.
fn difference(before: &DropsReport, after: &DropsReport) -> BTreeMap<String, u64> {
    let mut sum = BTreeMap::new();
    for reason in after.dropped.iter().chain(&after.rejected) {
        *sum.entry(reason.reason.clone()).or_insert(0) += reason.packets;
    }
    for reason in before.dropped.iter().chain(&before.rejected) {
        if let Some(count) = sum.get_mut(&reason.reason) {
            *count -= reason.packets;
        }
    }
    sum.retain(|_, count| *count > 0);
    sum
}

fn service(sections: &BTreeMap<&str, &str>, when: &str, port: u16) -> Result<ServiceReport> {
    let services: List<ServiceReport> = json(sections, &format!("{when} services"))?;
    let mut services = services.items.into_iter();
    services.find(|s| s.node_port == Some(port)).with_context(|| format!("no node port {port}"))
}

fn json<T: DeserializeOwned>(sections: &BTreeMap<&str, &str>, head: &str) -> Result<T> {
    let text = sections.get(head).with_context(|| format!("no section {head:?}"))?;
    serde_json::from_str(text).with_context(|| format!("read {head:?}"))
}

fn count(sections: &BTreeMap<&str, &str>, head: &str) -> Result<u64> {
    let text = sections.get(head).with_context(|| format!("no section {head:?}"))?;
    text.trim().parse().with_context(|| format!("read {head:?}"))
}

/// Thousands of packets per second, for the table.
pub(crate) fn kpps(trial: &Trial) -> f64 {
    trial.sent_pps / float(1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trial_of_the_guest_closes() {
        let trials = trials(include_str!("../../testdata/pktgen/guest.txt")).unwrap();
        let trial = &trials[0];
        assert_eq!((trial.sent, trial.forwarded, trial.arrived), (5000, 5000, 5000));
        assert_eq!((&*trial.copy_mode, trial.queues, &*trial.policy), ("ZERO-COPY", 4, "Cluster"));
        assert!(trial.is_closed());
    }

    #[test]
    fn a_packet_that_nobody_counted_opens_the_sum() {
        let console = include_str!("../../testdata/pktgen/guest.txt");
        for (from, to) in [("pkts-sofar: 5000", "pkts-sofar: 5001"), ("\n5000\n", "\n4999\n")] {
            assert!(console.contains(from));
            assert!(!trials(&console.replace(from, to)).unwrap()[0].is_closed(), "{to}");
        }
        assert!(trials("tidegate does not get ready").is_err());
    }
}
