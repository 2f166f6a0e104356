//! Where packets ended that were not forwarded, and the sum.

use crate::admin::report::{DropsReport, ReasonReport};
use crate::daemon::accounting::{InterfaceTotals, Ledger};
use crate::daemon::control::Control;
use crate::daemon::meter::Series;
use crate::daemon::report::counters::ledger;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::time::Instant;
use tidegate_dataplane::types::InterfaceSlot;
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// All reasons that occurred, the most frequent first, and the sum.
pub(crate) fn drops(control: &Control) -> DropsReport {
    let ledger = ledger(control);
    let reasons = Reasons { control, ledger: &ledger, now: Instant::now() };
    DropsReport {
        dropped: reasons.of(DropReason::ALL, InterfaceTotals::dropped_by, Series::Dropped),
        rejected: reasons.of(RejectReason::ALL, InterfaceTotals::rejected_by, Series::Rejected),
        passed: reasons.of(PassReason::ALL, InterfaceTotals::passed_by, Series::Passed),
        sum: ledger.sum(),
    }
}

/// What the three kinds of reasons have in common.
trait Reason: Copy {
    fn words(self) -> [&'static str; 4];
}

macro_rules! reason {
    ($($kind:ty),+) => {$(
        impl Reason for $kind {
            fn words(self) -> [&'static str; 4] {
                [self.name(), self.stage(), self.kind().name(), self.next_step()]
            }
        }
    )+};
}
reason!(DropReason, RejectReason, PassReason);

struct Reasons<'a> {
    control: &'a Control,
    ledger: &'a Ledger,
    now: Instant,
}

impl Reasons<'_> {
    fn of<R: Reason>(
        &self,
        all: &[R],
        count: fn(&InterfaceTotals, R) -> u64,
        series: fn(InterfaceSlot, R) -> Series,
    ) -> Vec<ReasonReport> {
        let mut rows = Vec::new();
        for (slot, totals) in &self.ledger.interfaces {
            for reason in all {
                match count(totals, *reason) {
                    0 => {}
                    packets => {
                        rows.push(self.row(*slot, *reason, packets, series(*slot, *reason)));
                    }
                }
            }
        }
        merge(rows)
    }

    fn row<R: Reason>(
        &self,
        slot: InterfaceSlot,
        reason: R,
        packets: u64,
        series: Series,
    ) -> ReasonReport {
        let [name, stage, kind, next_step] = reason.words();
        let interface = self.control.attachments.names().get(&slot);
        ReasonReport {
            reason: name.to_owned(),
            stage: stage.to_owned(),
            kind: kind.to_owned(),
            packets,
            per_second: self.control.meter.rate(series),
            last_seconds: self.control.meter.seconds_since_change(series, self.now),
            interface: interface.cloned().unwrap_or_else(|| format!("slot {}", slot.0)),
            next_step: next_step.to_owned(),
        }
    }
}

/// One row per reason and interface name, the most frequent first. An interface that went and came
/// back has had several slots.
fn merge(rows: Vec<ReasonReport>) -> Vec<ReasonReport> {
    let mut merged = BTreeMap::<(String, String), ReasonReport>::new();
    for row in rows {
        match merged.entry((row.reason.clone(), row.interface.clone())) {
            Entry::Vacant(vacant) => {
                vacant.insert(row);
            }
            Entry::Occupied(occupied) => {
                let sum = occupied.into_mut();
                sum.packets += row.packets;
                sum.per_second += row.per_second;
                sum.last_seconds = match (sum.last_seconds, row.last_seconds) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
            }
        }
    }
    let mut rows: Vec<_> = merged.into_values().collect();
    rows.sort_by_key(|row| Reverse(row.packets));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(reason: &str, interface: &str, packets: u64, last: Option<u64>) -> ReasonReport {
        ReasonReport {
            reason: reason.into(),
            stage: "service".into(),
            kind: "config".into(),
            packets,
            per_second: 1.5,
            last_seconds: last,
            interface: interface.into(),
            next_step: "nothing".into(),
        }
    }

    #[test]
    fn an_interface_that_came_back_has_one_row_per_reason() {
        let rows = vec![
            row("A", "eth0", 1, Some(9)),
            row("B", "eth0", 5, None),
            row("A", "eth0", 2, Some(4)),
            row("A", "eth1", 9, None),
            row("B", "eth0", 1, Some(7)),
        ];
        let merged = merge(rows);
        let seen: Vec<_> = merged
            .iter()
            .map(|r| (r.reason.as_str(), r.interface.as_str(), r.packets, r.last_seconds))
            .collect();
        let expected =
            [("A", "eth1", 9, None), ("B", "eth0", 6, Some(7)), ("A", "eth0", 3, Some(4))];
        assert_eq!(seen, expected);
        assert!((merged[1].per_second - 3.0).abs() < 1e-9);
    }
}
