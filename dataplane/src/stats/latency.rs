//! Latency histograms of one worker (T16): recorded without allocation, handed over whole.

use crossbeam::queue::ArrayQueue;
use hdrhistogram::Histogram;
use std::sync::Arc;

/// Lowest and highest recorded value in nanoseconds; slower packets count as the highest. One
/// second: a packet that waited longer was forwarded to nobody.
const LOWEST_NS: u64 = 1;
const HIGHEST_NS: u64 = 1_000_000_000;

/// Two digits: within 1 % of the true value, 23 KiB a histogram.
const SIGNIFICANT_DIGITS: u8 = 2;

/// The parts of a packet's stay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// XDP program's stamp to the worker's read.
    QueueWait,
    /// The worker's read to the transmit ring.
    Forwarding,
    /// Stamp to transmit ring.
    Total,
}

impl Stage {
    /// All stages.
    pub const ALL: &[Self] = &[Self::QueueWait, Self::Forwarding, Self::Total];

    /// The words for tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::QueueWait => "queue wait",
            Self::Forwarding => "forwarding",
            Self::Total => "total",
        }
    }
}

/// Which part of a flow a packet is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Traffic {
    /// The first packet of a flow: a backend was chosen for it.
    NewFlow,
    /// From the client, along a flow that lives.
    Established,
    /// From the backend.
    Reply,
}

impl Traffic {
    /// All kinds.
    pub const ALL: &[Self] = &[Self::NewFlow, Self::Established, Self::Reply];

    /// The words for tables and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NewFlow => "new flow",
            Self::Established => "established",
            Self::Reply => "reply",
        }
    }
}

/// One histogram per kind and stage, nanoseconds.
#[derive(Debug, Clone)]
pub struct LatencySet([[Histogram<u64>; Stage::ALL.len()]; Traffic::ALL.len()]);

impl Default for LatencySet {
    fn default() -> Self {
        let stages = |_| core::array::from_fn(|_| empty_histogram());
        Self(core::array::from_fn(stages))
    }
}

impl LatencySet {
    /// The histogram of a stage for packets of a kind.
    pub fn of(&self, traffic: Traffic, stage: Stage) -> &Histogram<u64> {
        &self.0[traffic as usize][stage as usize]
    }

    /// The same, to add to.
    pub fn of_mut(&mut self, traffic: Traffic, stage: Stage) -> &mut Histogram<u64> {
        &mut self.0[traffic as usize][stage as usize]
    }

    /// The histogram of a stage for all packets.
    pub fn stage(&self, stage: Stage) -> Histogram<u64> {
        let mut all = empty_histogram();
        for traffic in Traffic::ALL {
            // Equal bounds by construction: `add` cannot fail.
            all.add(self.of(*traffic, stage)).ok();
        }
        all
    }

    /// Adds another set's counts.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().flatten().zip(other.0.iter().flatten()) {
            // As above.
            mine.add(theirs).ok();
        }
    }
}

/// A histogram with the bounds of all of ours.
pub fn empty_histogram() -> Histogram<u64> {
    let bounds = Histogram::new_with_bounds(LOWEST_NS, HIGHEST_NS, SIGNIFICANT_DIGITS);
    bounds.unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// The two rings by which sets travel: empty ones to the worker, full ones back.
#[derive(Debug)]
pub struct LatencyExchange {
    empty: ArrayQueue<Box<LatencySet>>,
    full: ArrayQueue<Box<LatencySet>>,
}

impl LatencyExchange {
    fn new() -> Self {
        Self { empty: ArrayQueue::new(1), full: ArrayQueue::new(1) }
    }

    /// Asks the worker for its set. Control side; at most one request is under way.
    pub fn ask(&self) {
        if self.full.is_empty() && self.empty.is_empty() {
            self.empty.push(Box::default()).ok();
        }
    }

    /// The worker's answer, once it has come: all that it recorded since the answer before.
    pub fn answer(&self) -> Option<Box<LatencySet>> {
        self.full.pop()
    }
}

/// The worker's side.
#[derive(Debug)]
pub struct LatencyRecorder {
    set: Box<LatencySet>,
    exchange: Arc<LatencyExchange>,
}

impl Default for LatencyRecorder {
    fn default() -> Self {
        Self { set: Box::default(), exchange: Arc::new(LatencyExchange::new()) }
    }
}

impl LatencyRecorder {
    /// The control side's end.
    pub fn exchange(&self) -> Arc<LatencyExchange> {
        Arc::clone(&self.exchange)
    }

    /// Records one value.
    #[inline]
    pub fn record(&mut self, traffic: Traffic, stage: Stage, ns: u64) {
        self.set.of_mut(traffic, stage).saturating_record(ns);
    }

    /// Hands the set over if the control side has asked. No allocation, no wait.
    #[inline]
    pub fn hand_over(&mut self) {
        if self.exchange.empty.is_empty() || self.exchange.full.is_full() {
            return;
        }
        if let Some(mut empty) = self.exchange.empty.pop() {
            core::mem::swap(&mut self.set, &mut empty);
            // Load-bearing: only this worker pushes, and the ring had room above.
            drop(self.exchange.full.push(empty));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_handed_over_once() {
        let mut recorder = LatencyRecorder::default();
        let exchange = recorder.exchange();
        recorder.record(Traffic::NewFlow, Stage::Total, 1_000);
        recorder.record(Traffic::Reply, Stage::Total, u64::MAX);
        recorder.hand_over();
        assert!(exchange.answer().is_none(), "nobody asked");
        exchange.ask();
        recorder.hand_over();
        let set = exchange.answer().unwrap();
        assert_eq!(set.stage(Stage::Total).len(), 2);
        let of = |traffic| set.of(traffic, Stage::Total).len();
        assert_eq!(Traffic::ALL.iter().map(|t| of(*t)).collect::<Vec<_>>(), [1, 0, 1]);
        exchange.ask();
        recorder.hand_over();
        assert!(exchange.answer().unwrap().stage(Stage::Total).is_empty());
    }
}
