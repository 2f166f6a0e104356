//! The sum of all packets (T17), from what the XDP program, the kernel's sockets and the workers
//! counted. Pure: what was read goes in, the sum comes out.

use crate::admin::report::PacketSum;
use std::collections::BTreeMap;
use tidegate_dataplane::engine::{QueueStatistics, SteeringCounters};
use tidegate_dataplane::stats::{Counter, InterfaceCounters};
use tidegate_dataplane::types::InterfaceSlot;
use tidegate_dataplane::verdict::{DropReason, PassReason, RejectReason};

/// What all stages counted about one interface, since start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InterfaceTotals {
    /// Seen by the XDP program.
    pub received: u64,
    /// Bytes of those.
    pub received_bytes: u64,
    /// Sent to workers by the XDP program.
    pub redirected: u64,
    /// Passed by the XDP program, by `PassReason as usize`.
    pub steered_past: Vec<u64>,
    /// Dropped by the XDP program for a stale worker.
    pub stale: u64,
    /// Lost before the ring: did not fit or no memory.
    pub rx_dropped: u64,
    /// Lost before the ring: it was full.
    pub rx_ring_full: u64,
    /// What the workers decided.
    pub workers: WorkerTotals,
}

/// What the workers counted about one interface; all workers added.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WorkerTotals {
    /// Put on the interface's transmit rings.
    pub transmitted: u64,
    /// Bytes of those.
    pub transmitted_bytes: u64,
    /// Forwarded.
    pub forwarded: u64,
    /// Rejected, by `RejectReason as usize`.
    pub rejected: Vec<u64>,
    /// Given back to the kernel, by `PassReason as usize`.
    pub passed: Vec<u64>,
    /// Dropped, by `DropReason as usize`.
    pub dropped: Vec<u64>,
}

impl WorkerTotals {
    /// Adds one worker's counters.
    pub fn add(&mut self, counters: &InterfaceCounters) {
        self.transmitted += counters.transmitted_packets.get();
        self.transmitted_bytes += counters.transmitted_bytes.get();
        self.forwarded += counters.forwarded_packets.get();
        add_each(&mut self.rejected, counters.rejected_packets.iter().map(Counter::get));
        add_each(&mut self.passed, counters.passed_packets.iter().map(Counter::get));
        add_each(&mut self.dropped, counters.dropped_packets.iter().map(Counter::get));
    }

    fn decided(&self) -> u64 {
        let lists = [&self.rejected, &self.passed, &self.dropped];
        self.forwarded + lists.into_iter().flatten().sum::<u64>()
    }
}

/// All interfaces' totals.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// By slot.
    pub interfaces: BTreeMap<InterfaceSlot, InterfaceTotals>,
    /// Frames of all workers: no more packets than this can be in flight.
    pub frames_total: u64,
    /// What the kernel and the workers counted of each queue.
    pub queues: Vec<QueueStatistics>,
}

impl Ledger {
    /// Adds what the XDP program counted.
    pub fn add_steering(&mut self, counters: &SteeringCounters) {
        let totals = self.interfaces.entry(counters.slot).or_default();
        totals.received += counters.received_packets;
        totals.received_bytes += counters.received_bytes;
        totals.redirected += counters.redirected_packets;
        totals.stale += counters.stale_dropped_packets;
        add_each(&mut totals.steered_past, counters.passed_packets.iter().copied());
    }

    /// Adds what the kernel lost before the ring.
    pub fn add_queue(&mut self, statistics: &QueueStatistics) {
        let totals = self.interfaces.entry(statistics.slot).or_default();
        totals.rx_dropped += statistics.rx_dropped;
        totals.rx_ring_full += statistics.rx_ring_full;
    }

    /// Adds what one worker counted about an interface.
    pub fn add_worker(&mut self, slot: InterfaceSlot, counters: &InterfaceCounters) {
        self.interfaces.entry(slot).or_default().workers.add(counters);
    }

