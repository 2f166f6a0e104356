//! Where packets ended that were not forwarded, and the sum.

use crate::admin::report::{DropsReport, ReasonReport};
use crate::daemon::accounting::{InterfaceTotals, Ledger};
use crate::daemon::control::Control;
use crate::daemon::meter::Series;
use crate::daemon::report::counters::ledger;
use std::cmp::Reverse;
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
        rows.sort_by_key(|row| Reverse(row.packets));
        rows
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
