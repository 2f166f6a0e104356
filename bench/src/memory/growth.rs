//! How the cost of a packet grows with the cluster, and with the workers.

use super::bed::{Plan, TURNS, Way, front_end, per_packet};
use super::frames::{Frames, Packets};
use super::hits::Case;
use super::rows::{Row, Series};
use std::sync::Arc;
use std::time::Instant;
use tidegate_dataplane::affinity::AffinityTable;
use tidegate_dataplane::datagrams::DatagramTable;
use tidegate_dataplane::flow_table::OwnerDirectory;
use tidegate_dataplane::pipeline::{BURST_FRAMES_MAX, Packet, Pipeline};
use tidegate_dataplane::snapshot::Snapshot;
use tidegate_dataplane::types::{Time, WorkerId};
use tidegate_dataplane::verdict::Verdict;

/// Live flows, wherever those are not what grows.
const FLOWS: u32 = 10_000;

/// Room for the new flows of all turns.
const NEW_FLOWS: u32 = 1 << 18;

const SERVICES: [u32; 6] = [1, 10, 100, 1_000, 10_000, 100_000];
const BACKENDS: [u16; 5] = [1, 10, 100, 1_000, 10_000];
const WORKERS: [u8; 5] = [1, 2, 4, 8, 16];

/// Packets per turn of the workers' row.
const PACKETS: u32 = 200_000;

/// Runs all of it.
pub(super) fn run() -> Vec<Series> {
    let services = SERVICES.map(|services| Plan { services, ..Plan::of(FLOWS) });
    let backends = BACKENDS.map(|backends| Plan { backends, ..Plan::of(FLOWS) });
    let mut series = Vec::new();
    series.extend(over("services", &services, |plan| plan.services));
    series.extend(over("backends", &backends, |plan| plan.backends.into()));
    series.push(over_workers());
    series
}

/// Packets of live and of new flows, under each of these plans.
fn over(against: &'static str, plans: &[Plan], x: impl Fn(&Plan) -> u32) -> [Series; 2] {
    let series = |name| Series::new(name, against, "ns/packet");
    let [mut live, mut new] = ["established", "new flow"].map(series);
    for plan in plans {
        live.points.push((x(plan), Case::live("", *plan).measure().ns_per_packet));
        let room = Plan { flows: NEW_FLOWS, ..*plan };
        new.points.push((x(plan), Case::beginning("", room).measure().ns_per_packet));
    }
    [live, new]
}

/// Packets that come to any worker, whoever has their flow: with two workers every second one is
/// handed over and goes through a packet path twice. The ring between the workers and the copy of
/// the frame are not in it; the writing of the headers is.
fn over_workers() -> Series {
    let mut series = Series::new("established, hand-off included", "queues", "ns/packet");
    for count in WORKERS {
        let mut workers = Workers::new(count);
        let order: Vec<u32> = (0..PACKETS).map(|n| n * 7 % FLOWS).collect();
        workers.timed(&order);
        let row = Row::of("", FLOWS, (0..TURNS).map(|_| workers.timed(&order)).collect::<Vec<_>>());
        series.points.push((count.into(), row.ns_per_packet));
    }
    series
}

/// Several packet paths that share what workers share.
struct Workers {
    pipelines: Vec<Pipeline>,
    snapshot: Snapshot,
    frames: Frames,
    now: Time,
}

impl Workers {
    fn new(count: u8) -> Self {
        let plan = Plan::of(FLOWS);
        let (fixture, directory) = (plan.fixture(), Arc::new(OwnerDirectory::with_capacity(FLOWS)));
        let affinity = Arc::new(AffinityTable::with_capacity(1024));
        let datagrams = Arc::new(DatagramTable::with_capacity(64));
        let pipeline = |worker| {
            let shared = (Arc::clone(&affinity), Arc::clone(&datagrams));
            fixture.pipeline_sharing(worker, Some(Arc::clone(&directory)), shared)
        };
        Self {
            pipelines: (0..count).map(pipeline).collect(),
            snapshot: plan.snapshot(),
            frames: Frames::new(plan.family),
            now: Time(1_000_000_000),
        }
    }

    /// Nanoseconds per packet; each burst comes to the next worker.
    fn timed(&mut self, order: &[u32]) -> f64 {
        let start = Instant::now();
        for (at, numbers) in order.chunks(BURST_FRAMES_MAX).enumerate() {
            self.burst(at % self.pipelines.len(), numbers);
        }
        per_packet(start, order.len())
    }

    fn burst(&mut self, first: usize, numbers: &[u32]) {
        self.frames.write(Way::Forward, numbers, |_| front_end(0));
        let mut packets = self.frames.packets(Way::Forward);
        packets.truncate(numbers.len());
        decide(&mut self.pipelines[first], &mut packets, &self.snapshot, self.now);
        for (owner, pipeline) in (0..).map(WorkerId).zip(&mut self.pipelines) {
            let handed = packets.iter_mut().filter(|p| p.verdict == Verdict::HandOff(owner));
            let mut handed: Packets<'_> = handed
                .map(|packet| Packet {
                    is_handed: true,
                    ..Packet::new(&mut *packet.buffer, packet.len, packet.ingress)
                })
                .collect();
            if !handed.is_empty() {
                decide(pipeline, &mut handed, &self.snapshot, self.now);
            }
        }
    }
}

fn decide(pipeline: &mut Pipeline, packets: &mut [Packet<'_>], snapshot: &Snapshot, now: Time) {
    pipeline.process(packets, snapshot, now);
    pipeline.flows.changes_mut().begun.clear();
}