    /// The sum. A packet is in flight once the XDP program sent it on, and until the kernel lost
    /// it or a worker decided; packets in flight lie in frames, so their number is bounded.
    pub fn sum(&self) -> PacketSum {
        let mut sum = PacketSum::default();
        let (mut explained, mut sent_on, mut ended) = (0, 0, 0);
        for totals in self.interfaces.values() {
            let past: u64 = totals.steered_past.iter().sum();
            let lost = totals.rx_dropped + totals.rx_ring_full;
            sum.received += totals.received;
            sum.forwarded += totals.workers.forwarded;
            sum.passed += past + totals.workers.passed.iter().sum::<u64>();
            sum.rejected += totals.workers.rejected.iter().sum::<u64>();
            sum.dropped += totals.stale + lost + totals.workers.dropped.iter().sum::<u64>();
            explained += past + totals.stale + totals.redirected;
            sent_on += totals.redirected;
            ended += lost + totals.workers.decided();
        }
        sum.in_flight = sent_on.saturating_sub(ended).min(self.frames_total);
        let claimed = ended + sum.in_flight;
        sum.unaccounted = sum.received.abs_diff(explained) + sent_on.abs_diff(claimed);
        sum
    }
}

impl InterfaceTotals {
    /// Everything dropped, by reason; the XDP program's and the kernel's part included.
    pub fn dropped_by(&self, reason: DropReason) -> u64 {
        let by_workers = self.workers.dropped.get(reason as usize).copied().unwrap_or_default();
        by_workers
            + match reason {
                DropReason::StaleWorker => self.stale,
                DropReason::XskRxDropped => self.rx_dropped,
                DropReason::XskRxRingFull => self.rx_ring_full,
                _ => 0,
            }
    }

    /// Everything left or given back to the kernel, by reason.
    pub fn passed_by(&self, reason: PassReason) -> u64 {
        let at = |list: &[u64]| list.get(reason as usize).copied().unwrap_or_default();
        at(&self.steered_past) + at(&self.workers.passed)
    }

    /// Everything answered with an ICMP error, by reason.
    pub fn rejected_by(&self, reason: RejectReason) -> u64 {
        self.workers.rejected.get(reason as usize).copied().unwrap_or_default()
    }
}

