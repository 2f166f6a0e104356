//! What a packet costs: of a live flow, of a new one, part by part.

use super::bed::{Bed, Plan, TURNS, Until, Way};
use super::rows::Row;
use tidegate_dataplane::pipeline::BURST_FRAMES_MAX;
use tidegate_dataplane::random::Random;
use tidegate_dataplane::testing::Family;

/// Packets per turn, where flows are visited in a random order: where they are many, every packet
/// misses the caches.
const PACKETS: usize = 1 << 20;

/// New flows per turn; all turns' must find room.
const NEW_FLOWS: u32 = 200_000;

/// Bursts of a run whose instructions are counted.
const COUNTED_BURSTS: usize = 200;

/// A cost that is measured.
#[derive(Debug, Clone)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) plan: Plan,
    pub(super) way: Way,
    /// Each packet begins a flow, as under a storm of new connections.
    pub(super) is_new: bool,
    /// Which part of the packet path: what the second costs more than the first.
    pub(super) part: (Until, Until),
}

impl Case {
    /// Packets of live flows, along the whole path.
    pub(super) const fn live(name: &'static str, plan: Plan) -> Self {
        let part = (Until::Written, Until::Decided);
        Self { name, plan, way: Way::Forward, is_new: false, part }
    }

    const fn v6(mut self) -> Self {
        self.plan.family = Family::V6;
        self
    }

    const fn replies(mut self) -> Self {
        self.way = Way::Reply;
        self
    }

    const fn of_part(mut self, from: Until, to: Until) -> Self {
        self.part = (from, to);
        self
    }

    /// Packets that begin flows.
    pub(super) const fn beginning(name: &'static str, plan: Plan) -> Self {
        Self { is_new: true, ..Self::live(name, plan) }
    }

    /// Runs it.
    pub(super) fn measure(&self) -> Row {
        let mut bed = self.bed();
        let (from, to) = self.part;
        let turn = |turn| {
            let order = self.order(turn, PACKETS);
            let less = bed.timed(self.way, &order, from);
            bed.timed(self.way, &order, to) - less
        };
        Row::of(self.name, self.plan.flows, (0..TURNS).map(turn).collect::<Vec<_>>())
    }

    /// Runs a little of it up to a point, for somebody who counts instructions. Returns how many
    /// packets that were.
    pub(super) fn work(&self, until: Until) -> usize {
        let order = self.order(0, COUNTED_BURSTS * BURST_FRAMES_MAX);
        let order = &order[..COUNTED_BURSTS * BURST_FRAMES_MAX];
        self.bed().run(self.way, order, until);
        order.len()
    }

    fn bed(&self) -> Bed {
        if self.is_new { Bed::new(self.plan) } else { Bed::full(self.plan) }
    }

    /// The flows of a turn's packets.
    fn order(&self, turn: usize, packets: usize) -> Vec<u32> {
        if self.is_new {
            let first = u32::try_from(turn).unwrap_or(0) * self.new_per_turn();
            return (first..first + self.new_per_turn()).collect();
        }
        let mut random = Random::new(turn as u64 + 1);
        (0..packets).map(|_| random.below(self.plan.flows)).collect()
    }

    fn new_per_turn(&self) -> u32 {
        NEW_FLOWS.min(self.plan.flows / 10)
    }
}

/// Everything that gets a row of its own.
pub(super) fn cases() -> Vec<Case> {
    let live = [1, 1_000, 10_000, 100_000, 1_000_000, 10_000_000];
    let mut cases: Vec<Case> = live.map(|flows| Case::live("established", Plan::of(flows))).into();
    for flows in [10_000, 1_000_000] {
        let plan = Plan::of(flows);
        cases.push(Case::live("established, IPv6", plan).v6());
        cases.push(Case::live("reply", plan).replies());
        cases.push(Case::live("reply, IPv6", plan).v6().replies());
        cases.extend(parts(flows));
    }
    cases.push(Case::beginning("new flow", Plan::of(1 << 21)));
    cases.push(Case::beginning("new flow, IPv6", Plan::of(1 << 21)).v6());
    cases
}

/// The whole path, part by part.
fn parts(flows: u32) -> [Case; 4] {
    [
        ("part: parse", Until::Written, Until::Parsed),
        ("part: hash, bucket", Until::Parsed, Until::Hashed),
        ("part: find the entry", Until::Hashed, Until::Found),
        ("part: check, track, rewrite, sum, count", Until::Found, Until::Decided),
    ]
    .map(|(name, from, to)| Case::live(name, Plan::of(flows)).of_part(from, to))
}
