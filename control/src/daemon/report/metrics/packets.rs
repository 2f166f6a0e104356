//! What became of packets, by interface: the terms of the sum.

use crate::daemon::accounting::{InterfaceTotals, Ledger};
use crate::metrics::family::{Family, Label};
use std::collections::BTreeMap;
use tidegate_dataplane::types::InterfaceSlot;
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// Interfaces by name. One that went and came back has had several slots.
type ByName<'a> = BTreeMap<&'a str, Vec<&'a InterfaceTotals>>;

pub(super) fn families(ledger: &Ledger, names: &BTreeMap<InterfaceSlot, String>) -> Vec<Family> {
    let mut by_name = ByName::new();
    for (slot, totals) in &ledger.interfaces {
        // A slot without a name was never attached and has counted nothing.
        if let Some(name) = names.get(slot) {
            by_name.entry(name).or_default().push(totals);
        }
    }
    let mut families = totals(&by_name);
    families.extend(reasons(&by_name));
    let unaccounted = Family::counter(
        "tidegate_unaccounted_packets",
        "Packets that no term of the sum explains, or that two terms claim; not zero is a bug.",
    );
    families.push(unaccounted.with(ledger.sum().unaccounted));
    families
}

fn totals(by_name: &ByName<'_>) -> Vec<Family> {
    type Read = fn(&InterfaceTotals) -> u64;
    let told: [(&str, &str, Read); 5] = [
        ("tidegate_received_packets", "Packets that the XDP program saw.", |t| t.received),
        ("tidegate_received_bytes", "Bytes that the XDP program saw.", |t| t.received_bytes),
        ("tidegate_transmitted_packets", "Packets put on transmit rings.", |t| {
            t.workers.transmitted
        }),
        ("tidegate_transmitted_bytes", "Bytes put on transmit rings.", |t| {
            t.workers.transmitted_bytes
        }),
        (
            "tidegate_forwarded_packets",
            "Packets that were rewritten and sent on, by the interface that they came in by.",
            |t| t.workers.forwarded,
        ),
    ];
    let family = |(name, help, read): (&'static str, &'static str, Read)| {
        let mut family = Family::counter(name, help);
        for (interface, slots) in by_name {
            let sum = slots.iter().map(|totals| read(totals)).sum();
            family.push([("interface", label(interface))], sum);
        }
        family
    };
    told.into_iter().map(family).collect()
}

fn label(interface: &str) -> Label {
    interface.to_owned().into()
}

/// Only reasons that occurred: all of them on every interface would be thousands of zeroes.
fn reasons(by_name: &ByName<'_>) -> [Family; 3] {
    let mut passed = Family::counter(
        "tidegate_passed_packets",
        "Packets that were left to, or given back to, the kernel.",
    );
    let mut rejected = Family::counter(
        "tidegate_rejected_packets",
        "Packets that were answered with an ICMP error.",
    );
    let mut dropped = Family::counter(
        "tidegate_dropped_packets",
        "Packets that were dropped; tidegate explain-drop tells what a reason means.",
    );
    for (interface, slots) in by_name {
        let sum = |count: &dyn Fn(&InterfaceTotals) -> u64| -> u64 {
            slots.iter().map(|totals| count(totals)).sum()
        };
        for reason in PassReason::ALL {
            let labels = [("interface", label(interface)), ("reason", reason.name().into())];
            push_met(&mut passed, labels, sum(&|totals| totals.passed_by(*reason)));
        }
        for reason in RejectReason::ALL {
            let labels = [("interface", label(interface)), ("reason", reason.name().into())];
            push_met(&mut rejected, labels, sum(&|totals| totals.rejected_by(*reason)));
        }
        for reason in DropReason::ALL {
            let labels = [
                ("interface", label(interface)),
                ("stage", reason.stage().into()),
                ("reason", reason.name().into()),
            ];
            push_met(&mut dropped, labels, sum(&|totals| totals.dropped_by(*reason)));
        }
    }
    [passed, rejected, dropped]
}

fn push_met<const N: usize>(family: &mut Family, labels: [(&'static str, Label); N], count: u64) {
    if count > 0 {
        family.push(labels, count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::exposition::{Form, write};

    #[test]
    fn an_interface_that_came_back_is_one_series_and_only_met_reasons_are_told() {
        let mut dropped = vec![0; DropReason::COUNT];
        dropped[DropReason::FlowTableFull as usize] = 2;
        let totals = |received| {
            let mut totals = InterfaceTotals { received, ..InterfaceTotals::default() };
            totals.workers.dropped.clone_from(&dropped);
            totals
        };
        let slots = [InterfaceSlot(1), InterfaceSlot(2), InterfaceSlot(3)];
        let interfaces = slots.into_iter().zip([totals(5), totals(7), totals(1)]).collect();
        let ledger = Ledger { interfaces, ..Ledger::default() };
        let names = ["eth0", "eth0", "eth1"].map(str::to_owned);
        let families = families(&ledger, &slots.into_iter().zip(names).collect());
        let text = String::from_utf8(write(families, Form::Classic, false).unwrap()).unwrap();
        for line in [
            "tidegate_received_packets_total{interface=\"eth0\"} 12",
            "tidegate_received_packets_total{interface=\"eth1\"} 1",
            "tidegate_dropped_packets_total{interface=\"eth0\",stage=\"flow\",reason=\
             \"FLOW_TABLE_FULL\"} 4",
            "tidegate_unaccounted_packets_total 19",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is missing in:\n{text}");
        }
        assert_eq!(text.matches("reason=").count(), 2, "{text}");
    }
}