fn add_each(list: &mut Vec<u64>, values: impl ExactSizeIterator<Item = u64>) {
    list.resize(list.len().max(values.len()), 0);
    for (sum, value) in list.iter_mut().zip(values) {
        *sum += value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What became of packets on one interface, in numbers that add up.
    struct Traffic {
        past: u64,
        stale: u64,
        lost: [u64; 2],
        forwarded: u64,
        rejected: u64,
        passed: u64,
        dropped: u64,
        in_flight: u64,
    }

    impl Traffic {
        fn from_seed(seed: u64) -> Self {
            let part =
                |n: u32| (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(n * 7)) % 1000;
            Self {
                past: part(1),
                stale: part(2),
                lost: [part(3), part(4)],
                forwarded: part(5),
                rejected: part(6),
                passed: part(7),
                dropped: part(8),
                in_flight: part(9) % 64,
            }
        }

        fn record(&self, slot: InterfaceSlot, ledger: &mut Ledger) {
            let [rx_dropped, rx_ring_full] = self.lost;
            let decided = self.forwarded + self.rejected + self.passed + self.dropped;
            let redirected = rx_dropped + rx_ring_full + decided + self.in_flight;
            let mut passed_packets = vec![0; PassReason::COUNT];
            passed_packets[PassReason::NotIp as usize] = self.past;
            ledger.add_steering(&SteeringCounters {
                slot,
                received_packets: self.past + self.stale + redirected,
                redirected_packets: redirected,
                passed_packets,
                stale_dropped_packets: self.stale,
                ..SteeringCounters::default()
            });
            let statistics =
                QueueStatistics { slot, rx_dropped, rx_ring_full, ..Default::default() };
            ledger.add_queue(&statistics);
            let counters = InterfaceCounters::default();
            counters.forwarded_packets.add(self.forwarded);
            counters.rejected_packets[0].add(self.rejected);
            counters.passed_packets[PassReason::FrontGone as usize].add(self.passed);
            counters.dropped_packets[DropReason::Nomem as usize].add(self.dropped);
            ledger.add_worker(slot, &counters);
        }
    }

    fn ledger(seed: u64) -> Ledger {
        let mut ledger = Ledger { frames_total: 4_096, ..Ledger::default() };
        for slot in 1..4 {
            Traffic::from_seed(seed * 3 + u64::from(slot)).record(InterfaceSlot(slot), &mut ledger);
        }
        ledger
    }

    fn total(sum: PacketSum) -> u64 {
        sum.forwarded + sum.passed + sum.rejected + sum.dropped + sum.in_flight
    }

    #[test]
    fn the_sum_closes_for_whatever_happened() {
        for seed in 0..1_000 {
            let sum = ledger(seed).sum();
            assert_eq!((sum.received, sum.unaccounted), (total(sum), 0), "seed {seed}");
        }
    }

    #[test]
    fn every_term_is_counted_once() {
        let mut ledger = Ledger { frames_total: 64, ..Ledger::default() };
        let traffic = Traffic {
            past: 1,
            stale: 2,
            lost: [4, 8],
            forwarded: 16,
            rejected: 32,
            passed: 64,
            dropped: 128,
            in_flight: 3,
        };
        traffic.record(InterfaceSlot(1), &mut ledger);
        let expected = PacketSum {
            received: 258,
            forwarded: 16,
            passed: 65,
            rejected: 32,
            dropped: 142,
            in_flight: 3,
            unaccounted: 0,
        };
        assert_eq!(ledger.sum(), expected);
    }

    #[test]
    fn a_packet_that_vanished_or_was_counted_twice_is_unaccounted() {
        for seed in 0..100 {
            let mut vanished = ledger(seed);
            vanished.interfaces.get_mut(&InterfaceSlot(1)).unwrap().received += 1;
            assert_eq!(vanished.sum().unaccounted, 1, "seed {seed}");
            let mut twice = ledger(seed);
            let in_flight = twice.sum().in_flight;
            twice.interfaces.get_mut(&InterfaceSlot(2)).unwrap().workers.forwarded += in_flight + 5;
            assert_eq!(twice.sum().unaccounted, 5, "seed {seed}");
        }
    }

    #[test]
    fn more_packets_in_flight_than_frames_are_unaccounted() {
        let mut ledger = Ledger { frames_total: 10, ..Ledger::default() };
        let traffic = Traffic { in_flight: 25, ..Traffic::from_seed(1) };
        traffic.record(InterfaceSlot(1), &mut ledger);
        assert_eq!((ledger.sum().in_flight, ledger.sum().unaccounted), (10, 15));
    }

    #[test]
    fn reasons_gather_from_all_three_who_drop() {
        let ledger = ledger(7);
        let by_reason = |totals: &InterfaceTotals| {
            DropReason::ALL.iter().map(|&reason| totals.dropped_by(reason)).sum::<u64>()
        };
        let dropped: u64 = ledger.interfaces.values().map(by_reason).sum();
        assert_eq!(dropped, ledger.sum().dropped);
        let by_reason = |totals: &InterfaceTotals| {
            PassReason::ALL.iter().map(|&reason| totals.passed_by(reason)).sum::<u64>()
        };
        assert_eq!(ledger.interfaces.values().map(by_reason).sum::<u64>(), ledger.sum().passed);
    }

    #[test]
    fn two_workers_add_up() {
        let mut totals = WorkerTotals::default();
        for forwarded in [3, 4] {
            let counters = InterfaceCounters::default();
            counters.forwarded_packets.add(forwarded);
            counters.transmitted_packets.add(1);
            totals.add(&counters);
        }
        assert_eq!((totals.forwarded, totals.transmitted), (7, 2));
    }
}
