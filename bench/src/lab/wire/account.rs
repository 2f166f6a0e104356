//! What arrived: each packet once, in its flow's order, and how long after its intended time.

use super::frame::Stamp;
use hdrhistogram::Histogram;
use serde::Serialize;
use tidegate_dataplane::stats::latency::empty_histogram;

/// Packets behind a flow's newest among which a second copy is told from a late first one.
const WINDOW: u32 = 64;

/// Counts of arrivals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Arrivals {
    /// Packets, each counted once.
    pub(crate) packets: u64,
    /// Of these, such as came after a later one of their flow (RFC 4737 section 3.3).
    pub(crate) reordered: u64,
    /// Further copies. More than 64 packets behind the newest a copy counts as reordered.
    pub(crate) duplicates: u64,
    /// Packets of an earlier load; not in the other counts.
    pub(crate) stale: u64,
    /// Packets that their flow's order shows to be missing: fewer than are lost, since nothing
    /// follows a flow's last.
    pub(crate) gaps: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Flow {
    is_known: bool,
    newest: u32,
    /// Bit `n`: packet `newest - n` came.
    seen: u64,
}

/// The books of one load.
#[derive(Debug)]
pub(crate) struct Account {
    flows: Vec<Flow>,
    /// Packets meant to go earlier belong to an earlier load.
    since_ns: u64,
    pub(crate) arrivals: Arrivals,
    /// Arrival minus intended send time, nanoseconds.
    pub(crate) latency: Histogram<u64>,
}

impl Account {
    /// Books of `flows` flows and of those that SYNs open.
    pub(crate) fn new(flows: u32) -> Self {
        Self {
            flows: vec![Flow::default(); flows as usize + 1],
            since_ns: 0,
            arrivals: Arrivals::default(),
            latency: empty_histogram(),
        }
    }

    /// Begins anew: what was meant to go before `since_ns` is stale from now on.
    pub(crate) fn reset(&mut self, since_ns: u64) {
        self.flows.fill(Flow::default());
        self.since_ns = since_ns;
        self.arrivals = Arrivals::default();
        self.latency.reset();
    }

    /// Enters a packet that was there at `now_ns`.
    #[inline]
    pub(crate) fn enter(&mut self, stamp: &Stamp, now_ns: u64) {
        // A generator with more flows than we were told of: its last slot takes them.
        let last = self.flows.len() - 1;
        let flow = &mut self.flows[last.min(stamp.flow as usize)];
        if stamp.due_ns < self.since_ns {
            self.arrivals.stale += 1;
            return;
        }
        let ahead = stamp.sequence.wrapping_sub(flow.newest).cast_signed();
        if !flow.is_known {
            *flow = Flow { is_known: true, newest: stamp.sequence, seen: 1 };
        } else if ahead > 0 {
            let step = ahead.unsigned_abs();
            flow.seen = if step < WINDOW { flow.seen << step | 1 } else { 1 };
            flow.newest = stamp.sequence;
            self.arrivals.gaps += u64::from(step) - 1;
        } else {
            let bit = 1u64.checked_shl(ahead.unsigned_abs()).unwrap_or(0);
            if flow.seen & bit != 0 {
                self.arrivals.duplicates += 1;
                return;
            }
            flow.seen |= bit;
            self.arrivals.reordered += 1;
            self.arrivals.gaps = self.arrivals.gaps.saturating_sub(1);
        }
        self.arrivals.packets += 1;
        self.latency.saturating_record(now_ns.saturating_sub(stamp.due_ns));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn books(arrivals: &[(u32, u32)]) -> Account {
        let mut account = Account::new(2);
        account.reset(100);
        for &(flow, sequence) in arrivals {
            account.enter(&Stamp { flow, sequence, due_ns: 1_000 }, 3_000);
        }
        account
    }

    fn counts(arrivals: &[(u32, u32)]) -> [u64; 4] {
        let Arrivals { packets, reordered, duplicates, gaps, .. } = books(arrivals).arrivals;
        [packets, reordered, duplicates, gaps]
    }

    #[test]
    fn packets_in_order_of_their_flow_are_just_counted() {
        assert_eq!(counts(&[(0, 7), (1, 3), (0, 8), (1, 4), (0, 9)]), [5, 0, 0, 0]);
        assert_eq!(counts(&[(0, u32::MAX), (0, 0), (0, 1)]), [3, 0, 0, 0], "numbers wrap");
    }

    #[test]
    fn lost_late_and_doubled_packets_are_told_apart() {
        assert_eq!(counts(&[(0, 1), (0, 4)]), [2, 0, 0, 2], "2 and 3 are lost");
        assert_eq!(counts(&[(0, 1), (0, 3), (0, 2), (0, 4)]), [4, 1, 0, 0], "2 is late");
        assert_eq!(counts(&[(0, 1), (0, 2), (0, 2), (0, 1)]), [2, 0, 2, 0], "two copies");
        assert_eq!(counts(&[(0, 1), (0, 100), (0, 2)]), [3, 1, 0, 97], "late beyond the window");
        assert_eq!(counts(&[(0, 1), (1, 9), (0, 1), (7, 5), (2, 5)]), [3, 0, 2, 0], "slots");
    }

    #[test]
    fn latency_counts_from_the_intended_time_and_old_packets_do_not_count() {
        let mut account = books(&[(0, 1)]);
        account.enter(&Stamp { flow: 0, sequence: 0, due_ns: 99 }, 3_000);
        assert_eq!((account.arrivals.packets, account.arrivals.stale), (1, 1));
        assert_eq!(account.latency.len(), 1);
        assert!((1_980..=2_020).contains(&account.latency.max()), "{}", account.latency.max());
        account.reset(5_000);
        assert_eq!((account.arrivals, account.latency.len()), (Arrivals::default(), 0));
        account.enter(&Stamp { flow: 0, sequence: 1, due_ns: 5_000 }, 5_001);
        assert_eq!(account.arrivals.packets, 1, "no duplicate of the load before");
    }
}
